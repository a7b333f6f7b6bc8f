//! Successful replies: always 200 with a JSON body (contract 00 §4).

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::Serialize;

use super::Fail;

/// What a handler gives.
pub(crate) type Reply = Result<Response, Fail>;

/// Marks a response above 399 whose body is already an error envelope.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept;

/// 200 with `value` as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(raw_json(bytes)),
        Err(error) => Err(Fail::internal(&error)),
    }
}

/// 200 with bytes that are JSON.
pub(crate) fn raw_json(bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    let value = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}
