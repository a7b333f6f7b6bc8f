//! Files an agent left in its session's outputs folder (contract 72 §5). Names and paths come from
//! inside the sandbox and are hostile.

use freehold_base::{FileId, SessionId};

use crate::backend::{Tx, one, params};
use crate::blob::same_content;
use crate::files::{COLUMNS, FileRow, file, insert};
use crate::{Store, StoreError};

/// Outputs kept for one session; a path seen before replaces its file and does not count again.
const MAX_OUTPUTS: i64 = 10_000;
/// Bytes of an output's path, as Linux bounds them.
const MAX_PATH: usize = 4096;
/// Bytes of a file's name (contract 72 §3).
const MAX_FILENAME: usize = 255;

/// A new or changed output.
#[derive(Debug, Clone)]
pub struct NewOutput {
    /// The session.
    pub session: SessionId,
    /// Relative to the outputs folder, `/`-separated.
    pub path: String,
    /// Key of its bytes.
    pub blob: String,
    /// Bytes.
    pub size: u64,
    /// When it was changed in the sandbox, microseconds since the epoch.
    pub source_mtime: i64,
}

/// Why an output was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The session does not exist any more.
    #[error("the session is gone")]
    SessionGone,
    /// The session has as many outputs as are kept.
    #[error("the session has too many outputs")]
    TooMany,
    /// The path is empty or too long.
    #[error("the path is not usable")]
    BadPath,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl Store {
    /// Keeps one file for each path of a session: changed content gets a new file id and the old
    /// file goes; the same content keeps its id, and the bytes it has. So let go of the new ones with
    /// [`Store::release_blob`].
    ///
    /// # Errors
    /// See [`OutputError`].
    pub async fn upsert_output(&self, new: NewOutput) -> Result<(), OutputError> {
        if new.path.is_empty() || new.path.len() > MAX_PATH {
            return Err(OutputError::BadPath);
        }
        let id: FileId = self.ids().next();
        let freed = self.write(move |tx| upsert(tx, &id, &new)).await?;
        self.drop_blobs(freed.as_slice()).await;
        Ok(())
    }

    /// The outputs of a session, oldest first. Bounded by what is kept for one session.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_outputs(&self, session: &SessionId) -> Result<Vec<FileRow>, StoreError> {
        let session = session.clone();
        self.read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM file WHERE scope_session = ?1 AND output_path IS NOT NULL
                 ORDER BY created_at, id"
            );
            tx.query(&sql, params![&session])?
                .into_iter()
                .map(file)
                .collect()
        })
        .await
    }
}

/// Gives the key of the bytes that were replaced.
fn upsert(tx: &mut dyn Tx, id: &FileId, new: &NewOutput) -> Result<Option<String>, OutputError> {
    let sql = "SELECT workspace_id FROM session WHERE id = ?1";
    let session = one(tx.query(sql, params![&new.session])?);
    let workspace_id = session
        .ok_or(OutputError::SessionGone)?
        .id("session workspace")?;
    let sql = format!("SELECT {COLUMNS} FROM file WHERE scope_session = ?1 AND output_path = ?2");
    let old = one(tx.query(&sql, params![&new.session, &new.path])?)
        .map(file)
        .transpose()?;
    if let Some(old) = (old.as_ref()).filter(|old| same_content(&old.blob, &new.blob)) {
        // Somebody may be about to read the old bytes, if the new have a key of their own.
        let sql = "UPDATE file SET source_mtime = ?2 WHERE id = ?1";
        tx.execute(sql, params![&old.id, new.source_mtime])?;
        return Ok(None);
    }
    match &old {
        Some(old) => drop(tx.execute("DELETE FROM file WHERE id = ?1", params![&old.id])?),
        None => {
            let sql = "SELECT COUNT(*) FROM file
               WHERE scope_session = ?1 AND output_path IS NOT NULL";
            let count = one(tx.query(sql, params![&new.session])?);
            if count.map_or(Ok(0), |mut row| row.int("count"))? >= MAX_OUTPUTS {
                return Err(OutputError::TooMany);
            }
        }
    }
    let filename = filename(&new.path);
    let row = FileRow {
        id: id.clone(),
        workspace_id,
        mime_type: mime_type(&filename).to_owned(),
        filename,
        size: new.size,
        blob: new.blob.clone(),
        downloadable: true,
        scope_session: Some(new.session.clone()),
        output_path: Some(new.path.clone()),
        source_mtime: Some(new.source_mtime),
        created_at: tx.now(),
        expires_at: None,
    };
    insert(tx, &row)?;
    Ok(old.map(|old| old.blob))
}

/// The last part of a path as a name that contract 72 §3 allows: what it forbids becomes `_`.
pub(crate) fn filename(path: &str) -> String {
    let last = path
        .rsplit('/')
        .find(|part| !part.is_empty())
        .unwrap_or_default();
    let clean = |c: char| {
        if c.is_control() || "<>:\"|?*\\/".contains(c) {
            '_'
        } else {
            c
        }
    };
    let mut name = String::new();
    for c in last.chars().map(clean) {
        if name.len() + c.len_utf8() > MAX_FILENAME {
            break;
        }
        name.push(c);
    }
    if name.is_empty() {
        "unnamed".to_owned()
    } else {
        name
    }
}

/// By the name's ending; the content is not looked at.
fn mime_type(filename: &str) -> &'static str {
    let ending = filename
        .rsplit_once('.')
        .map_or("", |(_, e)| e)
        .to_ascii_lowercase();
    match ending.as_str() {
        "txt" | "log" | "text" => "text/plain",
        "md" | "markdown" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "xml" => "text/xml",
        "py" => "text/x-python",
        "rs" => "text/x-rust",
        "js" | "mjs" => "text/javascript",
        "sh" => "text/x-shellscript",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "json" => "application/json",
        "jsonl" => "application/jsonl",
        "pdf" => "application/pdf",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "tar" => "application/x-tar",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_last_parts() {
        assert_eq!(filename("a/b/report.csv"), "report.csv");
        assert_eq!(filename("../../etc/pass:wd"), "pass_wd");
        assert_eq!(filename("a/"), "a");
        assert_eq!(filename("//"), "unnamed");
        assert_eq!(mime_type("X.PNG"), "image/png");
        assert_eq!(mime_type("Makefile"), "application/octet-stream");
    }

    proptest! {
        #[test]
        fn any_path_gives_an_allowed_name(path in "\\PC{0,400}|[\\x00-\\x7f]{0,400}") {
            let name = filename(&path);
            prop_assert!((1..=MAX_FILENAME).contains(&name.len()));
            prop_assert!(!name.chars().any(|c| c.is_control() || "<>:\"|?*\\/".contains(c)));
        }
    }
}
