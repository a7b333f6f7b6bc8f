//! Which gateways are connected, and what is open over them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use freehold_base::{Timestamp, TunnelId, TunnelTokenId};
use http::{Method, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2::SendRequest;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

/// Handshakes in a row that may fail before a connection is used only when there is no other.
const UNHEALTHY: u32 = 3;

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
    /// Whether its last handshakes worked.
    pub healthy: bool,
}

/// A gateway's connection.
pub(super) struct Link {
    pub(super) id: String,
    pub(super) gateway: String,
    pub(super) source: SocketAddr,
    pub(super) token: TunnelTokenId,
    pub(super) since: Timestamp,
    pub(super) sender: SendRequest<Empty<Bytes>>,
    /// Ends it.
    pub(super) over: CancellationToken,
    failures: AtomicU32,
}

/// How opening a stream went.
pub(super) enum Opened {
    Stream(TokioIo<Upgraded>),
    Refused(StatusCode),
    Gone,
}

impl Link {
    pub(super) fn new(
        id: String,
        gateway: String,
        source: SocketAddr,
        token: TunnelTokenId,
        since: Timestamp,
        sender: SendRequest<Empty<Bytes>>,
    ) -> Self {
        Self {
            id,
            gateway,
            source,
            token,
            since,
            sender,
            over: CancellationToken::new(),
            failures: AtomicU32::new(0),
        }
    }

