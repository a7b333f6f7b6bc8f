//! The multipart body of `POST /v1/files`, streamed into the blob store: a part `file` and,
//! before or after it, `expires_in_seconds` (contract 72 §1).

use std::io;

use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use freehold_base::limits::MAX_FILE;
use freehold_store::{Blob, BlobError};
use freehold_wire::{ApiError, ErrorKind};
use futures_util::stream;
use http::{StatusCode, header};
use tokio_util::io::StreamReader;

use crate::app::App;
use crate::http::{Fail, MAX_BODY_IDLE};

/// Bytes of a body beyond those of the file: boundaries, part headers, the other field.
const MAX_OVERHEAD: u64 = 1024 * 1024;
/// Bytes of the `expires_in_seconds` part.
const MAX_FIELD: usize = 64;
/// Parts of a body.
const MAX_PARTS: usize = 8;

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
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|n| n > MAX_FILE + MAX_OVERHEAD) {
        return Err(too_large().into());
    }
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| {
        ApiError::invalid("expected a multipart/form-data body with a part named `file`")
    })?;
    let mut file = None;
    let mut expires_in_seconds = None;
    for _ in 0..MAX_PARTS {
        let next = tokio::time::timeout(MAX_BODY_IDLE, form.next_field());
        let Some(field) = next.await.map_err(|_| late())?.map_err(|e| broken(&e))? else {
            return finish(file, expires_in_seconds);
        };
        match field.name() {
            Some("file") if file.is_none() => file = Some(store(app, field).await?),
            Some("expires_in_seconds") if expires_in_seconds.is_none() => {
                expires_in_seconds = Some(text(field).await?);
            }
            Some(name @ ("file" | "expires_in_seconds")) => {
                return Err(ApiError::invalid(format!("{name}: given more than once")).into());
            }
            Some(name) => {
                let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
                let message = format!("{name}: Extra inputs are not permitted");
                return Err(ApiError::invalid(message).into());
            }
            None => return Err(ApiError::invalid("a part of the body has no name").into()),
        }
    }
    Err(ApiError::invalid("the body has too many parts").into())
}

fn finish(file: Option<Upload>, expires_in_seconds: Option<String>) -> Result<Upload, Fail> {
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
        let error = match tokio::time::timeout(MAX_BODY_IDLE, field.chunk()).await {
            Ok(Ok(Some(bytes))) => return Some((Ok(bytes), (field, failure))),
            Ok(Ok(None)) => return None,
            Ok(Err(error)) => broken(&error),
            Err(_) => late(),
        };
        *failure = Some(error);
        Some((Err(io::Error::other("upload broken off")), (field, failure)))
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
        BlobError::TooLarge { .. } => too_large().into(),
        other => Fail::internal(&other),
    }
}

async fn text(mut field: Field<'_>) -> Result<String, Fail> {
    let mut all = Vec::new();
    loop {
        let next = tokio::time::timeout(MAX_BODY_IDLE, field.chunk());
        let Some(chunk) = next.await.map_err(|_| late())?.map_err(|e| broken(&e))? else {
            break;
        };
        if all.len() + chunk.len() > MAX_FIELD {
            return Err(ApiError::invalid("expires_in_seconds: too long").into());
        }
        all.extend_from_slice(&chunk);
    }
    String::from_utf8(all)
        .map_err(|_| ApiError::invalid("expires_in_seconds: not valid UTF-8").into())
}

fn broken(error: &MultipartError) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    ApiError::invalid("the multipart body is malformed or was broken off")
}

fn late() -> ApiError {
    ApiError::invalid("the request body did not arrive in time").with_code("request_body_timeout")
}

fn too_large() -> ApiError {
    ApiError::new(
        ErrorKind::TooLarge,
        format!("the file is larger than {MAX_FILE} bytes"),
    )
}
