//! What can go wrong with a request.

use std::time::Duration;

use serde::Deserialize;

/// Characters of a message kept from a server.
const MAX_MESSAGE_CHARS: usize = 2_000;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The base URL or the key cannot be used; nothing was sent.
    #[error("{0}")]
    Configuration(String),
    /// No connection: nothing was sent.
    #[error("cannot connect to {url}")]
    Connect {
        /// Where to, without credentials.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The connection broke, or no answer came in time: the request may have had its effect.
    #[error("the connection to the server broke")]
    Broken(#[source] reqwest::Error),
    /// Nothing was heard for this long.
    #[error("nothing was heard from the server for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The server answered with an error.
    #[error(transparent)]
    Api(#[from] ApiFailure),
    /// The answer is not what the API promises; is something else listening there?
    #[error("the answer makes no sense: {0}")]
    Protocol(String),
}

impl ClientError {
    /// The HTTP status, where there was one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api(failure) => Some(failure.status),
            _ => None,
        }
    }
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Broken(_) | Self::Silent(_) => true,
            // An error inside a stream comes with status 200.
            Self::Api(f) => f
                .retry
                .unwrap_or(matches!(f.status, 200 | 408 | 409 | 429 | 500..)),
            Self::Configuration(_) | Self::Protocol(_) => false,
        }
    }
}

/// An error envelope (contract 00 §5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiFailure {
    /// HTTP status; 200 for an error inside an event stream.
    pub status: u16,
    /// `error.type`; empty if there was no envelope.
    pub kind: String,
    /// `error.message`, at most 2,000 characters.
    pub message: String,
    /// `error.details.error_code`.
    pub code: Option<String>,
    /// `request-id`.
    pub request_id: Option<String>,
    /// What `x-should-retry` said.
    pub retry: Option<bool>,
    /// How long the server asked to wait.
    pub after: Option<Duration>,
}

#[derive(Deserialize)]
struct Envelope {
    error: Inner,
    #[serde(default)]
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct Inner {
    r#type: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    error_code: Option<String>,
}

impl ApiFailure {
    /// Reads an envelope; anything else becomes a failure that says so.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let (kind, message, code, request_id) = match serde_json::from_slice::<Envelope>(body) {
            Ok(e) => {
                let code = e.error.details.and_then(|d| d.error_code);
                (e.error.r#type, e.error.message, code, e.request_id)
            }
            Err(_) => {
                let text = format!("the server answered with status {status} and no explanation");
                (String::new(), text, None, None)
            }
        };
        Self {
            status,
            kind,
            message: message.chars().take(MAX_MESSAGE_CHARS).collect(),
            code,
            request_id,
            retry: None,
            after: None,
        }
    }
}