    pub(super) async fn open(&self, host: &str) -> Opened {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::CONNECT;
        let Ok(uri) = format!("{host}:443").parse() else {
            return Opened::Refused(StatusCode::BAD_REQUEST);
        };
        *request.uri_mut() = uri;
        let mut sender = self.sender.clone();
        let response = async {
            sender.ready().await.ok()?;
            sender.send_request(request).await.ok()
        };
        let response = response.await;
        let Some(response) = response else {
            return Opened::Gone;
        };
        if response.status() != StatusCode::OK {
            return Opened::Refused(response.status());
        }
        match hyper::upgrade::on(response).await {
            Ok(stream) => Opened::Stream(TokioIo::new(stream)),
            Err(_) => Opened::Gone,
        }
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    fn is_healthy(&self) -> bool {
        self.failures.load(Ordering::Relaxed) < UNHEALTHY
    }
}

#[derive(Default)]
struct Open {
    links: Vec<Arc<Link>>,
    /// Streams, by what they rely on.
    trusts: Vec<(Vec<String>, CancellationToken)>,
    streams: Arc<AtomicUsize>,
}

impl Open {
    /// What ends the streams for which all of `trusted` must be trusted.
    fn over(&mut self, trusted: &[String]) -> CancellationToken {
        let known = self.trusts.iter().find(|(t, _)| t == trusted);
        if let Some((_, over)) = known {
            return over.clone();
        }
        let over = CancellationToken::new();
        self.trusts.push((trusted.to_vec(), over.clone()));
        over
    }
}

/// All tunnels that have something open, and when each was changed.
#[derive(Default)]
pub(super) struct Registry {
    tunnels: Mutex<HashMap<TunnelId, Open>>,
    changes: Mutex<Changes>,
}

/// Counts changes, and notes for each tunnel the last one.
#[derive(Default)]
struct Changes {
    count: u64,
    last: HashMap<TunnelId, u64>,
}

/// Why there is no place.
pub(super) enum NoPlace {
    /// The tunnel has as many streams as it may.
    Busy,
    /// It was changed since it was looked up: what is known of it may not hold any more.
    Changed,
}

/// A stream's place among those of its tunnel.
pub(super) struct Place {
    streams: Arc<AtomicUsize>,
    over: CancellationToken,
}

impl Place {
    pub(super) fn over(&self) -> CancellationToken {
        self.over.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Registry {
    /// To be asked before a tunnel is looked up.
    pub(super) fn now(&self) -> u64 {
        self.changes().count
    }

    /// A tunnel was changed. To be called before what is open is gone through.
    pub(super) fn note_change(&self, tunnel: &TunnelId) {
        let mut changes = self.changes();
        changes.count += 1;
        let count = changes.count;
        changes.last.insert(tunnel.clone(), count);
    }

    /// Whether the tunnel was changed `since`.
    pub(super) fn is_stale(&self, tunnel: &TunnelId, since: u64) -> bool {
        self.changes()
            .last
            .get(tunnel)
            .is_some_and(|at| *at > since)
    }

    /// Takes a connection, unless the tunnel has as many as it may, or was changed `since` its token was
    /// looked up.
    pub(super) fn add(&self, tunnel: &TunnelId, link: Arc<Link>, max: usize, since: u64) -> bool {
        let mut tunnels = self.lock();
        if self.is_stale(tunnel, since) {
            return false;
        }
        let open = tunnels.entry(tunnel.clone()).or_default();
        open.links.retain(|l| !l.sender.is_closed());
        let room = open.links.len() < max;
        if room {
            open.links.push(link);
        }
        room
    }

    pub(super) fn remove(&self, tunnel: &TunnelId, id: &str) {
        let mut tunnels = self.lock();
        if let Some(open) = tunnels.get_mut(tunnel) {
            open.links.retain(|l| l.id != id);
            if open.links.is_empty() && open.streams.load(Ordering::Relaxed) == 0 {
                tunnels.remove(tunnel);
            }
        }
    }

    /// The connection to try next: a healthy one before any other, and of those the one with the least
    /// to do.
    pub(super) fn pick(&self, tunnel: &TunnelId, tried: &[String]) -> Option<Arc<Link>> {
        let tunnels = self.lock();
        let links = tunnels.get(tunnel)?.links.iter();
        let left = links.filter(|l| !l.sender.is_closed() && !tried.contains(&l.id));
        let load = |l: &&Arc<Link>| (!l.is_healthy(), Arc::strong_count(l));
        left.min_by_key(load).map(Arc::clone)
    }

    /// A place for one more stream to a tunnel that was looked up `since`.
    pub(super) fn place(
        &self,
        tunnel: &TunnelId,
        trusted: &[String],
        max: usize,
        since: u64,
    ) -> Result<Place, NoPlace> {
        let mut tunnels = self.lock();
        if self.is_stale(tunnel, since) {
            return Err(NoPlace::Changed);
        }
        let open = tunnels.entry(tunnel.clone()).or_default();
        if open.streams.load(Ordering::Relaxed) >= max {
            return Err(NoPlace::Busy);
        }
        open.streams.fetch_add(1, Ordering::Relaxed);
        Ok(Place {
            streams: Arc::clone(&open.streams),
            over: open.over(trusted),
        })
    }

    /// What ends a stream once it is known which authority vouched for its gateway: the others may go.
    /// `None` if the tunnel was changed `since` it was looked up.
    pub(super) fn rely_on(
        &self,
        tunnel: &TunnelId,
        authority: &str,
        since: u64,
    ) -> Option<CancellationToken> {
        let mut tunnels = self.lock();
        // Whoever changes it says so first, and waits for this lock then: what is not stale here is gone
        // through.
        if self.is_stale(tunnel, since) {
            return None;
        }
        let open = tunnels.get_mut(tunnel)?;
        Some(open.over(&[authority.to_owned()]))
    }

    /// Ends the streams that rely on what is not trusted any more.
    pub(super) fn retrust(&self, tunnel: &TunnelId, trusted: &[String]) {
        let mut tunnels = self.lock();
        if let Some(open) = tunnels.get_mut(tunnel) {
            open.trusts.retain(|(then, over)| {
                let stays = then.iter().all(|t| trusted.contains(t));
                if !stays {
                    over.cancel();
                }
                stays
            });
        }
    }

    /// Ends everything of a tunnel.
    pub(super) fn end(&self, tunnel: &TunnelId) {
        let open = self.lock().remove(tunnel);
        if let Some(open) = open {
            open.links.iter().for_each(|link| link.over.cancel());
            open.trusts.iter().for_each(|(_, over)| over.cancel());
        }
    }

    pub(super) fn connections(&self, tunnel: &TunnelId) -> Vec<ConnectionInfo> {
        let tunnels = self.lock();
        let links = tunnels.get(tunnel).map_or(&[][..], |o| &o.links);
        let live = links.iter().filter(|l| !l.sender.is_closed());
        let info = |link: &Arc<Link>| ConnectionInfo {
            id: link.id.clone(),
            gateway: link.gateway.clone(),
            source: link.source,
            token: link.token.clone(),
            since: link.since,
            // Each stream holds one, and so does the registry.
            streams: Arc::strong_count(link) - 1,
            healthy: link.is_healthy(),
        };
        live.map(info).collect()
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TunnelId, Open>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
