//! From a host to a connection with the gateway that serves it, with the inner TLS done.

use std::sync::Arc;

use freehold_base::WorkspaceId;
use http::StatusCode;
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::guarded::{Guarded, Record};
use super::link::Link;
use super::registry::{Next, NoPlace};
use super::{Edge, Tunnel};
use crate::certificate::{Authority, verifier};
use crate::transport::streams::{Bidirectional, Opened};

/// What an edge says to another that asks for a gateway that is not connected here.
const NO_GATEWAY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

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

/// A tunnel as it was looked up.
struct Found {
    tunnel: Tunnel,
    authorities: Vec<Authority>,
    /// Fingerprints of the authorities.
    trusted: Vec<String>,
    /// When, as the registry counts.
    since: u64,
}

impl Edge {
    /// Opens a connection to a server behind a tunnel, with the inner TLS done. `host` is exactly one
    /// label and a tunnel's domain, in lower case.
    ///
    /// # Errors
    /// [`DialFailure`].
    pub async fn dial(
        &self,
        workspace: &WorkspaceId,
        host: &str,
    ) -> Result<TlsStream<Guarded>, DialFailure> {
        let since = self.registry.now();
        let tunnel = self.find(workspace, host).await?;
        let authorities = tunnel.trusted();
        if authorities.is_empty() {
            return Err(DialFailure::NoCertificate);
        }
        let trusted: Vec<_> = authorities.iter().map(|a| a.fingerprint.clone()).collect();
        let make = || verifier::client_config(authorities.clone(), self.ids.clock().clone());
        let config = self.registry.config(&tunnel.id, &trusted, make);
        let connector = TlsConnector::from(config.map_err(|e| DialFailure::Broken(e.to_string()))?);
        let found = Found {
            tunnel,
            authorities,
            trusted,
            since,
        };
        let mut arrivals = self.registry.arrivals();
        loop {
            arrivals.mark_unchanged();
            let dialled = self.try_all(&found, &connector, host).await;
            let nobody = matches!(dialled, Err(DialFailure::NoGateway));
            // Those of a server before this one may be on their way.
            let expected = self.registry.expected();
            if !nobody || timeout_at(expected, arrivals.changed()).await.is_err() {
                return dialled;
            }
        }
    }

    /// Tries one connection after another: the gateways' that are here, then other edges.
    async fn try_all(
        &self,
        found: &Found,
        connector: &TlsConnector,
        host: &str,
    ) -> Result<TlsStream<Guarded>, DialFailure> {
        let mut tried = Vec::new();
        let mut last = DialFailure::NoGateway;
        loop {
            let next = match self.registry.pick(&found.tunnel.id, &tried) {
                Next::None => self.registry.pick_edge(&tried),
                here => here,
            };
            let link = match next {
                Next::Link(link) => link,
                Next::Full => return Err(DialFailure::Busy),
                Next::None => return Err(last),
            };
            tried.push(link.id.clone());
            match self.through(found, &link, connector, host).await {
                Ok(stream) => return Ok(stream),
                Err(failure @ (DialFailure::Busy | DialFailure::Changed)) => return Err(failure),
                // It says less than what failed before.
                Err(DialFailure::NoGateway) => {}
                // Nothing of the caller's was sent: another may serve.
                Err(failure) => last = failure,
            }
        }
    }

