//! How the replicas of one server reach each other. What must last goes through the database, which all
//! of them share; over these connections goes what is not kept: previews of events that are still being
//! written, for whoever listens at another replica, and the bytes of tunnels whose gateway is connected
//! to another.
//!
//! Every replica connects to every other. Each makes a certificate when it starts and writes its
//! fingerprint into the database beside its address; both ends of a connection show theirs, and nobody
//! else is let in. So whoever may write the database is trusted, and whoever may reach the port is not.
//!
//! A connection is HTTP/2, and each stream of it a CONNECT: to the host of a server behind a tunnel, or
//! to [`previews::HOST`].

mod accept;
mod link;
pub mod previews;
mod tls;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::ReplicaId;
use freehold_runtime::Hub;
use freehold_store::{Peer, Store, StoreError};
use freehold_tunnel::edge::Edge;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use tls::Identity;

/// Between two looks at who is there. Replicas that come are heard of at once, since they connect.
const LOOK: Duration = Duration::from_secs(2);

/// What this replica offers to the others.
#[derive(Clone)]
pub struct Parts {
    /// Where replicas are listed; must be shared between them.
    pub store: Store,
    /// Whose previews are sent and received.
    pub hub: Hub,
    /// Whose gateways others may use, and which may use theirs.
    pub edge: Edge,
}

/// What every task shares.
struct Shared {
    parts: Parts,
    identity: Identity,
    /// `host:port` where the others reach this one.
    address: String,
    /// The others, by fingerprint. Whoever is not among them any more is let go.
    known: watch::Sender<HashMap<String, Peer>>,
    /// Rings when somebody comes who is not known.
    stranger: Notify,
}

/// Connects to the other replicas and takes their connections, until `stop`. Streams that are open then
/// go on until the server is `idle`. `address` is where the others reach `listener`.
///
/// # Errors
/// No certificate can be made. That the store fails or another replica cannot be reached is logged.
pub async fn serve(
    listener: TcpListener,
    address: String,
    parts: Parts,
    stop: CancellationToken,
    idle: CancellationToken,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        parts,
        identity: Identity::new()?,
        address,
        known: watch::Sender::default(),
        stranger: Notify::new(),
    });
    let accepting = accept::serve(Arc::clone(&shared), listener, stop, idle.clone());
    let mut links = Links::default();
    let looking = async {
        loop {
            match shared.look().await {
                Ok(peers) => links.keep(&shared, peers),
                Err(error) => tracing::warn!(%error, "other replicas cannot be looked up"),
            }
            tokio::select! {
                () = shared.stranger.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    };
    tokio::select! {
        served = accepting => served,
        () = looking => Ok(()),
    }
}

impl Shared {
    /// The others, as the store has them. Says there where this one is, unless that is known.
    async fn look(&self) -> Result<Vec<Peer>, StoreError> {
        let store = &self.parts.store;
        let fingerprint = self.identity.fingerprint();
        let mut peers = store.peers().await?;
        let own = peers.iter().position(|p| p.replica == *store.replica());
        let said = own.is_some_and(|at| {
            let own = peers.swap_remove(at);
            own.address == self.address && own.fingerprint == fingerprint
        });
        if !said {
            store.advertise(&self.address, fingerprint).await?;
        }
        let by_fingerprint = peers.iter().map(|p| (p.fingerprint.clone(), p.clone()));
        self.known.send_replace(by_fingerprint.collect());
        Ok(peers)
    }
}

/// The connections to the others.
#[derive(Default)]
struct Links(HashMap<ReplicaId, JoinHandle<()>>);

impl Links {
    /// One for each of these, and for nobody else.
    fn keep(&mut self, shared: &Arc<Shared>, peers: Vec<Peer>) {
        self.0.retain(|replica, task| {
            let there = peers.iter().any(|p| p.replica == *replica);
            if !there {
                task.abort();
            }
            there
        });
        for peer in peers {
            self.0.entry(peer.replica.clone()).or_insert_with(|| {
                let shared = Arc::clone(shared);
                tokio::spawn(async move { link::keep(&shared, &peer).await })
            });
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}
