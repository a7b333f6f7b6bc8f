//! Which gateways are connected, and what is open over them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_base::{Timestamp, TunnelId};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::changes::Changes;
use super::link::{ConnectionInfo, Link};
use super::pace::Pace;
use crate::transport::settings;

/// Streams of a connection: each holds one, and so does the registry.
fn streams(link: &Arc<Link>) -> usize {
    Arc::strong_count(link) - 1
}

/// What is open of one tunnel.
#[derive(Default)]
struct Open {
    links: Vec<Arc<Link>>,
    streams: HashMap<u64, Stream>,
    /// How TLS is spoken with its gateways as long as these are trusted.
    config: Option<(Vec<String>, Arc<ClientConfig>)>,
    /// How fast its streams may be together.
    pace: Option<Arc<Pace>>,
}

/// A stream, and what it relies on.
struct Stream {
    /// Fingerprints of authorities, all of which must be trusted.
    trusted: Vec<String>,
    /// Until when they vouch for its gateway; `None` before the handshake.
    until: Option<Timestamp>,
    /// Ends it.
    over: CancellationToken,
}

impl Stream {
    fn has_expired(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now > until)
    }
}

impl Open {
    /// Ends everything; the streams are counted until they are gone.
    fn end(&mut self) {
        self.links.drain(..).for_each(|link| link.over.cancel());
        self.streams.values().for_each(|s| s.over.cancel());
        self.config = None;
    }
}

type Tunnels = HashMap<TunnelId, Open>;

/// Of these, those through which one more stream may go: a healthy one before any other, and of those
/// the one with the least to do.
fn best(links: &[Arc<Link>], tried: &[String]) -> Next {
    let left = |l: &&Arc<Link>| !l.opener.is_closed() && !tried.contains(&l.id);
    let room = |l: &&Arc<Link>| streams(l) < settings::MAX_STREAMS as usize;
    let load = |l: &&Arc<Link>| (!l.is_healthy(), streams(l));
    let picked = links.iter().filter(left).filter(room).min_by_key(load);
    match picked {
        Some(link) => Next::Link(Arc::clone(link)),
        None if links.iter().any(|l| left(&l)) => Next::Full,
        None => Next::None,
    }
}

/// Forgets a tunnel of which nothing is open.
fn tidy(tunnels: &mut Tunnels, tunnel: &TunnelId) {
    let unused = |open: &Open| open.links.is_empty() && open.streams.is_empty();
    if tunnels.get(tunnel).is_some_and(unused) {
        tunnels.remove(tunnel);
    }
}

/// All tunnels that have something open, and when each was changed.
pub(super) struct Registry {
    tunnels: Mutex<Tunnels>,
    changes: Changes,
    /// Streams there have been.
    count: AtomicU64,
    /// Until when gateways of a server before this one may be expected.
    expected: Instant,
    arrivals: watch::Sender<u64>,
    /// Other edges, through which their gateways are reached.
    edges: Mutex<Vec<Arc<Link>>>,
    /// Bytes a second that a tunnel may pass in each direction.
    bandwidth: Option<u64>,
}

/// Why there is no place.
pub(super) enum NoPlace {
    /// The tunnel has as many streams as it may.
    Busy,
    /// It was changed since it was looked up: what is known of it may not hold any more.
    Changed,
}

/// The connection to try next.
pub(super) enum Next {
    Link(Arc<Link>),
    /// All that are left have as many streams as they may.
    Full,
    /// None is left.
    None,
}

/// A stream's place among those of its tunnel.
pub(super) struct Place {
    registry: Arc<Registry>,
    tunnel: TunnelId,
    stream: u64,
    over: CancellationToken,
    pace: Option<Arc<Pace>>,
}

impl Place {
    /// What ends the stream.
    pub(super) fn over(&self) -> CancellationToken {
        self.over.clone()
    }

    /// How fast it may be together with the others, if that is limited.
    pub(super) fn pace(&self) -> Option<Arc<Pace>> {
        self.pace.clone()
    }

