//! Multipart bodies, read part by part within time and size.

use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use freehold_wire::{ApiError, ErrorKind};
use http::{StatusCode, header};

use crate::http::{Fail, MAX_BODY_IDLE};

/// Bytes of a body beyond those of its files: boundaries, part headers, other fields.
const MAX_OVERHEAD: u64 = 1024 * 1024;

/// A multipart body.
pub(super) struct Form {
    inner: Multipart,
    limits: Limits,
    parts: usize,
}

/// What a body may be at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of the files.
    pub(super) bytes: u64,
    /// Parts.
    pub(super) parts: usize,
    /// What is larger than that, in the 413.
    pub(super) what: &'static str,
}

impl Form {
    /// Begins to read a body that has a part named `wanted`.
    ///
    /// # Errors
    /// 413 for a body that says it is too large, 400 for one that is no form.
    pub(super) async fn open(
        request: Request,
        limits: Limits,
        wanted: &str,
    ) -> Result<Self, ApiError> {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|n| n > limits.bytes + MAX_OVERHEAD) {
            return Err(limits.too_large());
        }
        let inner = Multipart::from_request(request, &()).await.map_err(|_| {
            ApiError::invalid(format!(
                "expected a multipart/form-data body with a part named `{wanted}`"
            ))
        })?;
        Ok(Self {
            inner,
            limits,
            parts: 0,
        })
    }

    /// The next part; `None` at the end.
    ///
    /// # Errors
    /// 400 for a broken body or too many parts.
    pub(super) async fn next(&mut self) -> Result<Option<Field<'_>>, ApiError> {
        if self.parts == self.limits.parts {
            return Err(ApiError::invalid("the body has too many parts"));
        }
        self.parts += 1;
        let limits = self.limits;
        let next = tokio::time::timeout(MAX_BODY_IDLE, self.inner.next_field());
        next.await
            .map_err(|_| late())?
            .map_err(|e| limits.broken(&e))
    }
}

impl Limits {
    /// The next piece of a part.
    ///
    /// # Errors
    /// 400 for a broken or late body.
    pub(super) async fn chunk(&self, field: &mut Field<'_>) -> Result<Option<Bytes>, ApiError> {
        let next = tokio::time::timeout(MAX_BODY_IDLE, field.chunk());
        next.await.map_err(|_| late())?.map_err(|e| self.broken(&e))
    }

    /// A part that is text of at most `max` bytes; `name` is for the error.
    ///
    /// # Errors
    /// 400 that names the part.
    pub(super) async fn text(
        &self,
        name: &str,
        max: usize,
        mut field: Field<'_>,
    ) -> Result<String, Fail> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk(&mut field).await? {
            if all.len() + chunk.len() > max {
                return Err(ApiError::invalid(format!("{name}: too long")).into());
            }
            all.extend_from_slice(&chunk);
        }
        String::from_utf8(all)
            .map_err(|_| ApiError::invalid(format!("{name}: not valid UTF-8")).into())
    }

    /// The 413.
    pub(super) fn too_large(&self) -> ApiError {
        let Self { bytes, what, .. } = self;
        let message = format!("the {what} is larger than {bytes} bytes");
        ApiError::new(ErrorKind::TooLarge, message)
    }

    fn broken(&self, error: &MultipartError) -> ApiError {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return self.too_large();
        }
        ApiError::invalid("the multipart body is malformed or was broken off")
    }
}

/// The 400 for a part nobody asked for, or for one too many.
pub(super) fn unexpected(name: Option<&str>, known: &[&str]) -> ApiError {
    match name {
        Some(name) if known.contains(&name) => {
            ApiError::invalid(format!("{name}: given more than once"))
        }
        Some(name) => {
            let name: String = name.chars().take(64).flat_map(char::escape_debug).collect();
            ApiError::invalid(format!("{name}: Extra inputs are not permitted"))
        }
        None => ApiError::invalid("a part of the body has no name"),
    }
}

fn late() -> ApiError {
    ApiError::invalid("the request body did not arrive in time").with_code("request_body_timeout")
}
