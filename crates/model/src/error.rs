//! What can go wrong with a model request, in the classes the engine acts on.

/// Characters of a message that are kept.
pub const MAX_MESSAGE_CHARS: usize = 2_000;
/// Bytes of an upstream error body that are kept.
pub const MAX_UPSTREAM_BODY: usize = 16 * 1024;
/// Longest wait an upstream may ask for; longer ones are cut to this: one hour.
pub const MAX_RETRY_AFTER_MS: u64 = 3_600_000;

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ModelErrorKind {
    /// The provider has no capacity now (529, 503, `overloaded_error`).
    Overloaded,
    /// Too many requests or tokens (429).
    RateLimited,
    /// No credit, or a spend limit is reached.
    Billing,
    /// The provider refused our key, or the key may not do this.
    Authentication,
    /// The request itself is wrong and will be wrong again.
    InvalidRequest,
    /// The conversation no longer fits the model; a shorter one may.
    ContextExceeded,
    /// No answer, or no further byte, in time.
    Timeout,
    /// The connection could not be made or broke.
    Network,
    /// The provider answered something that is not its protocol.
    Protocol,
    /// Any other failure of the provider.
    Other,
}

/// A failed model request. Holds no secret: the key is cut out of every upstream text.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// The class.
    pub kind: ModelErrorKind,
    /// Upstream HTTP status; `None` when there was none, or it was 200 and the stream failed.
    pub status: Option<u16>,
    /// For people; at most [`MAX_MESSAGE_CHARS`] characters.
    pub message: String,
    /// How long the provider asked to wait, at most [`MAX_RETRY_AFTER_MS`].
    pub retry_after_ms: Option<u64>,
    /// What the provider said, as text, at most [`MAX_UPSTREAM_BODY`] bytes.
    pub upstream_body: Option<String>,
}

impl ModelError {
    /// An error without status, body or waiting time.
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            status: None,
            message: cut_chars(message.into(), MAX_MESSAGE_CHARS),
            retry_after_ms: None,
            upstream_body: None,
        }
    }
    /// The same with an upstream status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }
    /// Whether the same request may succeed when sent again.
    pub fn retryable(&self) -> bool {
        use ModelErrorKind as K;
        match self.kind {
            K::Overloaded | K::RateLimited | K::Timeout | K::Network | K::Protocol => true,
            K::Billing | K::Authentication | K::InvalidRequest | K::ContextExceeded => false,
            K::Other => self.status.is_none_or(|s| s >= 500 || s == 409),
        }
    }
    /// The status and `error.type` to answer with at `POST /v1/messages` (contract 00 errors).
    pub fn wire(&self) -> (u16, &'static str) {
        use ModelErrorKind as K;
        match self.kind {
            K::Overloaded => (529, "overloaded_error"),
            K::RateLimited => (429, "rate_limit_error"),
            K::Billing => (402, "billing_error"),
            K::Authentication if self.status == Some(403) => (403, "permission_error"),
            // Our caller's key was good: the one the provider refused is the server's own.
            K::Authentication => (500, "api_error"),
            K::InvalidRequest if self.status == Some(404) => (404, "not_found_error"),
            K::InvalidRequest | K::ContextExceeded if self.status == Some(413) => {
                (413, "request_too_large")
            }
            K::InvalidRequest | K::ContextExceeded => (400, "invalid_request_error"),
            K::Timeout => (504, "timeout_error"),
            K::Network | K::Protocol | K::Other => (500, "api_error"),
        }
    }
}

/// At most `max` characters, marked with an ellipsis when cut.
pub(crate) fn cut_chars(mut text: String, max: usize) -> String {
    if let Some((at, _)) = text.char_indices().nth(max) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_bounded() {
        let error = ModelError::new(ModelErrorKind::Other, "é".repeat(5_000));
        assert_eq!(error.message.chars().count(), MAX_MESSAGE_CHARS + 1);
    }

    #[test]
    fn what_our_own_callers_are_told() {
        use ModelErrorKind as K;
        let wire = |kind, status| ModelError::new(kind, "x").with_status(status).wire();
        assert_eq!(wire(K::Overloaded, 503), (529, "overloaded_error"));
        assert_eq!(wire(K::Authentication, 401), (500, "api_error"));
        assert_eq!(wire(K::Authentication, 403), (403, "permission_error"));
        assert_eq!(wire(K::InvalidRequest, 404), (404, "not_found_error"));
        assert_eq!(wire(K::InvalidRequest, 422), (400, "invalid_request_error"));
        assert_eq!(wire(K::ContextExceeded, 413), (413, "request_too_large"));
    }

    #[test]
    fn what_may_be_tried_again() {
        use ModelErrorKind as K;
        for (kind, again) in [
            (K::Overloaded, true),
            (K::RateLimited, true),
            (K::Timeout, true),
            (K::Network, true),
            (K::Protocol, true),
            (K::Other, true),
            (K::Billing, false),
            (K::Authentication, false),
            (K::InvalidRequest, false),
            (K::ContextExceeded, false),
        ] {
            assert_eq!(ModelError::new(kind, "x").retryable(), again, "{kind:?}");
        }
        let odd = ModelError::new(K::Other, "teapot").with_status(418);
        assert!(!odd.retryable());
    }
}