    /// Whether what the stream relies on has expired at `now`.
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        let tunnels = self.registry.lock();
        let open = tunnels.get(&self.tunnel);
        let stream = open.and_then(|open| open.streams.get(&self.stream));
        stream.is_some_and(|stream| stream.has_expired(now))
    }

    /// It is known now which authority vouches for the gateway, and until when: the others may go.
    /// Whether that holds: not if the tunnel was changed `since` it was looked up.
    pub(super) fn rely_on(&self, authority: &str, until: Timestamp, since: u64) -> bool {
        let mut tunnels = self.registry.lock();
        // Whoever changes it says so first, and waits for this lock then: what is not stale here is gone
        // through.
        if self.registry.is_stale(&self.tunnel, since) {
            return false;
        }
        let open = tunnels.get_mut(&self.tunnel);
        let Some(stream) = open.and_then(|open| open.streams.get_mut(&self.stream)) else {
            return false;
        };
        stream.trusted = vec![authority.to_owned()];
        stream.until = Some(until);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut tunnels = self.registry.lock();
        if let Some(open) = tunnels.get_mut(&self.tunnel) {
            open.streams.remove(&self.stream);
        }
        tidy(&mut tunnels, &self.tunnel);
    }
}

impl Registry {
    /// Nothing is open, and for so long gateways may be expected. A tunnel may pass so many bytes a
    /// second in each direction.
    pub(super) fn new(arrival: Duration, bandwidth: Option<u64>) -> Self {
        Self {
            tunnels: Mutex::default(),
            changes: Changes::default(),
            count: AtomicU64::new(0),
            expected: Instant::now() + arrival,
            arrivals: watch::Sender::default(),
            edges: Mutex::default(),
            bandwidth,
        }
    }

    /// To be asked before a tunnel is looked up.
    pub(super) fn now(&self) -> u64 {
        self.changes.count()
    }

    /// A tunnel was changed. To be called before what is open is gone through.
    pub(super) fn note_change(&self, tunnel: &TunnelId) {
        self.changes.note(tunnel);
    }

    /// Whether the tunnel was changed `since`.
    pub(super) fn is_stale(&self, tunnel: &TunnelId, since: u64) -> bool {
        self.changes.is_stale(tunnel, since)
    }

    /// Takes a connection, unless the tunnel has as many as it may, or was changed `since` its token was
    /// looked up.
    pub(super) fn add(&self, tunnel: &TunnelId, link: Arc<Link>, max: usize, since: u64) -> bool {
        let mut tunnels = self.lock();
        if self.is_stale(tunnel, since) {
            return false;
        }
        let open = tunnels.entry(tunnel.clone()).or_default();
        let live = open.links.iter().filter(|l| !l.opener.is_closed());
        let room = live.count() < max;
        if room {
            open.links.push(link);
            self.arrivals.send_modify(|n| *n += 1);
        }
        tidy(&mut tunnels, tunnel);
        room
    }

    pub(super) fn remove(&self, tunnel: &TunnelId, id: &str) {
        let mut tunnels = self.lock();
        if let Some(open) = tunnels.get_mut(tunnel) {
            open.links.retain(|l| l.id != id);
        }
        tidy(&mut tunnels, tunnel);
    }

    /// The gateway's connection to try next.
    pub(super) fn pick(&self, tunnel: &TunnelId, tried: &[String]) -> Next {
        let tunnels = self.lock();
        let links = tunnels.get(tunnel).map_or(&[][..], |o| &o.links);
        best(links, tried)
    }

    /// The other edge to try next: a gateway may be connected there.
    pub(super) fn pick_edge(&self, tried: &[String]) -> Next {
        best(&self.edges(), tried)
    }

    /// Another edge can be reached, until it is removed.
    pub(super) fn add_edge(&self, link: Arc<Link>) {
        self.edges().push(link);
        self.arrivals.send_modify(|n| *n += 1);
    }

    pub(super) fn remove_edge(&self, id: &str) {
        self.edges().retain(|l| l.id != id);
    }

    /// Changes with each gateway and each other edge that comes.
    pub(super) fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// Until when gateways of a server before this one may be expected.
    pub(super) fn expected(&self) -> Instant {
        self.expected
    }

    /// How TLS is spoken with the gateways of a tunnel: what was made for the same `trusted` before, if
    /// a gateway is connected since.
    pub(super) fn config(
        &self,
        tunnel: &TunnelId,
        trusted: &[String],
        make: impl FnOnce() -> Result<Arc<ClientConfig>, rustls::Error>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut tunnels = self.lock();
        let Some(open) = tunnels.get_mut(tunnel) else {
            drop(tunnels);
            return make();
        };
        if let Some((then, config)) = &open.config
            && then == trusted
        {
            return Ok(Arc::clone(config));
        }
        let made = make()?;
        open.config = Some((trusted.to_vec(), Arc::clone(&made)));
        Ok(made)
    }

