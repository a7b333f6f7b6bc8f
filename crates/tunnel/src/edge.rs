//! The edge: takes connections from gateways, and opens streams over them for whoever calls a server
//! behind a tunnel. It sees names and ciphertext.

mod guarded;
pub mod identity;
mod listen;
mod registry;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{IdSource, TunnelId, TunnelTokenId, WorkspaceId};
use http::StatusCode;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

pub use guarded::Guarded;
pub use identity::Identity;
pub use registry::ConnectionInfo;

use crate::certificate::{Authority, authority, verifier};
use registry::{Link, NoPlace, Opened, Registry};

/// What the edge asks of the store.
#[async_trait]
pub trait Directory: Send + Sync + 'static {
    /// Whose token has this SHA-256; `None` for one that does not work, or not any more.
    async fn by_token(&self, sha256: [u8; 32]) -> Result<Option<TokenGrant>, DirectoryError>;
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
    /// Longest time until a gateway has taken a stream, and of the inner handshake.
    pub open: Duration,
    /// Connections of gateways that have not registered yet.
    pub half_open: usize,
    /// Streams of one tunnel at a time.
    pub max_streams: usize,
    /// Connections of one tunnel at a time.
    pub max_connections: usize,
}

impl Options {
    /// The usual ones.
    pub fn new(domain: impl Into<String>) -> Self {
        Self {
            domain: domain.into(),
            register: Duration::from_secs(5),
            open: Duration::from_secs(10),
            half_open: 256,
            max_streams: 1_024,
            max_connections: 64,
        }
    }
}

