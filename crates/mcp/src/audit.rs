//! What is noted of each request to a server.

use std::time::Instant;

use freehold_base::{RequestId, Timestamp, WorkspaceId};
use sha2::{Digest, Sha256};

use crate::endpoint::Endpoint;
use crate::error::McpError;
use crate::outcome::ToolCall;

/// One request. No content, and no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The same in the record of a tunnel's gateway; none for requests that nobody asked for by name.
    pub request_id: Option<RequestId>,
    /// On whose behalf.
    pub workspace: WorkspaceId,
    /// The session, or the request to the Messages API.
    pub owner: String,
    /// The server's URL, without query.
    pub server: String,
    /// `tools/list` or `tools/call`.
    pub method: &'static str,
    /// The tool, if one was called.
    pub tool: Option<String>,
    /// SHA-256 of the arguments as they were sent, in hexadecimal.
    pub arguments_sha256: Option<String>,
    /// Bytes of the arguments.
    pub sent: u64,
    /// Bytes of the result.
    pub received: u64,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, milliseconds.
    pub millis: u64,
    /// `ok`, `tool_error`, `connection_failed`, `authentication_failed`, `refused` or `cancelled`.
    pub outcome: String,
}

/// Takes the records. Must not block.
pub trait Audit: Send + Sync + 'static {
    /// Takes one.
    fn record(&self, record: AuditRecord);
}

/// Keeps nothing.
impl Audit for () {
    fn record(&self, _: AuditRecord) {}
}

impl AuditRecord {
    pub(crate) fn begin(to: &Endpoint, method: &'static str, at: Timestamp) -> Self {
        let server = to.url.split(['?', '#']).next().unwrap_or_default();
        Self {
            request_id: None,
            workspace: to.workspace.clone(),
            owner: to.owner.clone(),
            server: server.to_owned(),
            method,
            tool: None,
            arguments_sha256: None,
            sent: 0,
            received: 0,
            at,
            millis: 0,
            outcome: String::new(),
        }
    }

    pub(crate) fn of_call(&mut self, call: &ToolCall) {
        let arguments = call.arguments.get();
        let hash = Sha256::digest(arguments);
        self.request_id = Some(call.request_id.clone());
        self.tool = Some(call.name.clone());
        self.arguments_sha256 = Some(hash.iter().map(|b| format!("{b:02x}")).collect());
        self.sent = arguments.len() as u64;
    }

    pub(crate) fn finish(&mut self, begun: Instant, ended: Result<u64, McpError>) {
        self.millis = begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        self.outcome = match ended {
            Ok(received) => {
                self.received = received;
                "ok"
            }
            Err(McpError::Connection(_)) => "connection_failed",
            Err(McpError::Authentication(_)) => "authentication_failed",
            Err(McpError::Refused(_)) => "refused",
            Err(McpError::Cancelled) => "cancelled",
        }
        .to_owned();
    }
}
