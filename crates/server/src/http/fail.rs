//! The error of a handler. It becomes a response without a body that carries the [`ApiError`];
//! the outer layer, which knows the request's id, writes the envelope.

use axum::response::{IntoResponse, Response};
use freehold_store::StoreError;
use freehold_wire::{ApiError, ErrorKind};

/// A handler's error. Causes that clients must not see are logged where they are converted.
#[derive(Debug)]
pub(crate) struct Fail(pub(crate) ApiError);

impl From<ApiError> for Fail {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<StoreError> for Fail {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Closed => Self(ApiError::new(
                ErrorKind::Unavailable,
                "the server is stopping",
            )),
            StoreError::Connection(_) => Self(ApiError::new(
                ErrorKind::Unavailable,
                "the database is not available; try again",
            )),
            other => Self::internal(&other),
        }
    }
}

impl Fail {
    /// The same, naming the part of the request that a 400 is about.
    pub(crate) fn within(mut self, place: &str) -> Self {
        if self.0.kind == ErrorKind::InvalidRequest {
            self.0.message = format!("{place}.{}", self.0.message);
        }
        self
    }
    /// A fault of ours: logged with its causes, told to the client as nothing more than that.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "request failed");
        Self(ApiError::internal())
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = http::StatusCode::from_u16(self.0.kind.status())
            .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self.0);
        response
    }
}