/// Why a server behind a tunnel was not reached. The texts are for clients.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialFailure {
    /// No such tunnel for this workspace; the same text whatever the reason.
    #[error("there is no tunnel for this host")]
    Unknown,
    /// The tunnel trusts nobody.
    #[error("the tunnel has no active certificate, so no gateway can be trusted")]
    NoCertificate,
    /// No gateway is connected.
    #[error("no gateway of the tunnel is connected")]
    NoGateway,
    /// Too many streams.
    #[error("the tunnel has as many connections open as it may")]
    Busy,
    /// The tunnel was changed while it was dialled; another attempt sees it as it is now.
    #[error("the tunnel was changed; try again")]
    Changed,
    /// The gateway knows no such server.
    #[error("the gateway has no route for this host")]
    NoRoute,
    /// The gateway did not show what it must.
    #[error("the gateway's certificate was not accepted: {0}")]
    Certificate(String),
    /// Something broke.
    #[error("the tunnel failed: {0}")]
    Broken(String),
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
            registry: Arc::default(),
            options: Arc::new(options),
            ids,
        }
    }

    /// Takes gateways' connections until `stop`.
    ///
    /// # Errors
    /// The identity cannot be used.
    pub async fn serve(
        &self,
        listener: TcpListener,
        identity: &Identity,
        stop: CancellationToken,
    ) -> Result<(), rustls::Error> {
        listen::serve(self, listener, identity, stop).await
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

    /// Opens a connection to a server behind a tunnel, with the inner TLS done. `host` is exactly one
    /// label and a tunnel's domain, in lower case.
    ///
    /// # Errors
    /// [`DialFailure`].
    pub async fn dial(
        &self,
        workspace: &WorkspaceId,
        host: &str,
    ) -> Result<tokio_rustls::client::TlsStream<Guarded>, DialFailure> {
        let since = self.registry.now();
        let tunnel = self.find(workspace, host).await?;
        let authorities = tunnel.trusted();
        if authorities.is_empty() {
            return Err(DialFailure::NoCertificate);
        }
        let trusted: Vec<_> = authorities.iter().map(|a| a.fingerprint.clone()).collect();
        let config = verifier::client_config(authorities.clone(), self.ids.clock().clone())
            .map_err(|e| DialFailure::Broken(e.to_string()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialFailure::Unknown)?;
        let connector = TlsConnector::from(config);
        let mut tried = Vec::new();
        let mut last = DialFailure::NoGateway;
        while let Some(link) = self.registry.pick(&tunnel.id, &tried) {
            tried.push(link.id.clone());
            let opened = self.open(&tunnel, &link, host, &trusted, since).await;
            let stream = match opened {
                Ok(stream) => stream,
                // The stream was not taken, so nothing was sent on it: another may.
                Err(failure @ (DialFailure::Busy | DialFailure::Changed)) => return Err(failure),
                Err(failure) => {
                    last = failure;
                    continue;
                }
            };
            let shaken =
                tokio::time::timeout(self.options.open, connector.connect(name.clone(), stream));
            match shaken.await {
                Ok(Ok(mut stream)) => {
                    link.succeeded();
                    let (guarded, session) = stream.get_mut();
                    let shown = session.peer_certificates().and_then(|chain| chain.first());
                    let issuer = shown.and_then(|leaf| verifier::issuer(&authorities, leaf));
                    let over = issuer.and_then(|issuer| {
                        self.registry
                            .rely_on(&tunnel.id, &issuer.fingerprint, since)
                    });
                    guarded.rely_on(over.ok_or(DialFailure::Changed)?);
                    return Ok(stream);
                }
                // The change ended the stream; the gateway did nothing wrong.
                Ok(Err(_)) if self.registry.is_stale(&tunnel.id, since) => {
                    return Err(DialFailure::Changed);
                }
                Ok(Err(error)) => {
                    link.failed();
                    last = match error
                        .get_ref()
                        .and_then(|e| e.downcast_ref::<rustls::Error>())
                    {
                        Some(rustls::Error::InvalidCertificate(why)) => {
                            DialFailure::Certificate(why.to_string())
                        }
                        _ => DialFailure::Broken(format!("no TLS with the gateway: {error}")),
                    };
                    tracing::warn!(tunnel = %tunnel.id, connection = %link.id, gateway = link.gateway, error = %last, "inner handshake failed");
                }
                Err(_) => {
                    link.failed();
                    last =
                        DialFailure::Broken("the gateway did not finish the handshake".to_owned());
                }
            }
        }
        Err(last)
    }

    async fn find(&self, workspace: &WorkspaceId, host: &str) -> Result<Tunnel, DialFailure> {
        let (route, domain) = host.split_once('.').ok_or(DialFailure::Unknown)?;
        let single = self.label(domain).is_some_and(|label| !label.contains('.'));
        let fits = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !single || route.is_empty() || route.len() > 63 || !route.bytes().all(fits) {
            return Err(DialFailure::Unknown);
        }
        let found = self.directory.by_domain(domain).await;
        let found = found.map_err(|e| DialFailure::Broken(e.to_string()))?;
        found
            .filter(|tunnel| tunnel.workspace == *workspace)
            .ok_or(DialFailure::Unknown)
    }

    async fn open(
        &self,
        tunnel: &Tunnel,
        link: &Arc<Link>,
        host: &str,
        trusted: &[String],
        since: u64,
    ) -> Result<Guarded, DialFailure> {
        let max = self.options.max_streams;
        let place = match self.registry.place(&tunnel.id, trusted, max, since) {
            Ok(place) => place,
            Err(NoPlace::Busy) => return Err(DialFailure::Busy),
            Err(NoPlace::Changed) => return Err(DialFailure::Changed),
        };
        let opened = tokio::time::timeout(self.options.open, link.open(host)).await;
        match opened {
            Ok(Opened::Stream(stream)) => {
                tracing::debug!(tunnel = %tunnel.id, connection = %link.id, host, "stream opened");
                Ok(Guarded::new(stream, place, Arc::clone(link)))
            }
            Ok(Opened::Refused(StatusCode::NOT_FOUND)) => Err(DialFailure::NoRoute),
            Ok(Opened::Refused(status)) => Err(DialFailure::Broken(format!(
                "the gateway answered {status}"
            ))),
            Ok(Opened::Gone) => Err(DialFailure::NoGateway),
            Err(_) => Err(DialFailure::Broken(
                "the gateway does not take the stream".to_owned(),
            )),
        }
    }

    /// Something about a tunnel was changed: what is open and would not be opened now ends.
    pub async fn changed(&self, tunnel: &TunnelId, domain: &str) {
        self.registry.note_change(tunnel);
        match self.directory.by_domain(domain).await {
            Ok(Some(now)) => {
                let trusted = now.trusted().into_iter().map(|a| a.fingerprint);
                let trusted: Vec<_> = trusted.collect();
                self.registry.retrust(tunnel, &trusted);
            }
            // It is gone; and when in doubt nothing stays open.
            Ok(None) | Err(DirectoryError) => self.registry.end(tunnel),
        }
    }

    /// The gateways' connections of a tunnel.
    pub fn connections(&self, tunnel: &TunnelId) -> Vec<ConnectionInfo> {
        self.registry.connections(tunnel)
    }
}
