//! Which server, for whom, with which credential.

use freehold_base::{Secret, WorkspaceId};

/// One MCP server as one caller sees it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Whose call it is; part of every cache key.
    pub workspace: WorkspaceId,
    /// The session or request that calls: sessions of the older protocol are never shared between
    /// two owners.
    pub owner: String,
    /// As the agent or the request has it.
    pub url: String,
    /// Goes out as `Authorization: Bearer` to this URL's origin and nowhere else; part of every
    /// cache key, as a hash.
    pub bearer: Option<Secret<String>>,
}
