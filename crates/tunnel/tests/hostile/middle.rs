//! One in the middle, who has in its hands the bytes of each stream.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use freehold_base::{Secret, hex};
use freehold_tunnel::transport::connect::{Incoming, Session, Target, connect};
use freehold_tunnel::transport::trust::{Trust, fingerprint};
use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server;
use tokio_util::sync::CancellationToken;

use super::{acceptor, self_signed};
use crate::world::{TOKEN, Way};

/// What a gateway takes for its edge, and the edge for a gateway: it ends the outer TLS and HTTP/2 on both
/// sides, and carries the streams from one to the other.
#[derive(Clone)]
pub struct Middle(Arc<State>);

struct State {
    address: SocketAddr,
    fingerprint: String,
    edge: Mutex<Option<Target>>,
    gateway: Mutex<Option<SendRequest<Empty<Bytes>>>>,
    carried: Mutex<Vec<Arc<Carried>>>,
    /// What the next streams are answered with, in place of the gateway.
    instead: Mutex<Option<Vec<u8>>>,
}

/// A stream that is carried.
pub struct Carried {
    /// From the server to the gateway.
    pub up: Wire,
    pub down: Wire,
}

/// One direction of a stream.
pub struct Wire {
    said: Mutex<Vec<u8>>,
    to: Mutex<mpsc::UnboundedSender<Vec<u8>>>,
}

impl Wire {
    fn new(to: mpsc::UnboundedSender<Vec<u8>>) -> Self {
        Self {
            said: Mutex::default(),
            to: Mutex::new(to),
        }
    }

    /// Everything that was said so far.
    pub fn said(&self) -> Vec<u8> {
        self.said.lock().unwrap().clone()
    }

    /// Says this, too.
    pub fn say(&self, bytes: Vec<u8>) {
        let _ = self.to.lock().unwrap().send(bytes);
    }

    /// From now on what is said here comes out there, and the other way round.
    pub fn cross(&self, other: &Self) {
        let (mut here, mut there) = (self.to.lock().unwrap(), other.to.lock().unwrap());
        std::mem::swap(&mut *here, &mut *there);
    }

    async fn listen(&self, from: &mut (impl AsyncRead + Unpin)) {
        let mut chunk = vec![0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut chunk).await {
            self.said.lock().unwrap().extend_from_slice(&chunk[..n]);
            self.say(chunk[..n].to_vec());
        }
        // It has ended, and so does where it goes.
        self.say(Vec::new());
    }
}

async fn pour(mut from: mpsc::UnboundedReceiver<Vec<u8>>, to: &mut (impl AsyncWrite + Unpin)) {
    while let Some(bytes) = from.recv().await {
        if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
            break;
        }
        let _ = to.flush().await;
    }
    let _ = to.shutdown().await;
}

impl Middle {
    pub async fn start() -> Self {
        let made = self_signed("edge");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let new = Self(Arc::new(State {
            address: listener.local_addr().unwrap(),
            fingerprint: hex::encode(Sha256::digest(made.cert.der())),
            edge: Mutex::default(),
            gateway: Mutex::default(),
            carried: Mutex::default(),
            instead: Mutex::default(),
        }));
        let acceptor = acceptor(&made, &[&rustls::version::TLS13], b"mtun/1");
        let middle = new.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (middle, acceptor) = (middle.clone(), acceptor.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        middle.take(stream).await;
                    }
                });
            }
        });
        new
    }

    /// The way through it, to where the direct one leads.
    pub fn way(&self, direct: Way) -> Way {
        let pinned = fingerprint(&direct.fingerprint).unwrap();
        *self.0.edge.lock().unwrap() = Some(Target {
            edge: direct.edge.to_string(),
            proxy: None,
            tls: Trust::Fingerprint(pinned).client_config().unwrap(),
            token: Secret::new(TOKEN.to_owned()),
            gateway_id: "middle".to_owned(),
            index: 0,
        });
        Way {
            edge: self.0.address,
            fingerprint: self.0.fingerprint.clone(),
            proxy: None,
        }
    }

    /// The streams that were carried, in the order in which they were opened.
    pub fn carried(&self) -> Vec<Arc<Carried>> {
        self.0.carried.lock().unwrap().clone()
    }

    /// Opens a stream to the gateway.
    pub async fn open(&self, authority: &str) -> TokioIo<Upgraded> {
        let response = self.ask(Method::CONNECT, authority).await;
        assert_eq!(response.status(), 200);
        TokioIo::new(hyper::upgrade::on(response).await.unwrap())
    }

    /// Asks the gateway for something; what it says to that.
    pub async fn ask(&self, method: Method, uri: &str) -> Response<hyper::body::Incoming> {
        let mut gateway = self.0.gateway.lock().unwrap().clone().unwrap();
        let request = Request::builder().method(method).uri(uri);
        let request = request.body(Empty::new()).unwrap();
        gateway.send_request(request).await.unwrap()
    }

    /// From now on the server's streams are answered with this, and the gateway hears nothing of them.
    pub fn answer(&self, bytes: Vec<u8>) {
        *self.0.instead.lock().unwrap() = Some(bytes);
    }

    /// Takes a gateway's connection, and makes one with the edge for it.
    async fn take(&self, mut gateway: server::TlsStream<TcpStream>) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(gateway.read_u8().await.ok()?);
        }
        let target = self.0.edge.lock().unwrap().clone()?;
        let edge = connect(&target).await.unwrap();
        let welcome = serde_json::to_string(&edge.welcome).unwrap();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: mtun/1\r\nmtun-welcome: {welcome}\r\n\r\n"
        );
        gateway.write_all(answer.as_bytes()).await.ok()?;
        let made = handshake(TokioExecutor::new(), TokioIo::new(gateway)).await;
        let (sender, connection) = made.ok()?;
        tokio::spawn(connection);
        *self.0.gateway.lock().unwrap() = Some(sender);
        self.serve(edge).await;
        None
    }

    async fn serve(&self, edge: Session) {
        let middle = self.clone();
        let carry = move |incoming| {
            let middle = middle.clone();
            tokio::spawn(async move { middle.carry(incoming).await });
        };
        let _ = edge.serve(CancellationToken::new(), |_| None, carry).await;
    }

    async fn carry(&self, incoming: Incoming) {
        let Incoming { authority, stream } = incoming;
        let (mut from_server, mut to_server) = tokio::io::split(stream);
        let instead = self.0.instead.lock().unwrap().clone();
        if let Some(instead) = instead {
            let _ = to_server.write_all(&instead).await;
            let _ = to_server.flush().await;
            let _ = from_server.read_to_end(&mut Vec::new()).await;
            return;
        }
        let (mut from_gateway, mut to_gateway) = tokio::io::split(self.open(&authority).await);
        let (up, up_out) = mpsc::unbounded_channel();
        let (down, down_out) = mpsc::unbounded_channel();
        let carried = Arc::new(Carried {
            up: Wire::new(up),
            down: Wire::new(down),
        });
        self.0.carried.lock().unwrap().push(Arc::clone(&carried));
        tokio::join!(
            carried.up.listen(&mut from_server),
            carried.down.listen(&mut from_gateway),
            pour(up_out, &mut to_gateway),
            pour(down_out, &mut to_server),
        );
    }
}
