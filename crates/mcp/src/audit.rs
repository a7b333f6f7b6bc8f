//! One record for each request that goes to an MCP server.

use freehold_base::{RequestId, Timestamp, WorkspaceId};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was answered with a result.
    Ok,
    /// The tool says that it failed.
    ToolError,
    /// It was answered with a JSON-RPC error.
    Refused,
    /// 401 or 403.
    Unauthenticated,
    /// No answer, or none that is MCP.
    Failed,
    /// The caller gave up.
    Cancelled,
}

impl AuditOutcome {
    /// The name in lists: `ok`, `tool_error`, …
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ToolError => "tool_error",
            Self::Refused => "refused",
            Self::Unauthenticated => "unauthenticated",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A request as it went out, and what came of it. Neither arguments nor results are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Went out as `X-Request-Id`; a tunnel's gateway writes the same.
    pub request_id: RequestId,
    /// On whose behalf.
    pub workspace: WorkspaceId,
    /// The session or request that asked.
    pub owner: String,
    /// The server's URL as the caller has it.
    pub server_url: String,
    /// JSON-RPC method.
    pub method: String,
    /// The tool, if one is called.
    pub tool: Option<String>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answers' bodies, as far as they were read.
    pub response_bytes: u64,
    /// When it went out.
    pub started_at: Timestamp,
    /// How long it took.
    pub millis: u64,
    /// What became of it.
    pub outcome: AuditOutcome,
    /// SHA-256 of the arguments' bytes, in hex, if a tool is called.
    pub arguments_sha256: Option<String>,
    /// The answer held the credential that was sent; it was masked.
    pub credential_echoed: bool,
}

/// Takes records. Called on the hot path: must not block.
pub trait Audit: Send + Sync + 'static {
    /// Takes one.
    fn record(&self, record: AuditRecord);
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAudit;

impl Audit for NoAudit {
    fn record(&self, _: AuditRecord) {}
}
