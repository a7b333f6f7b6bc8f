//! Why a server could not be used.

use std::error::Error;

use http::StatusCode;
use rmcp::model::ErrorData;
use rmcp::service::{ClientInitializeError, ServiceError};
use rmcp::transport::streamable_http_client::StreamableHttpError;

use crate::http::HttpError;

/// Characters of what a server said that are passed on.
const MAX_SAID: usize = 300;

/// A failure. Texts are for clients and the model: they hold nothing secret, and of what the server
/// sent only what was cleaned and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpError {
    /// DNS, TCP, TLS, a tunnel, a timeout, a status that is no authentication failure, or an answer
    /// that is not MCP: `mcp_connection_failed_error`.
    #[error("{0}")]
    Connection(String),
    /// 401 or 403: `mcp_authentication_failed_error`.
    #[error("{0}")]
    Authentication(String),
    /// The server works and refused this request, with a JSON-RPC error.
    #[error("{0}")]
    Refused(String),
    /// The caller gave up.
    #[error("the call was cancelled")]
    Cancelled,
}

impl McpError {
    pub(crate) fn map(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Connection(text) => Self::Connection(change(text)),
            Self::Authentication(text) => Self::Authentication(change(text)),
            Self::Refused(text) => Self::Refused(change(text)),
            Self::Cancelled => Self::Cancelled,
        }
    }
}

/// Why there is no client.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The exchange failed.
    Http(HttpError),
    /// It was answered, with no.
    Said(McpError),
}

impl ConnectError {
    pub(crate) fn http(self) -> HttpError {
        match self {
            Self::Http(error) => error,
            Self::Said(error) => HttpError::Unusable(error.to_string()),
        }
    }
}

impl From<HttpError> for ConnectError {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}

impl From<ConnectError> for McpError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Http(error) => error.into(),
            ConnectError::Said(error) => error,
        }
    }
}

impl From<HttpError> for McpError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Status { status, .. }
                if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
            {
                Self::Authentication(format!("the server answered with HTTP {status}"))
            }
            HttpError::Status { status, .. } if status.is_redirection() => {
                Self::Connection(format!(
                    "the server answered with a redirect (HTTP {status}), which is not followed"
                ))
            }
            HttpError::Status { status, .. } => {
                Self::Connection(format!("the server answered with HTTP {status}"))
            }
            other => Self::Connection(other.to_string()),
        }
    }
}

pub(crate) fn unusable(why: &str) -> McpError {
    McpError::Connection(why.to_owned())
}

/// Why a request of a connected client failed.
pub(crate) fn of_service(error: &ServiceError) -> McpError {
    match error {
        ServiceError::McpError(said) => McpError::Refused(cleaned(&said.message)),
        ServiceError::Timeout { timeout } => HttpError::Slow(*timeout).into(),
        ServiceError::TransportSend(error) => match http_error(error.error.as_ref()) {
            Some(error) => error.into(),
            None => unusable("the connection failed"),
        },
        ServiceError::TransportClosed => unusable("the connection was closed"),
        ServiceError::UnexpectedResponse => unusable("the answer is not one to the request"),
        _ => unusable("the exchange failed"),
    }
}

/// The same, for what needs the answer itself.
pub(crate) fn http_of_service(error: &ServiceError) -> HttpError {
    match error {
        ServiceError::TransportSend(sent) => http_error(sent.error.as_ref()),
        _ => None,
    }
    .unwrap_or_else(|| HttpError::Unusable(of_service(error).to_string()))
}

/// Why a client could not connect.
pub(crate) fn of_connect(error: ClientInitializeError) -> ConnectError {
    let said = |data: &ErrorData| {
        let text = cleaned(&data.message);
        ConnectError::Said(McpError::Connection(format!("the server refused: {text}")))
    };
    match &error {
        ClientInitializeError::TransportError { error, .. } => http_error(error.error.as_ref())
            .map_or_else(
                || ConnectError::Said(unusable("the connection failed")),
                ConnectError::Http,
            ),
        ClientInitializeError::JsonRpcError(data) => said(data),
        ClientInitializeError::NoCompatibleProtocolVersion { .. } => ConnectError::Said(unusable(
            "the server speaks no version of MCP that is spoken here",
        )),
        ClientInitializeError::LegacyFallbackFailed { .. } => {
            let ClientInitializeError::LegacyFallbackFailed { fallback, .. } = error else {
                return ConnectError::Said(unusable("the connection failed"));
            };
            of_connect(*fallback)
        }
        ClientInitializeError::ConnectionClosed(_) => ConnectError::Said(unusable(
            "the connection was closed before the server was ready",
        )),
        _ => ConnectError::Said(unusable("the server's first answer is not MCP")),
    }
}

fn http_error(error: &(dyn Error + 'static)) -> Option<HttpError> {
    let causes = std::iter::successors(Some(error), |e: &&(dyn Error + 'static)| (*e).source());
    causes.into_iter().find_map(|e| {
        if let Some(error) = e.downcast_ref::<HttpError>() {
            return Some(error.clone());
        }
        Some(match e.downcast_ref::<StreamableHttpError<HttpError>>()? {
            StreamableHttpError::Client(error) => error.clone(),
            StreamableHttpError::SessionExpired
            | StreamableHttpError::ReinitializationFailed(_) => {
                HttpError::Unusable("the server has forgotten the session".to_owned())
            }
            StreamableHttpError::UnexpectedEndOfStream => {
                HttpError::Unusable("the stream ended without an answer".to_owned())
            }
            _ => HttpError::Unusable("the answer is not MCP".to_owned()),
        })
    })
}

/// What a server said, fit for a line of text.
fn cleaned(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = visible.take(MAX_SAID).collect();
    if text.chars().count() > MAX_SAID {
        out.push('…');
    }
    out
}
