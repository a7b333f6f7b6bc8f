//! The one decision, and from it to a connection or to a reason why not.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Shared;
use super::meter::Metered;
use super::names;
use super::refusal::Refusal;
use super::target::{Host, Target};

/// How long a name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may take to open, for each address.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Addresses tried.
const MAX_ADDRESSES: usize = 4;

impl Shared {
    /// Decides, resolves, checks and connects.
    pub(super) async fn dial(self: &Arc<Self>, target: &Target) -> Result<Metered, Refusal> {
        match self.try_dial(target).await {
            Ok(stream) => {
                self.allowed.fetch_add(1, Ordering::Relaxed);
                if self.config.log {
                    tracing::info!(sandbox = %self.id, %target, "egress allowed");
                }
                Ok(Metered::new(stream, self.clone()))
            }
            Err(refusal) => {
                self.note(target, refusal);
                Err(refusal)
            }
        }
    }

    /// Counts, logs and remembers what did not go out.
    pub(super) fn note(&self, target: &Target, refusal: Refusal) {
        if refusal.is_policy() {
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
        if self.config.log {
            tracing::info!(sandbox = %self.id, %target, reason = %refusal, "egress refused");
        } else {
            tracing::debug!(sandbox = %self.id, %target, reason = %refusal, "egress refused");
        }
        self.denials().add(target, refusal);
    }

    /// The policy's word on a target: name and port, nothing of addresses.
    pub(super) fn allows(&self, target: &Target) -> bool {
        self.network()
            .policy
            .allows(&target.host.text(), target.port)
    }

    /// What an address that a program dialled or named stands for.
    pub(super) fn named(&self, target: Target) -> Result<Target, Refusal> {
        match target.host {
            Host::Address(IpAddr::V4(address)) if names::is_made_up(address) => {
                let name = self.names().name(address).map(str::to_owned);
                let host = Host::Name(name.ok_or(Refusal::NoName)?);
                Ok(Target { host, ..target })
            }
            _ => Ok(target),
        }
    }

    async fn try_dial(&self, target: &Target) -> Result<TcpStream, Refusal> {
        if self.is_spent() {
            return Err(Refusal::Spent);
        }
        // A name that is not allowed is not even looked up.
        if !self.allows(target) {
            return Err(Refusal::NotAllowed);
        }
        let addresses = self.resolve(target).await?;
        // One bad address among good ones is as suspect as a bad one alone.
        for address in &addresses {
            if !self
                .config
                .addresses
                .allows(SocketAddr::new(*address, target.port))
            {
                return Err(Refusal::NotPublic);
            }
        }
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            let connect = TcpStream::connect(SocketAddr::new(address, target.port));
            if let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, connect).await {
                // Only a matter of speed.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        Err(Refusal::Unreachable)
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<IpAddr>, Refusal> {
        match &target.host {
            Host::Address(address) => Ok(vec![*address]),
            Host::Name(name) => {
                let found = self.config.resolver.resolve(name, target.port);
                match timeout(RESOLVE_LIMIT, found).await {
                    Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
                    _ => Err(Refusal::Unresolved),
                }
            }
        }
    }
}
