//! What sessions and requests need to use MCP servers, beyond the protocol: which credential a server
//! is shown, which of its tools may be offered and called, and a record of it all.

pub mod audit;
pub mod catalogue;
mod credentials;
pub(crate) mod dispatch;
pub mod review;
pub(crate) mod session;

use std::sync::Arc;

use freehold_base::SharedClock;
use freehold_mcp::Connector;
use freehold_store::Store;

pub use audit::AuditLog;
pub use catalogue::{Catalogue, CatalogueError, Judged, Verdict};
pub use credentials::{CredentialError, McpCredentials, Validation};

/// How sessions reach MCP servers.
#[derive(Clone)]
pub struct Mcp {
    /// The servers.
    pub connector: Connector,
    /// Which of their tools may be used.
    pub catalogue: Catalogue,
    /// What they are shown.
    pub credentials: Arc<McpCredentials>,
}

impl Mcp {
    /// Sessions' credentials and the catalogue are those of `store`. What the connector is asked is
    /// recorded where its own options say; to have it beside the decisions, that is `audit` too.
    pub fn new(store: Store, connector: Connector, audit: AuditLog, clock: SharedClock) -> Self {
        let credentials = McpCredentials::new(store.clone(), connector.clone(), clock);
        Self {
            connector,
            catalogue: Catalogue::new(store, audit),
            credentials: Arc::new(credentials),
        }
    }
}
