//! Failed calls. The codes are those of the Messages API's web tools; contract 55 §12 names
//! `url_not_allowed`.

use std::fmt;

/// Why a call failed, for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) detail: String,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The input or the URL in it makes no sense.
    InvalidToolInput,
    /// The URL is longer than is fetched.
    UrlTooLong,
    /// The agent's rules or the address policy forbid it.
    UrlNotAllowed,
    /// The server could not be reached or did not give the page.
    UrlNotAccessible,
    /// Nothing a model could read.
    UnsupportedContentType,
    /// The tool itself does not work.
    Unavailable,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidToolInput => "invalid_tool_input",
            Self::UrlTooLong => "url_too_long",
            Self::UrlNotAllowed => "url_not_allowed",
            Self::UrlNotAccessible => "url_not_accessible",
            Self::UnsupportedContentType => "unsupported_content_type",
            Self::Unavailable => "unavailable",
        })
    }
}