    /// A place for one more stream to a tunnel that was looked up `since`.
    pub(super) fn place(
        self: &Arc<Self>,
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
        if open.streams.len() >= max {
            return Err(NoPlace::Busy);
        }
        if open.pace.is_none() {
            open.pace = self.bandwidth.map(Pace::new);
        }
        let pace = open.pace.clone();
        let over = CancellationToken::new();
        let id = self.count.fetch_add(1, Ordering::Relaxed);
        let stream = Stream {
            trusted: trusted.to_vec(),
            until: None,
            over: over.clone(),
        };
        open.streams.insert(id, stream);
        Ok(Place {
            registry: Arc::clone(self),
            tunnel: tunnel.clone(),
            stream: id,
            over,
            pace,
        })
    }

    /// Ends the streams that rely on what is not trusted any more.
    pub(super) fn retrust(&self, tunnel: &TunnelId, trusted: &[String]) {
        let mut tunnels = self.lock();
        if let Some(open) = tunnels.get_mut(tunnel) {
            open.config.take_if(|(then, _)| then != trusted);
            let stays = |stream: &&Stream| stream.trusted.iter().all(|t| trusted.contains(t));
            let gone = open.streams.values().filter(|stream| !stays(stream));
            gone.for_each(|stream| stream.over.cancel());
        }
    }

    /// Ends the streams for whose gateways nobody vouches any more.
    pub(super) fn expire(&self, now: Timestamp) {
        let tunnels = self.lock();
        let streams = tunnels.values().flat_map(|open| open.streams.values());
        let expired = streams.filter(|stream| stream.has_expired(now));
        expired.for_each(|stream| stream.over.cancel());
    }

    /// Ends everything of a tunnel.
    pub(super) fn end(&self, tunnel: &TunnelId) {
        let mut tunnels = self.lock();
        if let Some(open) = tunnels.get_mut(tunnel) {
            open.end();
        }
        tidy(&mut tunnels, tunnel);
    }

    /// Ends everything.
    pub(super) fn end_all(&self) {
        let mut tunnels = self.lock();
        tunnels.values_mut().for_each(Open::end);
        tunnels.retain(|_, open| !open.streams.is_empty());
    }

    pub(super) fn connections(&self, tunnel: &TunnelId) -> Vec<ConnectionInfo> {
        let tunnels = self.lock();
        let links = tunnels.get(tunnel).map_or(&[][..], |o| &o.links);
        let live = links.iter().filter(|l| !l.opener.is_closed());
        let info = |link: &Arc<Link>| {
            let registered = link.registered.as_ref()?;
            Some(ConnectionInfo {
                id: link.id.clone(),
                gateway: link.gateway.clone(),
                source: registered.source,
                token: registered.token.clone(),
                since: registered.since,
                streams: streams(link),
                healthy: link.is_healthy(),
            })
        };
        live.filter_map(info).collect()
    }

    /// Tunnels of which something is open.
    pub(super) fn open(&self) -> Vec<TunnelId> {
        self.lock().keys().cloned().collect()
    }

    fn edges(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.edges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Tunnels> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Result<Arc<ClientConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let roots = rustls::RootCertStore::empty();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Arc::new(config))
    }

    #[test]
    fn nothing_is_remembered_of_a_tunnel_of_which_nothing_is_open() {
        let registry = Arc::new(Registry::new(Duration::ZERO, None));
        let tunnel: TunnelId = "tnl_1".parse().unwrap();
        let trusted = ["a".to_owned()];
        let place = || registry.place(&tunnel, &trusted, 2, 0).ok().unwrap();
        let (first, second) = (place(), place());
        assert!(registry.place(&tunnel, &trusted, 2, 0).is_err());
        registry.end(&tunnel);
        assert!(registry.place(&tunnel, &trusted, 2, 0).is_err());
        drop(first);
        assert_eq!(registry.lock().len(), 1);
        drop(second);
        assert!(registry.lock().is_empty());
    }

    #[test]
    fn how_tls_is_spoken_is_kept_for_the_same_authorities_alone() {
        let registry = Arc::new(Registry::new(Duration::ZERO, None));
        let tunnel: TunnelId = "tnl_1".parse().unwrap();
        let (one, other) = (["a".to_owned()], ["b".to_owned()]);
        let _place = registry.place(&tunnel, &one, 1, 0).ok().unwrap();
        let get = |trusted: &[String]| registry.config(&tunnel, trusted, config).unwrap();
        let first = get(&one);
        assert!(Arc::ptr_eq(&first, &get(&one)));
        let changed = get(&other);
        assert!(!Arc::ptr_eq(&first, &changed));
        registry.retrust(&tunnel, &one);
        assert!(!Arc::ptr_eq(&changed, &get(&other)));
    }
}
