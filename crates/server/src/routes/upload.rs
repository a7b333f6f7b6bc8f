//! The multipart body of `POST /v1/files`, streamed into the blob store: a part `file` and,
//! before or after it, `expires_in_seconds` (contract 72 §1).

use std::io;

use axum::extract::Request;
use axum::extract::multipart::Field;
use freehold_base::limits::MAX_FILE;
use freehold_store::{Blob, BlobError};
use freehold_wire::ApiError;
use futures_util::stream;
use tokio_util::io::StreamReader;

use super::form::{Form, Limits, unexpected};
use crate::app::App;
use crate::http::Fail;

/// Bytes of the `expires_in_seconds` part.
const MAX_FIELD: usize = 64;
const LIMITS: Limits = Limits {
    bytes: MAX_FILE,
    parts: 8,
    what: "file",
};

/// What was uploaded. The bytes are stored, and pinned until a row refers to them.
pub(crate) struct Upload {
    pub(crate) blob: Blob,
    /// As the part named it.
    pub(crate) filename: Option<String>,
    /// As the part says.
    pub(crate) mime_type: Option<String>,
    /// As sent.
    pub(crate) expires_in_seconds: Option<String>,
}

/// Reads the body.
///
/// # Errors
/// 400 for a body that is not such a form, 413 for a file above [`MAX_FILE`].
pub(crate) async fn receive(app: &App, request: Request) -> Result<Upload, Fail> {
    let mut form = Form::open(request, LIMITS, "file").await?;
    let mut file = None;
    let mut expires_in_seconds = None;
    while let Some(field) = form.next().await? {
        match field.name() {
            Some("file") if file.is_none() => file = Some(store(app, field).await?),
            Some(name @ "expires_in_seconds") if expires_in_seconds.is_none() => {
                let name = name.to_owned();
                expires_in_seconds = Some(LIMITS.text(&name, MAX_FIELD, field).await?);
            }
            name => return Err(unexpected(name, &["file", "expires_in_seconds"]).into()),
        }
    }
    let file = file.ok_or_else(|| ApiError::invalid("file: Field required"))?;
    Ok(Upload {
        expires_in_seconds,
        ..file
    })
}

async fn store(app: &App, field: Field<'_>) -> Result<Upload, Fail> {
    let filename = field.file_name().map(str::to_owned);
    let mime_type = field.content_type().map(str::to_owned);
    // The reader cannot name its own error through the blob store's; it is told apart here.
    let mut failure = None;
    let chunks = stream::unfold((field, &mut failure), |(mut field, failure)| async move {
        match LIMITS.chunk(&mut field).await {
            Ok(Some(bytes)) => Some((Ok(bytes), (field, failure))),
            Ok(None) => None,
            Err(error) => {
                *failure = Some(error);
                Some((Err(io::Error::other("upload broken off")), (field, failure)))
            }
        }
    });
    let content = StreamReader::new(Box::pin(chunks));
    let put = app.store.blobs().put(content, MAX_FILE).await;
    match (put, failure) {
        (_, Some(error)) => Err(error.into()),
        (Ok(blob), None) => Ok(Upload {
            blob,
            filename,
            mime_type,
            expires_in_seconds: None,
        }),
        (Err(error), None) => Err(blob_failure(error)),
    }
}

fn blob_failure(error: BlobError) -> Fail {
    match error {
        BlobError::TooLarge { .. } => LIMITS.too_large().into(),
        other => Fail::internal(&other),
    }
}
