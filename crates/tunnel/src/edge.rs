//! The edge: takes connections from gateways, and opens streams over them for whoever calls a server
//! behind a tunnel. It sees names and ciphertext.

mod changes;
mod dial;
mod guarded;
pub mod identity;
mod keep;
mod link;
mod listen;
mod pace;
mod registry;
mod sources;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{EventId, IdSource, TunnelId, TunnelTokenId, WorkspaceId};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use dial::DialFailure;
pub use guarded::Guarded;
pub use identity::Identity;
pub use link::ConnectionInfo;

use crate::certificate::{Authority, authority};
use crate::transport::settings;
use crate::transport::streams::Opener;
use link::Link;
use registry::Registry;

/// What the edge asks of the store.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Whose token has this SHA-256; `None` for one that does not work, or not any more.
    async fn by_token(&self, sha256: [u8; 32]) -> Result<Option<TokenGrant>, DirectoryError>;
    /// The tunnel of this id; `None` if there is none, or not any more.
    async fn by_id(&self, tunnel: &TunnelId) -> Result<Option<Tunnel>, DirectoryError>;
    /// What is at a domain; `None` if nothing is, or not any more.
    async fn by_domain(&self, domain: &str) -> Result<Option<Tunnel>, DirectoryError>;
}

/// The store could not be asked. It has said why in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tunnels cannot be looked up")]
pub struct DirectoryError;

/// What a token opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenGrant {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Its domain.
    pub domain: String,
    /// Which token it is.
    pub token: TunnelTokenId,
}

/// A tunnel that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// Which.
    pub id: TunnelId,
    /// Who may use it.
    pub workspace: WorkspaceId,
    /// The authorities it trusts now, DER.
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Tunnel {
    /// The authorities that can be read.
    fn trusted(&self) -> Vec<Authority> {
        let all = self.authorities.iter();
        all.filter_map(|der| authority::stored(der).ok()).collect()
    }
}

/// What an operator can set.
#[derive(Debug, Clone)]
pub struct Options {
    /// The domain all tunnels' domains are below, lower case.
    pub domain: String,
    /// Longest time of each step of a gateway's registration.
    pub register: Duration,
    /// Longest time until a gateway has taken a stream and done the inner handshake on it.
    pub open: Duration,
    /// So long after its start a dial waits for a tunnel's first gateway: those of the server that was
    /// here before are on their way.
    pub arrival: Duration,
    /// Connections of gateways that have not registered yet.
    pub half_open: usize,
    /// Of these, connections from one address, or from one /64 of IPv6.
    pub half_open_of_one: usize,
    /// Handshakes of gateways that are begun in a second; whoever comes after that is turned away, and
    /// comes back by himself.
    pub handshakes: u32,
    /// Of these, of one address, or of one /64 of IPv6.
    pub handshakes_of_one: u32,
    /// Between two pings, and the longest wait for the answer to one: after both together a gateway that
    /// is not heard of any more is gone.
    pub ping: Duration,
    /// Between two looks at whether what streams rely on has expired.
    pub look: Duration,
    /// Streams of one tunnel at a time.
    pub max_streams: usize,
    /// Connections of one tunnel at a time.
    pub max_connections: usize,
    /// Bytes a second that all streams of one tunnel may pass together in each direction; `None` for as
    /// many as they can.
    pub bandwidth: Option<u64>,
}

impl Options {
    /// The usual ones.
    pub fn new(domain: impl Into<String>) -> Self {
        Self {
            domain: domain.into(),
            register: Duration::from_secs(5),
            // Two may hang, and another may still be tried before a caller gives up.
            open: Duration::from_secs(4),
            arrival: Duration::from_secs(5),
            half_open: 256,
            half_open_of_one: 32,
            handshakes: 128,
            handshakes_of_one: 32,
            ping: settings::PING,
            look: Duration::from_secs(1),
            max_streams: 1_024,
            max_connections: 64,
            bandwidth: None,
        }
    }
}

/// The edge of one process. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    directory: Arc<dyn Directory>,
    registry: Arc<Registry>,
    options: Arc<Options>,
    ids: IdSource,
}

impl Edge {
    /// Nobody is connected yet.
    pub fn new(directory: Arc<dyn Directory>, options: Options, ids: IdSource) -> Self {
        Self {
            directory,
            registry: Arc::new(Registry::new(options.arrival, options.bandwidth)),
            options: Arc::new(options),
            ids,
        }
    }

    /// Takes gateways' connections until `stop`. Those that are there then go on carrying streams, old
    /// and new, until the server is `idle`: what it still has to finish may need them. Then all streams
    /// end, and the connections are closed.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub async fn serve(
        &self,
        listener: TcpListener,
        identity: &Identity,
        stop: CancellationToken,
        idle: CancellationToken,
    ) -> Result<(), rustls::Error> {
        tokio::select! {
            served = listen::serve(self, listener, identity, stop, idle) => served,
            never = self.expire() => match never {},
        }
    }

    /// Ends streams when their gateways' certificates expire, or the authorities behind these. Time is
    /// read again and again: a timer would know nothing of a clock that is set.
    async fn expire(&self) -> Infallible {
        loop {
            tokio::time::sleep(self.options.look).await;
            self.registry.expire(self.ids.clock().now());
        }
    }

    /// Whether a host is below the domain of tunnels: then it is reached through one, or not at all.
    pub fn covers(&self, host: &str) -> bool {
        host == self.options.domain || self.label(host).is_some()
    }

    /// What stands before the domain of all tunnels.
    fn label<'a>(&self, host: &'a str) -> Option<&'a str> {
        host.strip_suffix(self.options.domain.as_str())?
            .strip_suffix('.')
    }

    /// Something about a tunnel was changed: what is open and would not be opened now ends.
    pub async fn changed(&self, tunnel: &TunnelId) {
        self.registry.note_change(tunnel);
        match self.directory.by_id(tunnel).await {
            Ok(Some(now)) => {
                let trusted = now.trusted().into_iter().map(|a| a.fingerprint);
                let trusted: Vec<_> = trusted.collect();
                self.registry.retrust(tunnel, &trusted);
            }
            // It is gone; and when in doubt nothing stays open.
            Ok(None) | Err(DirectoryError) => self.registry.end(tunnel),
        }
    }

    /// Some tunnel may have been changed elsewhere: all that are open are looked at.
    pub async fn recheck(&self) {
        for tunnel in self.registry.open() {
            self.changed(&tunnel).await;
        }
    }

    /// Other edges can be asked for the gateways that are connected to them. `name` is for logs.
    pub fn join(&self, name: &str, opener: Opener) -> Joined {
        let id: EventId = self.ids.next();
        let link = Link::new(id.to_string(), name.to_owned(), opener, None);
        self.registry.add_edge(Arc::new(link));
        Joined {
            registry: Arc::clone(&self.registry),
            id: id.to_string(),
        }
    }

    /// The gateways' connections of a tunnel.
    pub fn connections(&self, tunnel: &TunnelId) -> Vec<ConnectionInfo> {
        self.registry.connections(tunnel)
    }
}

/// Another edge that can be asked, until this is dropped.
pub struct Joined {
    registry: Arc<Registry>,
    id: String,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.registry.remove_edge(&self.id);
    }
}
