//! Peers that mean no good.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

mod between;
mod frames;
mod middle;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use freehold_tunnel::edge::{Guarded, Options};
use freehold_tunnel::transport::connect::{Incoming, Target, connect};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, client};
use tokio_util::sync::CancellationToken;

use crate::world::{TOKEN, World, options};

pub use between::*;
pub use frames::*;
pub use middle::*;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, done).await;
    done.unwrap_or_else(|_| panic!("waited too long for: {what}"))
}

/// Asks again and again, with a pause between.
pub async fn until(what: &str, is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, wait).await;
}

/// One whose edge waits shortly for gateways.
pub async fn impatient() -> World {
    let options = Options {
        open: Duration::from_secs(2),
        ..options()
    };
    World::start_with(options, |direct| direct).await
}

/// Streams over the honest connections, so that the next is asked of the hostile one, which has none.
pub async fn busy(world: &World) -> Vec<client::TlsStream<Guarded>> {
    let mut held = Vec::new();
    for _ in world.edge.connections(&world.tunnel) {
        held.push(world.dial().await.unwrap());
    }
    held
}

/// Bytes this process has in memory.
pub fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// Processor time this process has taken.
pub fn worked() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // After the name, which may hold anything.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// What a hostile peer may make us work for, however many frames it sends: much more than it takes here, and
/// much less than without a bound.
const WORK: Duration = Duration::from_secs(20);

/// What a hostile peer may make us keep: a connection's window, and some. Bytes. The most is made by heads
/// before the head, of which one turn's worth is kept until the next, in a form that takes more room.
const KEPT: usize = 96 << 20;

/// That no more was worked since `began` than may be.
pub fn check_work(began: Duration, what: impl Display) {
    let work = worked() - began;
    assert!(work < WORK, "{what}: {work:?}");
}

/// That no more is kept than may be, with `before` bytes to begin with.
pub fn check_kept(before: usize, what: impl Display) {
    let kept = resident().saturating_sub(before);
    assert!(kept < KEPT, "{what}: {kept} bytes");
}

/// A gateway that has registered with a good token, and speaks HTTP/2 by hand.
pub struct Peer(pub client::TlsStream<TcpStream>);

impl Peer {
    pub async fn enter(world: &World) -> Self {
        let (mut stream, answer) = world.enter(TOKEN).await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut peer = Self(stream);
        peer.say(&frame(SETTINGS, 0, 0, &[])).await;
        is_there(world).await;
        peer
    }

    /// Says it, if anybody listens still.
    pub async fn say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// Says it again and again, and does not listen: until that is stopped, nobody takes it any more, or
    /// it was a lot.
    pub async fn flood(&mut self, bytes: &[u8]) {
        flood(&mut self.0, bytes).await;
    }

    /// Waits for the head of a stream, and says which.
    pub async fn stream(&mut self) -> u32 {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS {
                return u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            }
        }
    }

    /// The edge lets it go.
    pub async fn ends(&mut self, what: &str) {
        let mut rest = Vec::new();
        let _ = soon(what, self.0.read_to_end(&mut rest)).await;
    }
}

/// Bytes of a flood.
const FLOOD: usize = 2 << 20;

pub async fn flood(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    let chunk = bytes.repeat((16 << 10) / bytes.len() + 1);
    let pour = async {
        let mut said = 0;
        while said < FLOOD && stream.write_all(&chunk).await.is_ok() {
            said += chunk.len();
        }
        let _ = stream.flush().await;
    };
    // Whoever does not take it any more is right, too.
    let _ = tokio::time::timeout(Duration::from_secs(3), pour).await;
}

/// A gateway with a good token, which does with its streams what it likes.
pub async fn impostor(world: &World, handle: impl Fn(Incoming) + Clone + Send + Sync + 'static) {
    let target = Target {
        edge: world.address.to_string(),
        proxy: None,
        tls: world.trust().client_config().unwrap(),
        token: freehold_base::Secret::new(TOKEN.to_owned()),
        gateway_id: "hostile".to_owned(),
        index: 0,
    };
    let session = connect(&target).await.unwrap();
    tokio::spawn(session.serve(CancellationToken::new(), |_| None, handle));
    is_there(world).await;
}

/// The hostile gateway is among those that streams are asked of.
async fn is_there(world: &World) {
    let there = || {
        let connections = world.edge.connections(&world.tunnel);
        connections.iter().any(|c| c.gateway == "hostile")
    };
    until("the hostile gateway to be let in", there).await;
}

/// A certificate of nobody for a name, with its key.
pub fn self_signed(name: &str) -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap()
}

/// Ends TLS with it.
pub fn acceptor(
    made: &rcgen::CertifiedKey<rcgen::KeyPair>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[u8],
) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
