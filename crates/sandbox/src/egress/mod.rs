//! The only way out of a sandbox: an HTTP proxy (CONNECT, and absolute-form requests) served by the
//! host on a listener that lives in the sandbox's network namespace.
//!
//! Order of decisions for each connection: name policy, resolution on the host, address policy on
//! every resolved address, then a connection to exactly a checked address. Anything unclear is
//! refused with 403 and a reason, so that a model can tell policy from an outage.

mod dial;
mod proxy;
mod target;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::NetworkPolicy;

/// How egress resolves names and judges addresses; the seams for tests and for other resolvers.
#[derive(Clone)]
pub struct EgressConfig {
    /// Turns names into addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Says which addresses may be dialled.
    pub addresses: Arc<dyn AddressPolicy>,
}

impl Default for EgressConfig {
    /// The host's resolver, public addresses only.
    fn default() -> Self {
        Self {
            resolver: Arc::new(HostResolver),
            addresses: Arc::new(PublicOnly),
        }
    }
}

/// Turns names into addresses, on the host.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Every address of `host`.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>>;
}

/// Says which addresses may be dialled, whatever their name.
pub trait AddressPolicy: Send + Sync {
    /// Whether `address` may be dialled.
    fn allows(&self, address: SocketAddr) -> bool;
}

/// The host's own resolver.
#[derive(Debug, Clone, Copy)]
pub struct HostResolver;

#[async_trait]
impl Resolver for HostResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok(found.map(|a| a.ip()).collect())
    }
}

/// Public unicast addresses, as [`freehold_base::net::is_public`] has it.
#[derive(Debug, Clone, Copy)]
pub struct PublicOnly;

impl AddressPolicy for PublicOnly {
    fn allows(&self, address: SocketAddr) -> bool {
        freehold_base::net::is_public(address.ip())
    }
}

/// The proxy of one sandbox.
pub(crate) struct Egress {
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    policy: NetworkPolicy,
    config: EgressConfig,
    allowed: AtomicU64,
    denied: AtomicU64,
    stop: CancellationToken,
}

impl Egress {
    /// Serves `listener` until stopped or dropped.
    pub(crate) fn serve(
        listener: TcpListener,
        policy: NetworkPolicy,
        config: EgressConfig,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared {
            policy,
            config,
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        tokio::spawn(proxy::accept(listener, shared.clone()));
        Ok(Self { shared })
    }

    /// Closes the listener and every connection.
    pub(crate) fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Connections allowed and refused so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (load(&self.shared.allowed), load(&self.shared.denied))
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.stop();
    }
}