    /// A stream to a server behind a tunnel for another edge, which does the inner TLS: over a gateway's
    /// connection that is here.
    ///
    /// # Errors
    /// How the stream is refused: 503 if no gateway of the tunnel is connected here.
    pub async fn relay(&self, host: &str) -> Result<Bidirectional, StatusCode> {
        let domain = host.split_once('.').ok_or(StatusCode::NOT_FOUND)?.1;
        let found = self.directory.by_domain(domain).await;
        let Ok(Some(tunnel)) = found else {
            return Err(NO_GATEWAY);
        };
        let mut tried = Vec::new();
        loop {
            let link = match self.registry.pick(&tunnel.id, &tried) {
                Next::Link(link) => link,
                Next::Full | Next::None => return Err(NO_GATEWAY),
            };
            tried.push(link.id.clone());
            match timeout(self.options.open, link.opener.open(host)).await {
                Ok(Opened::Stream(stream)) => return Ok(stream),
                Ok(Opened::Refused(status)) => return Err(status),
                Ok(Opened::Gone | Opened::Reset) | Err(_) => link.failed(),
            }
        }
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

    /// A stream over this connection, with the inner TLS done.
    async fn through(
        &self,
        found: &Found,
        link: &Arc<Link>,
        connector: &TlsConnector,
        host: &str,
    ) -> Result<TlsStream<Guarded>, DialFailure> {
        let (tunnel, since) = (&found.tunnel.id, found.since);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialFailure::Unknown)?;
        let until = Instant::now() + self.options.open;
        let stream = self.open(found, link, host, until).await?;
        let shaken = timeout_at(until, connector.connect(name, stream)).await;
        let failure = match shaken {
            Ok(Ok(mut stream)) => {
                link.succeeded();
                let (guarded, session) = stream.get_mut();
                let shown = session.peer_certificates().and_then(|chain| chain.first());
                let vouched = shown.and_then(|leaf| verifier::vouched(&found.authorities, leaf));
                let holds = vouched.is_some_and(|(authority, until)| {
                    guarded.rely_on(&authority.fingerprint, until, since)
                });
                return holds.then_some(stream).ok_or(DialFailure::Changed);
            }
            // The change ended the stream; the gateway did nothing wrong.
            Ok(Err(_)) if self.registry.is_stale(tunnel, since) => {
                return Err(DialFailure::Changed);
            }
            Ok(Err(error)) => {
                let inner = error.get_ref().and_then(|e| e.downcast_ref());
                match inner {
                    Some(rustls::Error::InvalidCertificate(why)) => {
                        DialFailure::Certificate(why.to_string())
                    }
                    _ => DialFailure::Broken(format!("no TLS with the gateway: {error}")),
                }
            }
            Err(_) => DialFailure::Broken("the gateway did not finish the handshake".to_owned()),
        };
        link.failed();
        tracing::warn!(%tunnel, connection = %link.id, gateway = link.gateway, error = %failure, "inner handshake failed");
        Err(failure)
    }

    async fn open(
        &self,
        found: &Found,
        link: &Arc<Link>,
        host: &str,
        until: Instant,
    ) -> Result<Guarded, DialFailure> {
        let (tunnel, max) = (&found.tunnel, self.options.max_streams);
        let place = self
            .registry
            .place(&tunnel.id, &found.trusted, max, found.since);
        let place = place.map_err(|no| match no {
            NoPlace::Busy => DialFailure::Busy,
            NoPlace::Changed => DialFailure::Changed,
        })?;
        let record = Record::new(tunnel.id.clone(), tunnel.workspace.clone(), host);
        let failure = match timeout_at(until, link.opener.open(host)).await {
            Ok(Opened::Stream(stream)) => {
                let clock = self.ids.clock().clone();
                return Ok(Guarded::new(stream, record, place, Arc::clone(link), clock));
            }
            Ok(Opened::Refused(StatusCode::NOT_FOUND)) => return Err(DialFailure::NoRoute),
            Ok(Opened::Gone) => return Err(DialFailure::NoGateway),
            Ok(Opened::Refused(NO_GATEWAY)) if link.registered.is_none() => {
                return Err(DialFailure::NoGateway);
            }
            Ok(Opened::Refused(status)) => {
                DialFailure::Broken(format!("the gateway answered {status}"))
            }
            Ok(Opened::Reset) | Err(_) => {
                DialFailure::Broken("the gateway does not take the stream".to_owned())
            }
        };
        link.failed();
        tracing::warn!(tunnel = %tunnel.id, connection = %link.id, gateway = link.gateway, error = %failure, "no stream");
        Err(failure)
    }
}
