//! Why a server could not be used.

/// A failure. Texts are for clients and the model: they hold nothing secret, and of what the server
/// sent only what was cleaned and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpError {
    /// DNS, TCP, TLS, a tunnel, a timeout, a status that is no authentication failure, or an answer
    /// that is not MCP: `mcp_connection_failed_error`.
    #[error("{0}")]
    Connection(String),
    /// The same, but of a call that may have reached the server: nobody knows what became of it.
    #[error("{0}. Whether the call took effect is unknown; check before you repeat it")]
    Unanswered(String),
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
