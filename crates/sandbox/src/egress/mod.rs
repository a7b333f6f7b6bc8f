//! The only way out of a sandbox. Its sockets are made in the sandbox's network namespace and
//! served here, on the host; nothing of this runs inside.
//!
//! A program gets an invented address for every name the policy allows ([`resolver`]); whatever it
//! dials, by any port and any protocol over TCP, arrives here and stands for that name
//! ([`accept`]). Programs that know a proxy find one on the same listener ([`proxy`], [`socks`]).
//!
//! Order of decisions for each connection: name and port against the policy, resolution on the
//! host, address policy on every resolved address, a connection to exactly a checked address, and
//! then that what is said on it names the same host ([`flow`], [`http`]). Anything unclear is
//! refused with a reason, so that a model can tell policy from an outage.

mod accept;
mod dial;
mod flow;
mod forward;
mod hello;
mod http;
mod inject;
mod meter;
mod names;
mod opening;
mod proxy;
mod question;
mod refusal;
mod relay;
mod resolver;
mod rewind;
mod seams;
mod socks;
mod target;
mod tls;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use refusal::Denial;
pub use seams::{AddressPolicy, EgressConfig, HostResolver, PublicOnly, Resolver, Roots};
pub(crate) use tls::Authority;

use crate::Network;
use names::Names;
use refusal::Denials;
use target::Target;

/// The way out of one sandbox.
pub(crate) struct Egress {
    shared: Arc<Shared>,
}

/// What all connections share.
struct Shared {
    /// The sandbox, for the log.
    id: String,
    network: watch::Sender<Arc<Network>>,
    config: EgressConfig,
    /// Signs for hosts whose TLS ends here; `None` if the inside was not told to trust one.
    authority: Option<Authority>,
    names: Mutex<Names>,
    denials: Mutex<Denials>,
    allowed: AtomicU64,
    denied: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    stop: CancellationToken,
}

/// What went out and what did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub allowed: u64,
    pub denied: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

impl Egress {
    /// Serves the sockets that the launcher handed over, until stopped or dropped.
    pub(crate) fn serve(
        id: &str,
        sockets: Vec<OwnedFd>,
        network: Network,
        config: EgressConfig,
        authority: Option<Authority>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            network: watch::Sender::new(Arc::new(network)),
            config,
            authority,
            names: Mutex::default(),
            denials: Mutex::default(),
            allowed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            stop: CancellationToken::new(),
        });
        accept::start(sockets, &shared)?;
        Ok(Self { shared })
    }

    /// Replaces policy and secrets. Connections that the new policy does not allow end; others go
    /// on, and requests on them from now on get the new secrets. `false` if secrets are given that
    /// the inside could not use, for it was made without any and trusts no authority.
    pub(crate) fn set(&self, network: Network) -> bool {
        if self.shared.authority.is_none() && !network.injections.is_empty() {
            return false;
        }
        self.shared.network.send_replace(Arc::new(network));
        true
    }

    /// Closes the sockets and every connection.
    pub(crate) fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// So far.
    pub(crate) fn counts(&self) -> Counts {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            allowed: load(&self.shared.allowed),
            denied: load(&self.shared.denied),
            sent_bytes: load(&self.shared.sent),
            received_bytes: load(&self.shared.received),
        }
    }

    /// What was refused, or failed, since the last time this was asked.
    pub(crate) fn take_denials(&self) -> Vec<Denial> {
        self.shared.denials().take()
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// Policy and secrets as they are now.
    fn network(&self) -> Arc<Network> {
        self.network.borrow().clone()
    }

    /// Whether the sandbox has used up what it may exchange.
    fn is_spent(&self) -> bool {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        load(&self.sent).saturating_add(load(&self.received)) >= self.config.max_bytes
    }

    /// Returns when `target` is not allowed any more.
    async fn revoked(&self, target: &Target) {
        let mut network = self.network.subscribe();
        // An error means that the sandbox goes, which `stop` says too.
        let host = target.host.text();
        let gone = |n: &Arc<Network>| !n.policy.allows(&host, target.port);
        if network.wait_for(gone).await.is_err() {
            std::future::pending().await
        }
    }

    // Both are whole between any two statements, so a poisoned lock is still usable.
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn denials(&self) -> MutexGuard<'_, Denials> {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
