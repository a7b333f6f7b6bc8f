//! The error envelope (contract 00 §5).

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// `error.type` with the HTTP status it travels with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// 400.
    InvalidRequest,
    /// 401.
    Authentication,
    /// 402.
    Billing,
    /// 403.
    Permission,
    /// 404.
    NotFound,
    /// 405; typed `invalid_request_error`.
    MethodNotAllowed,
    /// 408.
    RequestTimeout,
    /// 409.
    Conflict,
    /// 409; a memory's path is taken (contract 74).
    MemoryPathConflict,
    /// 409; a memory is not what its caller expected (contract 74).
    MemoryPreconditionFailed,
    /// 412; typed `invalid_request_error`.
    PreconditionFailed,
    /// 413.
    TooLarge,
    /// 429.
    RateLimit,
    /// 500.
    Api,
    /// 503; typed `api_error`.
    Unavailable,
    /// 504.
    Timeout,
    /// 529.
    Overloaded,
}

impl ErrorKind {
    /// The HTTP status.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Authentication => 401,
            Self::Billing => 402,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestTimeout => 408,
            Self::Conflict | Self::MemoryPathConflict | Self::MemoryPreconditionFailed => 409,
            Self::PreconditionFailed => 412,
            Self::TooLarge => 413,
            Self::RateLimit => 429,
            Self::Api => 500,
            Self::Unavailable => 503,
            Self::Timeout => 504,
            Self::Overloaded => 529,
        }
    }
    /// The value of `error.type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::MethodNotAllowed | Self::PreconditionFailed => {
                "invalid_request_error"
            }
            Self::Authentication => "authentication_error",
            Self::Billing => "billing_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::Conflict => "conflict_error",
            Self::MemoryPathConflict => "memory_path_conflict_error",
            Self::MemoryPreconditionFailed => "memory_precondition_failed_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Api | Self::Unavailable => "api_error",
            Self::RequestTimeout | Self::Timeout => "timeout_error",
            Self::Overloaded => "overloaded_error",
        }
    }
}

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// Type and status.
    pub kind: ErrorKind,
    /// Says what is wrong and, where it can, how to mend it. Never holds a secret.
    pub message: String,
    /// `details.error_code`, where the contract or we define one.
    pub code: Option<&'static str>,
    /// Further keys of `details`.
    // Boxed: errors travel in every `Result`, and few have details.
    pub details: Box<Map<String, Value>>,
    /// Further keys of `error` itself, which a few types have.
    pub fields: Box<Map<String, Value>>,
    /// Overrides the SDKs' own retry decision through `x-should-retry`.
    pub should_retry: Option<bool>,
    /// `retry-after-ms` and, in whole seconds, `retry-after`.
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    /// An error of `kind` with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            details: Box::default(),
            fields: Box::default(),
            // The SDKs retry every 409; ours are all deterministic (contract 00 §5).
            should_retry: (kind.status() == 409).then_some(false),
            retry_after_ms: None,
        }
    }
    /// 400 `invalid_request_error`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }
    /// 404 `not_found_error` for a resource of the named noun.
    pub fn not_found(noun: &str, id: &str) -> Self {
        // The id comes from the URL: bounded, so that an error never becomes an amplifier.
        let id: String = id.chars().take(80).collect();
        Self::new(ErrorKind::NotFound, format!("{noun} `{id}` not found."))
    }
    /// 409 `conflict_error`, with `x-should-retry: false`.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }
    /// 500 with a message that tells nothing of the inside; the cause goes to the log.
    pub fn internal() -> Self {
        Self::new(ErrorKind::Api, "internal server error")
    }
    /// The same with `details.error_code`.
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }
    /// The same with one more key in `details`.
    pub fn with_detail(mut self, key: &str, value: Value) -> Self {
        self.details.insert(key.to_owned(), value);
        self
    }
    /// The same with one more key in `error` itself.
    pub fn with_field(mut self, key: &str, value: Value) -> Self {
        self.fields.insert(key.to_owned(), value);
        self
    }
    /// The envelope for the request of the given id.
    pub fn envelope(&self, request_id: &str) -> Value {
        let mut error = Map::new();
        error.insert("type".into(), self.kind.as_str().into());
        error.insert("message".into(), self.message.clone().into());
        error.extend((*self.fields).clone());
        if self.code.is_some() || !self.details.is_empty() {
            let mut details = (*self.details).clone();
            if let Some(code) = self.code {
                details.insert("error_code".into(), code.into());
            }
            error.insert("details".into(), Value::Object(details));
        }
        serde_json::json!({ "type": "error", "error": error, "request_id": request_id })
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}
impl std::error::Error for ApiError {}

/// A deleted resource: `{"id", "type": "<noun>_deleted"}`, status 200 (contract 00 §4).
#[derive(Debug, Serialize)]
pub struct Deleted {
    /// The id that is gone.
    pub id: String,
    /// For example `session_deleted`.
    pub r#type: &'static str,
}
