//! Sandboxes with a way out, and servers on loopback that stand for the world.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use freehold_sandbox::egress::{AddressPolicy, EgressConfig, Resolver, Roots};
use freehold_sandbox::{Network, NetworkPolicy, Provider, Sandbox};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Knows a few names and remembers what was asked.
#[derive(Default)]
pub struct Names(pub Mutex<Vec<String>>);

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<IpAddr>> {
        self.0.lock().unwrap().push(host.to_owned());
        let addresses: &[&str] = match host {
            "web.test" | "sub.web.test" | "other.test" => &["127.0.0.1"],
            "rebind.test" => &["10.1.2.3"],
            "mixed.test" => &["127.0.0.1", "169.254.169.254"],
            "nobody.test" => &[],
            _ => return Err(io::Error::other("no such name")),
        };
        Ok(addresses.iter().map(|a| a.parse().unwrap()).collect())
    }
}

/// Public addresses, and the test servers.
struct Only(Vec<SocketAddr>);

impl AddressPolicy for Only {
    fn allows(&self, address: SocketAddr) -> bool {
        self.0.contains(&address) || freehold_base::net::is_public(address.ip())
    }
}

/// What the servers saw.
#[derive(Default)]
pub struct Seen {
    pub connections: Mutex<usize>,
    /// Every request, head and body as they came.
    pub requests: Mutex<Vec<String>>,
}

/// The servers' certificate authority.
pub struct World {
    pub root: CertificateDer<'static>,
    pub root_pem: String,
    tls: TlsAcceptor,
}

impl World {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "The world's own");
        let root = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = ["web.test", "sub.web.test", "other.test"].map(String::from);
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        Self {
            root: root.der().clone(),
            root_pem: root.pem(),
            tls: TlsAcceptor::from(Arc::new(config)),
        }
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Answers every request with itself, over TLS if there is an acceptor.
async fn echo(listener: TcpListener, tls: Option<TlsAcceptor>, seen: Arc<Seen>) {
    while let Ok((stream, _)) = listener.accept().await {
        *seen.connections.lock().unwrap() += 1;
        let (tls, seen) = (tls.clone(), seen.clone());
        tokio::spawn(async move {
            match tls {
                None => answer(stream, seen).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream, seen).await;
                    }
                }
            }
        });
    }
}

/// One request after the other, until one asks to change the protocol: then bytes go back as they
/// come.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) {
    let mut bytes = Vec::new();
    loop {
        let Some(length) = whole_request(&bytes) else {
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
                _ => return,
            }
            continue;
        };
        let request: Vec<u8> = bytes.drain(..length).collect();
        let text = String::from_utf8_lossy(&request).into_owned();
        seen.requests.lock().unwrap().push(text.clone());
        if let Some((_, to)) = text.split_once("GET /redirect?") {
            let to = to.split(' ').next().unwrap_or_default();
            let head = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            if stream.write_all(head.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        if text.to_lowercase().contains("upgrade: echo") {
            let head =
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            return;
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: {}\r\n\r\n",
            request.len()
        );
        if stream.write_all(head.as_bytes()).await.is_err()
            || stream.write_all(&request).await.is_err()
        {
            return;
        }
    }
}

/// The length of the request that `bytes` begin with, once it is whole.
fn whole_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    if text.contains("transfer-encoding: chunked") {
        // Nothing is sent after it before it is answered.
        return bytes[head..].ends_with(b"0\r\n\r\n").then_some(bytes.len());
    }
    let length = text
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .map_or(0, |l| l.trim().parse().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}

/// Speaks first, as ssh and mail servers do, and then says back what it hears.
async fn greeter(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let _ = stream.write_all(b"220 hello\r\n").await;
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
}

/// Who starts the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum As {
    Root,
    OrdinaryUser,
}

pub struct Net {
    pub bench: Bench,
    pub sandbox: Arc<dyn Sandbox>,
    pub names: Arc<Names>,
    pub seen: Arc<Seen>,
    pub world: World,
    /// The plain, the TLS and the greeting server's port.
    pub port: u16,
    pub tls: u16,
    pub greeter: u16,
}

pub async fn net(name: &str, network: NetworkPolicy) -> Net {
    net_of(name, As::Root, network.into(), |_| ()).await
}

