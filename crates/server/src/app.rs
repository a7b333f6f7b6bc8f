//! What every handler works with.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::{IdSource, OrganizationId, Timestamp, limits};
use freehold_engine::Rates;
use freehold_model::Catalog;
use freehold_runtime::Runtime;
use freehold_runtime::mcp::Catalogue;
use freehold_store::Store;
use tokio_util::sync::CancellationToken;

use crate::auth::KeyCache;
use crate::tunnels::Tunnels;

/// Between keep-alives of an event stream; the contract asks for 10 to 15 s (40, "SSE").
pub const PING: Duration = Duration::from_secs(12);

/// The server's parts, handed over by the composition root.
pub struct Parts {
    /// The system of record.
    pub store: Store,
    /// The driver of sessions.
    pub runtime: Runtime,
    /// The models.
    pub models: Arc<Catalog>,
    /// Ids and the clock.
    pub ids: IdSource,
    /// The organization's id, on every response.
    pub organization: OrganizationId,
    /// What `GET /v1/freehold/status` reports about this process.
    pub about: About,
}

/// What the operator is told about this process.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Version of the product.
    pub version: String,
    /// Name of the sandbox provider, for example `namespaces`.
    pub sandbox_provider: String,
    /// What the provider found on this host: JSON of its own.
    pub sandbox_capabilities: serde_json::Value,
}

/// The state behind the router. Made once, shared by every connection.
pub struct App {
    pub(crate) store: Store,
    pub(crate) runtime: Runtime,
    pub(crate) models: Arc<Catalog>,
    pub(crate) catalogue: Catalogue,
    pub(crate) ids: IdSource,
    pub(crate) organization: OrganizationId,
    pub(crate) about: About,
    pub(crate) keys: KeyCache,
    pub(crate) rates: Rates,
    pub(crate) started_at: Timestamp,
    pub(crate) ping: Duration,
    /// What a heartbeat extends a lease by unless it says otherwise.
    pub(crate) lease_seconds: u64,
    pub(crate) tunnels: Tunnels,
    /// Cancelled when the server stops: ends every open stream (axum #2673).
    pub(crate) stopping: CancellationToken,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self {
            rates: parts.runtime.rates(),
            keys: KeyCache::new(!parts.store.is_shared()),
            started_at: parts.ids.clock().now(),
            catalogue: parts.runtime.mcp().catalogue.clone(),
            store: parts.store,
            runtime: parts.runtime,
            models: parts.models,
            ids: parts.ids,
            organization: parts.organization,
            about: parts.about,
            ping: PING,
            lease_seconds: limits::WORK_LEASE_SECONDS.1,
            tunnels: Tunnels::default(),
            stopping: CancellationToken::new(),
        }
    }

    /// The same with another time between keep-alives.
    #[must_use]
    pub fn with_ping(mut self, ping: Duration) -> Self {
        self.ping = ping;
        self
    }

    /// The same with another length of leases that workers leave to the server, seconds.
    #[must_use]
    pub fn with_lease(mut self, seconds: u64) -> Self {
        self.lease_seconds = seconds;
        self
    }

    /// The same with these tunnels.
    #[must_use]
    pub fn with_tunnels(mut self, tunnels: Tunnels) -> Self {
        self.tunnels = tunnels;
        self
    }

    /// The current time.
    pub(crate) fn now(&self) -> Timestamp {
        self.ids.clock().now()
    }
}
