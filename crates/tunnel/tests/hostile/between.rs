//! What stands between a gateway and its edge.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use freehold_base::hex;
use freehold_tunnel::gateway::Status;
use freehold_tunnel::transport::trust::{Trust, fingerprint};
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::{TlsConnector, server};
use tokio_util::sync::CancellationToken;

use super::{acceptor, flood, self_signed, soon, until};
use crate::world::{Way, World};

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
    /// This; and what the gateway says to it, until it has said the second, or ends it.
    Hear(Vec<u8>, Vec<u8>, Arc<Mutex<Vec<u8>>>),
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
        let pinned = fingerprint(&direct.fingerprint);
        let trust = Trust::Fingerprint(pinned.unwrap());
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
                Attack::Hear(bytes, last, heard) => {
                    let (mut read, mut write) = tokio::io::split(&mut stream);
                    let say = async {
                        // Whoever does not take it any more has said why.
                        let _ = write.write_all(&bytes).await;
                        let _ = write.flush().await;
                    };
                    let hear = async {
                        let mut chunk = [0; 16 << 10];
                        while let Ok(n @ 1..) = read.read(&mut chunk).await {
                            let mut heard = heard.lock().unwrap();
                            heard.extend_from_slice(&chunk[..n]);
                            if heard.windows(last.len()).any(|w| w == last) {
                                break;
                            }
                        }
                    };
                    tokio::join!(say, hear);
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
