//! A gateway's connection, and how a stream is opened over it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_base::{Timestamp, TunnelTokenId};
use tokio_util::sync::CancellationToken;

use crate::transport::streams::Opener;

/// A gateway's connection, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Names it in both sides' logs.
    pub id: String,
    /// The gateway's own name.
    pub gateway: String,
    /// Where it comes from.
    pub source: SocketAddr,
    /// The token it showed.
    pub token: TunnelTokenId,
    /// Since when.
    pub since: Timestamp,
    /// Streams that are open.
    pub streams: usize,
    /// Whether its last stream worked: if not, it is used when there is no other.
    pub healthy: bool,
}

/// What a gateway showed when it came.
pub(super) struct Registered {
    pub(super) source: SocketAddr,
    pub(super) token: TunnelTokenId,
    pub(super) since: Timestamp,
}

/// A gateway's connection, or one to another edge to which gateways are connected.
pub(super) struct Link {
    pub(super) id: String,
    /// The gateway's own name, or the other edge's.
    pub(super) gateway: String,
    pub(super) opener: Opener,
    /// Of a gateway's.
    pub(super) registered: Option<Registered>,
    /// Ends it.
    pub(super) over: CancellationToken,
    /// Its last stream came to nothing.
    failed: AtomicBool,
}

impl Link {
    pub(super) fn new(
        id: String,
        gateway: String,
        opener: Opener,
        registered: Option<Registered>,
    ) -> Self {
        Self {
            id,
            gateway,
            opener,
            registered,
            over: CancellationToken::new(),
            failed: AtomicBool::new(false),
        }
    }

    pub(super) fn succeeded(&self) {
        self.failed.store(false, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_healthy(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }
}