/// A sandbox, and servers that count as public.
pub async fn net_of(
    name: &str,
    who: As,
    network: Network,
    change: impl FnOnce(&mut EgressConfig),
) -> Net {
    let world = World::new();
    let seen = Arc::new(Seen::default());
    let (plain, tls, greeting) = (listen().await, listen().await, listen().await);
    let names = Arc::new(Names::default());
    let mut egress = EgressConfig {
        resolver: names.clone(),
        addresses: Arc::new(Only(vec![plain.1, tls.1, greeting.1])),
        roots: Roots::only([world.root.clone()]),
        ..EgressConfig::default()
    };
    change(&mut egress);
    let (port, tls_port, greeter_port) = (plain.1.port(), tls.1.port(), greeting.1.port());
    tokio::spawn(echo(plain.0, None, seen.clone()));
    tokio::spawn(echo(tls.0, Some(world.tls.clone()), seen.clone()));
    tokio::spawn(greeter(greeting.0));
    // Inside, the variable holds the placeholder.
    let placeholders = network.injections.iter();
    let env: Vec<_> = placeholders
        .map(|i| ("ACME_KEY".to_owned(), i.placeholder.clone()))
        .collect();
    let (bench, sandbox) = match who {
        As::Root => {
            let bench = bench_with(name, |c| c.egress = egress);
            let mut spec = bench.spec(name);
            spec.network = network;
            spec.env = env;
            let sandbox = bench.provider.create(&spec).await.unwrap();
            (bench, sandbox)
        }
        As::OrdinaryUser => {
            let bench = ordinary_user_with(name, |c| c.egress = egress);
            let mut spec = bench.spec(name);
            spec.network = network;
            spec.env = env;
            let sandbox = ordinary_sandbox_of(&bench, spec).await;
            (bench, sandbox)
        }
    };
    Net {
        bench,
        sandbox,
        names,
        seen,
        world,
        port,
        tls: tls_port,
        greeter: greeter_port,
    }
}

/// Python that every script may use: `dial(host, port)`, `talk(host, port, bytes)`, which gives all
/// that comes back, and `dns(name, type)`, which gives code and answer section.
const PRELUDE: &str = r#"
import socket, ssl, struct, sys, os
def dial(host, port):
    s = socket.create_connection((host, port), 30)
    s.settimeout(30)
    return s
def rest(s):
    got = b""
    while True:
        try: more = s.recv(65536)
        except (ConnectionResetError, ssl.SSLError): break
        if not more: break
        got += more
    return got
def talk(host, port, data):
    s = dial(host, port)
    s.sendall(data)
    s.shutdown(socket.SHUT_WR)
    return rest(s)
def reply(s):
    got = b""
    while b"\r\n\r\n" not in got:
        more = s.recv(65536)
        if not more: return got.decode("latin1")
        got += more
    head, body = got.split(b"\r\n\r\n", 1)
    length = [int(l.split(b":")[1]) for l in head.lower().split(b"\r\n") if l.startswith(b"content-length")]
    while length and len(body) < length[0]:
        body += s.recv(65536)
    return (head + b"\r\n\r\n" + body).decode("latin1")
def question(name, kind):
    q = b"\x07\x09\x01\0\0\x01\0\0\0\0\0\0"
    for label in name.split("."): q += bytes([len(label)]) + label.encode()
    return q + b"\0" + struct.pack(">HH", kind, 1)
def dns(name, kind=1, server="127.0.0.1"):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(30)
    s.connect((server, 53))
    q = question(name, kind)
    s.send(q)
    a = s.recv(2000)
    return a[3] & 15, a[len(q):]
"#;

impl Net {
    /// Runs Python inside without proxy variables; what it prints.
    pub async fn python(&self, code: &str) -> String {
        let outcome = self.try_python(code).await;
        assert_eq!(outcome.code, Some(0), "{code}: {outcome:?}");
        outcome.stdout.trim().to_owned()
    }

    pub async fn try_python(&self, code: &str) -> Outcome {
        let code = format!(
            "{PRELUDE}
PORT, TLS, GREETER = {}, {}, {}
{code}",
            self.port, self.tls, self.greeter
        );
        let argv = ["env", "-i", "PATH=/usr/bin:/bin", "python3", "-c", &code];
        exec(&self.sandbox, &argv).await
    }

    pub fn connections(&self) -> usize {
        *self.seen.connections.lock().unwrap()
    }

    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Names that were looked up on the host.
    pub fn looked_up(&self) -> Vec<String> {
        self.names.0.lock().unwrap().clone()
    }

    /// What the model is told, since this was last asked.
    pub fn denials(&self) -> Vec<String> {
        self.sandbox
            .take_denials()
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

pub fn hosts(list: &[&str]) -> NetworkPolicy {
    NetworkPolicy::Hosts {
        allowed: list.iter().map(|h| h.parse().unwrap()).collect(),
    }
}
