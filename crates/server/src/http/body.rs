//! Request bodies: bounded, timed, decoded to UTF-8 bytes. The content type is not insisted on
//! (contract 00 §1); a charset or content encoding we cannot read is refused by its own code.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use freehold_base::limits::MAX_JSON_BODY;
use freehold_wire::{ApiError, ErrorKind};
use http::{HeaderMap, header};
use http_body_util::BodyExt;

use super::Fail;

/// Longest wait for the next piece of a body.
pub(crate) const MAX_BODY_IDLE: Duration = Duration::from_secs(30);

/// The whole body of a JSON request, at most [`MAX_JSON_BODY`] bytes.
#[derive(Debug)]
pub(crate) struct Payload(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for Payload {
    type Rejection = Fail;
    async fn from_request(request: Request, _: &S) -> Result<Self, Fail> {
        let charset = guard_headers(request.headers())?;
        let bytes = collect(request.into_body()).await?;
        Ok(Self(match charset {
            Charset::Utf8 => bytes,
            Charset::Latin1 => bytes
                .iter()
                .map(|b| char::from(*b))
                .collect::<String>()
                .into(),
        }))
    }
}

/// How a body's bytes are text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charset {
    /// UTF-8, or its subset ASCII.
    Utf8,
    /// ISO-8859-1.
    Latin1,
}

/// Checks the headers that say how a body is written.
///
/// # Errors
/// 400 `unsupported_charset`, 400 `request_body_encoding_unsupported`.
pub(crate) fn guard_headers(headers: &HeaderMap) -> Result<Charset, ApiError> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(
            ApiError::invalid("content-encoding: send the body uncompressed")
                .with_code("request_body_encoding_unsupported"),
        );
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Charset::Utf8);
    };
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    let charset = kind
        .split(';')
        .skip(1)
        .find_map(|p| p.trim().strip_prefix("charset="));
    match charset.map(|c| c.trim_matches([' ', '"'])) {
        None | Some("utf-8" | "utf8" | "us-ascii" | "ascii") => Ok(Charset::Utf8),
        Some("iso-8859-1" | "latin1") => Ok(Charset::Latin1),
        Some(_) => Err(ApiError::invalid(
            "content-type: unsupported charset; use UTF-8, ISO-8859-1 or US-ASCII",
        )
        .with_code("unsupported_charset")),
    }
}

fn too_large() -> ApiError {
    ApiError::new(
        ErrorKind::TooLarge,
        format!("request body is larger than {MAX_JSON_BODY} bytes"),
    )
}

async fn collect(mut body: Body) -> Result<Bytes, ApiError> {
    use axum::body::HttpBody as _;
    let expected = body.size_hint();
    if expected.lower() > MAX_JSON_BODY as u64 {
        return Err(too_large());
    }
    let mut all = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let frame = tokio::time::timeout(MAX_BODY_IDLE, body.frame())
            .await
            .map_err(|_| {
                ApiError::invalid("the request body did not arrive in time")
                    .with_code("request_body_timeout")
            })?;
        let Some(frame) = frame else { break };
        // The client went away or broke the framing; if it still listens, it is told so.
        let frame = frame.map_err(|_| ApiError::invalid("the request body could not be read"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let so_far = first.as_ref().map_or(0, Bytes::len) + all.len();
        if so_far + data.len() > MAX_JSON_BODY {
            return Err(too_large());
        }
        // Most bodies are one piece, which then needs no copy.
        match (&first, all.is_empty()) {
            (None, true) => first = Some(data),
            _ => {
                if let Some(first) = first.take() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&data);
            }
        }
    }
    Ok(first.unwrap_or_else(|| all.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &'static str) -> Result<Charset, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        guard_headers(&headers)
    }

    #[test]
    fn charsets_and_encodings() {
        for good in [
            "application/json",
            "application/json; charset=UTF-8",
            "text/plain",
            "x",
        ] {
            assert_eq!(of("content-type", good).unwrap(), Charset::Utf8, "{good}");
        }
        let latin = of("content-type", "application/json;charset=\"ISO-8859-1\"");
        assert_eq!(latin.unwrap(), Charset::Latin1);
        let error = of("content-type", "application/json; charset=utf-16").unwrap_err();
        assert_eq!(error.code, Some("unsupported_charset"));
        assert!(of("content-encoding", "identity").is_ok());
        let error = of("content-encoding", "gzip").unwrap_err();
        assert_eq!(error.code, Some("request_body_encoding_unsupported"));
    }

    #[tokio::test]
    async fn a_body_in_pieces_is_joined_and_bounded() {
        let pieces = ["a", "bc", "", "d"].map(|p| Ok::<_, std::io::Error>(Bytes::from(p)));
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        assert_eq!(collect(body).await.unwrap(), "abcd");
        let chunk = Bytes::from(vec![b' '; MAX_JSON_BODY / 2]);
        let pieces = [chunk.clone(), chunk, Bytes::from("x")].map(Ok::<_, std::io::Error>);
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        assert_eq!(collect(body).await.unwrap_err().kind, ErrorKind::TooLarge);
    }
}
