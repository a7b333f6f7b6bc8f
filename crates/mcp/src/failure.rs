//! What can go wrong below [`McpError`], told apart as far as the connector acts on it.

use http::StatusCode;

use crate::error::McpError;
use crate::http::{HttpError, Response};
use crate::mask;
use crate::rpc::RpcError;

/// Longest text of a server in an error of ours, in characters.
const MAX_QUOTE: usize = 300;

/// A failure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No answer, or one we will not read.
    Http(HttpError),
    /// An error's status without a JSON-RPC error.
    Status(Box<Status>),
    /// An answer that is not MCP.
    Malformed(String),
    /// A JSON-RPC error.
    Rpc(RpcError),
}

/// An answer that is only a status.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) code: StatusCode,
    pub(crate) content_type: String,
    pub(crate) body: String,
    pub(crate) truncated: bool,
    /// `WWW-Authenticate`.
    pub(crate) challenge: Option<String>,
}

impl Status {
    pub(crate) fn of(response: &Response, body: &[u8], truncated: bool) -> Self {
        let header = |name| {
            let value = response.headers.get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Self {
            code: response.status,
            content_type: header(http::header::CONTENT_TYPE).unwrap_or_default(),
            body: String::from_utf8_lossy(body).into_owned(),
            truncated,
            challenge: header(http::header::WWW_AUTHENTICATE),
        }
    }
}

impl Failure {
    pub(crate) fn malformed(what: &str) -> Self {
        Self::Malformed(format!("the server sent {what}"))
    }

    pub(crate) fn is_authentication(&self) -> bool {
        matches!(self, Self::Status(status) if matches!(status.code.as_u16(), 401 | 403))
    }

    /// Whether a request that was sent may have been carried out nevertheless.
    pub(crate) fn leaves_open(&self) -> bool {
        match self {
            Self::Http(HttpError::Url(_) | HttpError::Connect(_)) | Self::Rpc(_) => false,
            Self::Http(_) | Self::Malformed(_) => true,
            Self::Status(status) => status.code.is_server_error(),
        }
    }

    /// The server's own words, as far as there are any.
    pub(crate) fn body(&self) -> &str {
        match self {
            Self::Status(status) => &status.body,
            Self::Rpc(error) => &error.message,
            Self::Http(_) | Self::Malformed(_) => "",
        }
    }

    /// For the caller, without the credential.
    pub(crate) fn into_error(self, bearer: Option<&str>) -> McpError {
        let quote = |text: &str| mask::quote(text, MAX_QUOTE, bearer);
        match self {
            Self::Http(error) => McpError::Connection(error.to_string()),
            Self::Malformed(text) => McpError::Connection(quote(&text)),
            Self::Status(status) => {
                let code = status.code.as_u16();
                let text = format!("{code} from MCP server");
                match code {
                    401 | 403 => McpError::Authentication(text),
                    _ => McpError::Connection(text),
                }
            }
            Self::Rpc(error) => {
                let message = quote(&error.message);
                let code = error.code;
                McpError::Refused(match message.is_empty() {
                    true => format!("the server answered with error {code}"),
                    false => format!("{message} (error {code})"),
                })
            }
        }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        Self::Http(error)
    }
}
