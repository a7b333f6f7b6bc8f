//! Peers that mean no good, and what stands between a gateway and its edge.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_base::hex;
use freehold_tunnel::gateway::Status;
use freehold_tunnel::transport::connect::{Incoming, Target, connect};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_util::sync::CancellationToken;

use crate::world::{TOKEN, Way, World};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, done).await;
    done.unwrap_or_else(|_| panic!("waited too long for: {what}"))
}

/// Asks again and again.
pub async fn until(what: &str, is: impl Fn() -> bool) {
    let wait = async {
        while !is() {
            tokio::task::yield_now().await;
        }
    };
    soon(what, wait).await;
}

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a client of HTTP/2 says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:status: 200`.
pub const OK: &[u8] = &[0x88];

/// A frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The header block of a CONNECT.
pub fn connect_block(authority: &str) -> Vec<u8> {
    let mut block = vec![0x02, 7];
    block.extend(b"CONNECT");
    block.extend([0x01, u8::try_from(authority.len()).unwrap()]);
    block.extend(authority.bytes());
    block
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

/// What a gateway takes for its edge. It passes everything on to the real one, but for connections that
/// are attacked.
pub struct FalseEdge {
    address: SocketAddr,
    fingerprint: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    attacks: Mutex<VecDeque<(Attack, oneshot::Sender<()>)>>,
    /// Ends connections that are passed on.
    passed_on: Mutex<Vec<CancellationToken>>,
    target: Mutex<Option<(SocketAddr, TlsConnector)>>,
}

/// What is said on a connection that the gateway takes for accepted.
pub enum Attack {
    /// This, and then nothing until the gateway ends it.
    UntilItEnds(Vec<u8>),
    /// The first, and the second again and again, and then it is over.
    Flood(Vec<u8>, Vec<u8>),
    /// This, and then it is over.
    Once(Vec<u8>),
    /// This in place of the welcome, and then it is over.
    Answer(Vec<u8>),
}

impl FalseEdge {
    pub async fn start() -> Self {
        let made = self_signed("edge");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let new = Self {
            address: listener.local_addr().unwrap(),
            fingerprint: hex::encode(Sha256::digest(made.cert.der())),
            shared: Arc::default(),
        };
        let acceptor = acceptor(&made, &[&rustls::version::TLS13], b"mtun/1");
        let shared = Arc::clone(&new.shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        shared.serve(stream).await;
                    }
                });
            }
        });
        new
    }

    /// The way through it, to where the direct one leads.
    pub fn way(&self, direct: Way) -> Way {
        let pinned = freehold_tunnel::transport::trust::fingerprint(&direct.fingerprint);
        let trust = freehold_tunnel::transport::trust::Trust::Fingerprint(pinned.unwrap());
        let connector = TlsConnector::from(trust.client_config().unwrap());
        *self.shared.target.lock().unwrap() = Some((direct.edge, connector));
        Way {
            edge: self.address,
            fingerprint: self.fingerprint.clone(),
            proxy: None,
        }
    }

    /// Ends one of the gateway's connections, and attacks the one that it opens instead. Returns when
    /// that has ended.
    pub async fn attack(&self, world: &World, what: &str, attack: Attack) {
        let both = || self.shared.passed_on.lock().unwrap().len() >= 2;
        until("the gateway's connections", both).await;
        // One that is ended before its welcome is not lost but refused, and the gateway comes back later.
        let welcome = |s: &Status| s.connections.values().all(|c| c.id.is_some());
        world.until("their welcome", welcome).await;
        let (over, is_over) = oneshot::channel();
        self.shared
            .attacks
            .lock()
            .unwrap()
            .push_back((attack, over));
        let passed_on = self.shared.passed_on.lock().unwrap().pop();
        passed_on.expect("a connection to end").cancel();
        soon(what, is_over).await.unwrap();
    }
}

impl Shared {
    async fn serve(&self, mut stream: server::TlsStream<TcpStream>) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let attack = self.attacks.lock().unwrap().pop_front();
        if let Some((attack, over)) = attack {
            let welcome =
                r#"{"connection_id":"tcon_x","domain":"abc.tunnel.test","max_streams":256}"#;
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: mtun/1\r\nmtun-welcome: {welcome}\r\n\r\n"
            );
            let answer = match &attack {
                Attack::Answer(other) => other,
                _ => answer.as_bytes(),
            };
            let _ = stream.write_all(answer).await;
            match attack {
                Attack::Answer(_) => {
                    let _ = stream.shutdown().await;
                }
                Attack::UntilItEnds(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.flush().await;
                }
                Attack::Flood(first, again) => {
                    let _ = stream.write_all(&first).await;
                    flood(&mut stream, &again).await;
                    let _ = stream.shutdown().await;
                }
                Attack::Once(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                }
            }
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            let _ = over.send(());
            return None;
        }
        let (address, connector) = self.target.lock().unwrap().clone()?;
        let tcp = TcpStream::connect(address).await.ok()?;
        let name = ServerName::try_from("edge").unwrap();
        let mut edge = connector.connect(name, tcp).await.ok()?;
        edge.write_all(&head).await.ok()?;
        let over = CancellationToken::new();
        self.passed_on.lock().unwrap().push(over.clone());
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut stream, &mut edge) => {}
            () = over.cancelled() => {}
        }
        None
    }
}

/// An HTTP proxy that opens tunnels to where it is asked to.
pub struct Proxy {
    pub address: SocketAddr,
    /// What it was asked for.
    pub asked: Arc<Mutex<Vec<String>>>,
    /// What gateways said through it.
    pub passed: Arc<Mutex<Vec<u8>>>,
    /// Freezes the connections there are.
    frozen: Arc<Mutex<CancellationToken>>,
}

impl Proxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let new = Self {
            address: listener.local_addr().unwrap(),
            asked: Arc::default(),
            passed: Arc::default(),
            frozen: Arc::default(),
        };
        let (asked, passed) = (Arc::clone(&new.asked), Arc::clone(&new.passed));
        let frozen = Arc::clone(&new.frozen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (asked, passed) = (Arc::clone(&asked), Arc::clone(&passed));
                let frozen = frozen.lock().unwrap().clone();
                tokio::spawn(pass(stream, asked, passed, frozen));
            }
        });
        new
    }

    /// From now on nothing passes over the connections that there are; they stay open.
    pub fn freeze(&self) {
        std::mem::take(&mut *self.frozen.lock().unwrap()).cancel();
    }
}

async fn pass(
    mut gateway: TcpStream,
    asked: Arc<Mutex<Vec<String>>>,
    passed: Arc<Mutex<Vec<u8>>>,
    frozen: CancellationToken,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(gateway.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let to = head.split(' ').nth(1)?.to_owned();
    asked.lock().unwrap().push(head);
    let edge = TcpStream::connect(to).await.ok()?;
    gateway
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .ok()?;
    let (mut from_gateway, mut to_gateway) = gateway.into_split();
    let (mut from_edge, mut to_edge) = edge.into_split();
    let up = copy(&mut from_gateway, &mut to_edge, Some(passed));
    let down = copy(&mut from_edge, &mut to_gateway, None);
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        () = frozen.cancelled() => std::future::pending().await,
    }
    None
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    seen: Option<Arc<Mutex<Vec<u8>>>>,
) -> Option<()> {
    let mut chunk = [0; 16 << 10];
    loop {
        let n = from.read(&mut chunk).await.ok()?;
        if n == 0 {
            return to.shutdown().await.ok();
        }
        if let Some(seen) = &seen {
            seen.lock().unwrap().extend_from_slice(&chunk[..n]);
        }
        to.write_all(&chunk[..n]).await.ok()?;
    }
}
