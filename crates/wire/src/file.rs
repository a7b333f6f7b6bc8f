//! Files (contract 72).

use freehold_base::{FileId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::decode::echo;

/// Characters of a file name.
const MAX_FILENAME: usize = 255;
/// Bytes of a media type.
const MAX_MIME: usize = 255;
/// Seconds a file may be kept at least and at most, when a time is given.
pub const EXPIRES_IN_SECONDS: (u64, u64) = (3_600, 7_776_000);

/// The constant `file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileTag {
    /// `file`.
    #[default]
    File,
}

/// A file as shown; every key is always present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Always `file`.
    pub r#type: FileTag,
    /// `file_…`.
    pub id: FileId,
    /// Last component of the uploaded name.
    pub filename: String,
    /// Media type.
    pub mime_type: String,
    /// Bytes.
    pub size_bytes: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// True for what sessions made, false for uploads.
    pub downloadable: bool,
    /// When its content goes.
    pub expires_at: Option<Timestamp>,
    /// The session it belongs to; null for uploads.
    pub scope: Option<FileScope>,
}

/// `{"type":"session","id"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FileScope {
    /// Belongs to a session and goes with it.
    Session {
        /// Which.
        id: SessionId,
    },
}

/// The name a file is stored under: the last component of the name the part was sent with;
/// `unnamed` and the extension of its media type when there is none.
///
/// # Errors
/// 400 for a name that is too long or holds a character some file system forbids.
pub fn filename(sent: Option<&str>, mime_type: &str) -> Result<String, ApiError> {
    let name = sent
        .unwrap_or_default()
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default();
    if name.is_empty() {
        return Ok(format!("unnamed{}", extension(mime_type)));
    }
    let refuse = |why: &str| {
        Err(ApiError::invalid(format!(
            "file: filename '{}' {why}",
            echo(name)
        )))
    };
    if MAX_FILENAME < name.chars().count() {
        return refuse("should have at most 255 characters");
    }
    // U+007F and the C1 block are refused with U+0000 to U+001F: they corrupt terminals and headers.
    if name
        .chars()
        .any(|c| c.is_control() || "<>:\"|?*\\/".contains(c))
    {
        return refuse("should not contain any of < > : \" | ? * \\ / or control characters");
    }
    if matches!(name, "." | "..") {
        return refuse("is not a file name");
    }
    Ok(name.to_owned())
}

/// Reads the form field `expires_in_seconds`.
///
/// # Errors
/// 400 when it is no integer within [`EXPIRES_IN_SECONDS`].
pub fn expires_in_seconds(text: &str) -> Result<u64, ApiError> {
    let (min, max) = EXPIRES_IN_SECONDS;
    text.trim()
        .parse()
        .ok()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| {
            ApiError::invalid(format!(
                "expires_in_seconds: Input should be an integer from {min} to {max}"
            ))
        })
}

/// The media type of an upload: what its part says if that is a media type, else what its name
/// suggests.
pub fn mime_type(sent: Option<&str>, filename: &str) -> String {
    let is_token = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&c))
    };
    let essence = |sent: &str| {
        let essence = sent.split(';').next().unwrap_or_default().trim();
        let (kind, subtype) = essence.split_once('/')?;
        (sent.len() <= MAX_MIME && is_token(kind) && is_token(subtype))
            .then(|| essence.to_ascii_lowercase())
    };
    let extension = filename
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    sent.and_then(essence)
        .or_else(|| {
            let extension = extension?;
            TYPES
                .iter()
                .find(|(_, e)| *e == extension)
                .map(|(mime, _)| (*mime).to_owned())
        })
        .unwrap_or_else(|| "application/octet-stream".to_owned())
}

fn extension(mime_type: &str) -> String {
    let essence = mime_type.split(';').next().unwrap_or_default().trim();
    TYPES
        .iter()
        .find(|(mime, _)| mime.eq_ignore_ascii_case(essence))
        .map(|(_, extension)| format!(".{extension}"))
        .unwrap_or_default()
}

/// Media types and the extension each is saved with; the first entry of a type is its own.
const TYPES: &[(&str, &str)] = &[
    ("text/plain", "txt"),
    ("text/plain", "log"),
    ("text/csv", "csv"),
    ("text/markdown", "md"),
    ("text/html", "html"),
    ("text/css", "css"),
    ("text/javascript", "js"),
    ("text/x-python", "py"),
    ("application/json", "json"),
    ("application/xml", "xml"),
    ("application/yaml", "yaml"),
    ("application/pdf", "pdf"),
    ("application/zip", "zip"),
    ("application/gzip", "gz"),
    ("application/x-tar", "tar"),
    (
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "docx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "xlsx",
    ),
    (
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "pptx",
    ),
    ("image/png", "png"),
    ("image/jpeg", "jpg"),
    ("image/jpeg", "jpeg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
    ("image/svg+xml", "svg"),
];
