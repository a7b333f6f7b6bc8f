//! An edge, a gateway, and a server behind it.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod logs;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::file::write_private;
use freehold_base::{IdSource, SharedClock, SystemClock, SystemEntropy, TunnelId, WorkspaceId};
use freehold_tunnel::edge::{
    DialFailure, Directory, DirectoryError, Edge, Guarded, Identity, Options, TokenGrant, Tunnel,
};
use freehold_tunnel::gateway::status::{Board, Status};
use freehold_tunnel::gateway::upstream::{Resolve, SystemResolver};
use freehold_tunnel::gateway::{Gateway, Limits, Start, config, setup};
use freehold_tunnel::transport::trust::Trust;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "tunnel-token";
/// Opens the tunnel of another tenant.
pub const OTHER: &str = "other-token";

/// What the store would say.
pub struct Table {
    tunnel: TunnelId,
    workspace: WorkspaceId,
    state: Mutex<(Option<String>, Vec<CertificateDer<'static>>)>,
    /// What was looked up, in order.
    lookups: Mutex<Vec<&'static str>>,
    /// The next answer about a domain waits: told when it was looked up, and when it may go.
    held: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
}

impl Table {
    pub fn trust(&self, authorities: Vec<CertificateDer<'static>>) {
        self.state.lock().unwrap().1 = authorities;
    }
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        self.state.lock().unwrap().1.clone()
    }
    pub fn rotate(&self, token: &str) {
        self.state.lock().unwrap().0 = Some(token.to_owned());
    }
    /// Holds the next answer about a domain back: when it has been looked up, and how to let it go.
    pub fn hold(&self) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let (looked, reached) = oneshot::channel();
        let (go, may_go) = oneshot::channel();
        *self.held.lock().unwrap() = Some((looked, may_go));
        (reached, go)
    }
    /// What was looked up since this was last asked.
    pub fn lookups(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.lookups.lock().unwrap())
    }
    pub fn archive(&self) {
        self.state.lock().unwrap().0 = None;
    }
}

#[async_trait]
impl Directory for Table {
    async fn by_token(&self, sha256: [u8; 32]) -> Result<Option<TokenGrant>, DirectoryError> {
        self.lookups.lock().unwrap().push("token");
        if <[u8; 32]>::from(Sha256::digest(OTHER)) == sha256 {
            return Ok(Some(TokenGrant {
                tunnel: "tnl_2".parse().unwrap(),
                domain: "xyz.tunnel.test".to_owned(),
                token: "ttok_2".parse().unwrap(),
            }));
        }
        let token = self.state.lock().unwrap().0.clone();
        let good = token.is_some_and(|t| <[u8; 32]>::from(Sha256::digest(t)) == sha256);
        Ok(good.then(|| TokenGrant {
            tunnel: self.tunnel.clone(),
            domain: "abc.tunnel.test".to_owned(),
            token: "ttok_1".parse().unwrap(),
        }))
    }
    async fn by_id(&self, tunnel: &TunnelId) -> Result<Option<Tunnel>, DirectoryError> {
        self.lookups.lock().unwrap().push("id");
        let (token, authorities) = self.state.lock().unwrap().clone();
        let there = token.is_some() && *tunnel == self.tunnel;
        Ok(there.then(|| Tunnel {
            id: self.tunnel.clone(),
            workspace: self.workspace.clone(),
            authorities,
        }))
    }
    async fn by_domain(&self, domain: &str) -> Result<Option<Tunnel>, DirectoryError> {
        let (token, authorities) = self.state.lock().unwrap().clone();
        self.lookups.lock().unwrap().push("domain");
        let held = self.held.lock().unwrap().take();
        if let Some((looked, may_go)) = held {
            let _ = looked.send(());
            let _ = may_go.await;
        }
        if domain == "xyz.tunnel.test" {
            return Ok(Some(Tunnel {
                id: "tnl_2".parse().unwrap(),
                workspace: "wrkspc_2".parse().unwrap(),
                authorities,
            }));
        }
        let there = token.is_some() && domain == "abc.tunnel.test";
        Ok(there.then(|| Tunnel {
            id: self.tunnel.clone(),
            workspace: self.workspace.clone(),
            authorities,
        }))
    }
}

pub fn authority(name: &str) -> CertificateDer<'static> {
    let dir = tempfile::tempdir().unwrap();
    let now = IdSource::system().clock().now();
    let pem = setup::new_authority(dir.path(), name, now).unwrap();
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// A server that says back what it was sent.
struct Upstream {
    seen: AtomicUsize,
    reached: Notify,
    go: Semaphore,
}

impl Upstream {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> Option<()> {
        let mut bytes = Vec::new();
        loop {
            while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut chunk = [0; 4096];
                match stream.read(&mut chunk).await.ok()? {
                    0 => return None,
                    n => bytes.extend_from_slice(&chunk[..n]),
                }
            }
            self.seen.fetch_add(1, Ordering::SeqCst);
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let rest = bytes.split_off(end);
            bytes.clear();
            let body = if head.starts_with("GET /endless") {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await
                    .ok()?;
                let chunk = [b"10000\r\n".to_vec(), vec![b'e'; 0x10000], b"\r\n".to_vec()].concat();
                loop {
                    stream.write_all(&chunk).await.ok()?;
                }
            } else if head.split(' ').nth(1) == Some("/slow") {
                self.reached.notify_one();
                self.go.acquire().await.ok()?.forget();
                "slow and whole".to_owned()
            } else if head.starts_with("POST /echo") {
                let length = head
                    .to_lowercase()
                    .split("content-length: ")
                    .nth(1)?
                    .split("\r\n")
                    .next()?
                    .parse::<usize>()
                    .ok()?;
                let mut body = rest;
                while body.len() < length {
                    let mut chunk = vec![0; 64 << 10];
                    match stream.read(&mut chunk).await.ok()? {
                        0 => return None,
                        n => body.extend_from_slice(&chunk[..n]),
                    }
                }
                String::from_utf8_lossy(&body).into_owned()
            } else {
                head
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

/// How a gateway gets to its edge.
pub struct Way {
    pub edge: SocketAddr,
    pub fingerprint: String,
    pub proxy: Option<SocketAddr>,
}

/// What a world is made of besides the usual.
pub struct Given {
    /// Lines of the gateway's configuration. A top-level key that is here takes the usual one's place.
    pub config: String,
    pub limits: Limits,
    pub resolver: Arc<dyn Resolve>,
    /// What the edge has.
    pub options: Options,
    /// The time, on both sides.
    pub clock: SharedClock,
    /// How long the gateway's certificate is valid.
    pub valid: Duration,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            config: String::new(),
            limits: Limits::default(),
            resolver: Arc::new(SystemResolver),
            options: options(),
            clock: Arc::new(SystemClock),
            valid: Duration::from_secs(90_000),
        }
    }
}

pub struct World {
    pub edge: Edge,
    pub directory: Arc<Table>,
    pub tunnel: TunnelId,
    pub workspace: WorkspaceId,
    pub address: SocketAddr,
    pub upstream: String,
    pub dir: tempfile::TempDir,
    pub status_addr: Option<SocketAddr>,
    /// The gateway's configuration, without the lines given.
    usual: Vec<String>,
    ids: IdSource,
    server: Arc<Upstream>,
    board: Arc<Board>,
    options: Options,
    stop_edge: CancellationToken,
    edge_idle: CancellationToken,
    edge_task: Option<tokio::task::JoinHandle<()>>,
    stop_gateway: CancellationToken,
    gateway_over: CancellationToken,
}

impl World {
    pub async fn start() -> Self {
        Self::with(Given::default()).await
    }

    /// One whose edge has these options, and whose gateway goes another way than the direct one.
    pub async fn start_with(options: Options, way: impl FnOnce(Way) -> Way) -> Self {
        let given = Given {
            options,
            ..Given::default()
        };
        Self::build(given, way).await
    }

    pub async fn with(given: Given) -> Self {
        Self::build(given, |direct| direct).await
    }

    async fn build(given: Given, way: impl FnOnce(Way) -> Way) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ids = IdSource::new(given.clock, Arc::new(SystemEntropy));
        let options = given.options;
        let now = ids.clock().now();
        let pem = setup::new_authority(dir.path(), "tnl_1", now).unwrap();
        setup::new_certificate(dir.path(), "abc.tunnel.test", now, given.valid).unwrap();
        let directory = Arc::new(Table {
            tunnel: "tnl_1".parse().unwrap(),
            workspace: "wrkspc_1".parse().unwrap(),
            state: Mutex::new((
                Some(TOKEN.to_owned()),
                vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()],
            )),
            lookups: Mutex::default(),
            held: Mutex::new(None),
        });
        let server = Arc::new(Upstream {
            seen: AtomicUsize::new(0),
            reached: Notify::new(),
            go: Semaphore::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap().to_string();
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).serve(stream));
            }
        });
        let identity = Identity::own(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (edge, [stop_edge, edge_idle], edge_task) =
            edge(&directory, options.clone(), &ids, listener, &identity);
        write_private(&dir.path().join("token"), TOKEN).unwrap();
        let d = dir.path().display();
        let Way {
            edge: to,
            fingerprint,
            proxy,
        } = way(Way {
            edge: address,
            fingerprint: identity.fingerprint(),
            proxy: None,
        });
        let proxy = proxy.map_or_else(String::new, |p| format!(", proxy: '{p}'"));
        let usual = vec![
            "tunnel_domain: abc.tunnel.test".to_owned(),
            format!("tls: {{cert_file: {d}/tls.crt, key_file: {d}/tls.key}}"),
            format!("routes: {{app: 'http://{upstream}'}}"),
            "upstream: {allowed_ips: [127.0.0.1]}".to_owned(),
            format!(
                "edge: {{address: '{to}', fingerprint: {fingerprint}, token_file: {d}/token{proxy}}}"
            ),
        ];
        let text = with_lines(&usual, &given.config);
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, &text).unwrap();
        let start = Start {
            config: config::parse(&text).unwrap(),
            file: Some(file),
            token: None,
            resolver: given.resolver,
            ids: ids.clone(),
            limits: given.limits,
        };
        let gateway = Gateway::new(start).unwrap();
        let (stop_gateway, gateway_over) = (CancellationToken::new(), CancellationToken::new());
        let (board, status_addr) = (gateway.board(), gateway.status_addr());
        let (stop, over) = (stop_gateway.clone(), gateway_over.clone());
        tokio::spawn(async move {
            gateway.run(stop).await;
            over.cancel();
        });
        let world = Self {
            edge,
            tunnel: directory.tunnel.clone(),
            workspace: directory.workspace.clone(),
            directory,
            address,
            upstream,
            dir,
            status_addr,
            usual,
            ids,
            server,
            board,
            options,
            stop_edge,
            edge_idle,
            edge_task: Some(edge_task),
            stop_gateway,
            gateway_over,
        };
        world.connected().await;
        world
    }

    /// Another tenant's gateway at the same edge, before the same server.
    pub async fn neighbour(&self) {
        let dir = self.dir.path().join("neighbour");
        std::fs::create_dir(&dir).unwrap();
        for name in [setup::CA_CERT, setup::CA_KEY] {
            std::fs::copy(self.dir.path().join(name), dir.join(name)).unwrap();
        }
        let now = self.ids.clock().now();
        let valid = Duration::from_secs(90_000);
        setup::new_certificate(&dir, "xyz.tunnel.test", now, valid).unwrap();
        write_private(&dir.join("token"), OTHER).unwrap();
        let usual = self.usual.join("\n");
        let usual = usual.replace("abc.tunnel.test", "xyz.tunnel.test");
        let own = self.dir.path().display().to_string();
        self.run(&usual.replace(&own, &dir.display().to_string()));
        let there = async {
            while self.edge.connections(&"tnl_2".parse().unwrap()).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let there = tokio::time::timeout(Duration::from_secs(20), there).await;
        there.expect("the neighbour connects");
    }

    /// One more gateway like the first.
    pub fn another_gateway(&self) {
        self.run(&self.usual.join("\n"));
    }

    fn run(&self, config: &str) {
        let start = Start {
            config: config::parse(config).unwrap(),
            file: None,
            token: None,
            resolver: Arc::new(SystemResolver),
            ids: self.ids.clone(),
            limits: Limits::default(),
        };
        let gateway = Gateway::new(start).unwrap();
        tokio::spawn(async move { gateway.run(CancellationToken::new()).await });
    }

    /// Asks the neighbour's server.
    pub async fn get_from_neighbour(&self) -> Result<String, DialFailure> {
        let workspace = "wrkspc_2".parse().unwrap();
        let dialled = self.edge.dial(&workspace, "app.xyz.tunnel.test").await;
        let request = "GET / HTTP/1.1\r\nHost: app.xyz.tunnel.test\r\n\r\n";
        Ok(ask(&mut dialled?, request).await)
    }

    /// Writes the gateway's configuration anew, with these lines.
    pub fn configure(&self, config: &str) {
        let text = with_lines(&self.usual, config);
        std::fs::write(self.dir.path().join("config.yaml"), text).unwrap();
    }

    pub async fn connected(&self) {
        let both = async {
            while self.edge.connections(&self.tunnel).len() < 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), both)
            .await
            .expect("the gateway connects");
    }

    pub async fn until(&self, what: &str, is: impl Fn(&Status) -> bool) {
        let wait = async {
            while !is(&self.board.now()) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.board.now());
    }

    pub async fn dial(&self) -> Result<TlsStream<Guarded>, DialFailure> {
        self.edge.dial(&self.workspace, "app.abc.tunnel.test").await
    }

    pub async fn get(&self, path: &str) -> Result<String, DialFailure> {
        let mut stream = self.dial().await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n");
        Ok(ask(&mut stream, &request).await)
    }

    /// Everything that comes back.
    pub async fn raw(&self, request: &str) -> String {
        let mut stream = self.dial().await.unwrap();
        let (mut read, mut write) = tokio::io::split(&mut stream);
        let write = async {
            let _ = write.write_all(request.as_bytes()).await;
            let _ = write.flush().await;
        };
        let mut answer = Vec::new();
        let read = async {
            let reading = read.read_to_end(&mut answer);
            let _ = tokio::time::timeout(Duration::from_secs(3), reading).await;
        };
        tokio::join!(write, read);
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn seen(&self) -> usize {
        self.server.seen.load(Ordering::SeqCst)
    }

    /// What is answered to this at the door.
    pub async fn register(&self, head: &str) -> String {
        let mut stream = self.knock().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    /// Registers with a token, and hands over the connection with what was answered.
    pub async fn enter(&self, token: &str) -> (TlsStream<TcpStream>, String) {
        self.enter_from("127.0.0.1", token).await
    }

    /// The same from an address of one's own.
    pub async fn enter_from(&self, source: &str, token: &str) -> (TlsStream<TcpStream>, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
        let tcp = socket.connect(self.address).await.unwrap();
        let mut stream = self.shake(tcp).await.unwrap();
        let head = format!(
            "POST /v1/tunnel-connect HTTP/1.1\r\nUpgrade: mtun/1\r\nGateway-Id: hostile\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(answer).unwrap())
    }

    /// How gateways trust the edge.
    pub fn trust(&self) -> Trust {
        let identity = Identity::own(self.dir.path()).unwrap();
        let pinned = freehold_tunnel::transport::trust::fingerprint(&identity.fingerprint());
        Trust::Fingerprint(pinned.unwrap())
    }

    /// Where the honest gateway's files are.
    pub fn files(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// TLS with the edge, as gateways have it before they say who they are.
    pub async fn knock(&self) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.address).await.unwrap();
        self.shake(tcp).await.unwrap()
    }

    /// The same over a connection of one's own.
    pub async fn shake(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let config = self.trust().client_config().unwrap();
        let name = ServerName::try_from("edge").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        connector.connect(name, tcp).await
    }

    /// An edge in place of this one, with the gateway connected.
    pub async fn restart_edge(&mut self) {
        self.restart_edge_alone().await;
        self.connected().await;
    }

    /// Does not wait for the gateway to come back.
    pub async fn restart_edge_alone(&mut self) {
        self.stop_edge.cancel();
        self.edge_is_idle().await;
        let identity = Identity::own(self.dir.path()).unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (edge, [stop, idle], task) = edge(
            &self.directory,
            self.options.clone(),
            &self.ids,
            listener,
            &identity,
        );
        (self.edge, self.stop_edge, self.edge_idle) = (edge, stop, idle);
        self.edge_task = Some(task);
    }

    /// The edge's server is told to stop, and has requests to finish.
    pub fn stop_edge(&self) {
        self.stop_edge.cancel();
    }

    /// It has finished them; when this returns the edge has stopped.
    pub async fn edge_is_idle(&mut self) {
        self.edge_idle.cancel();
        self.edge_task.take().unwrap().await.unwrap();
    }

    /// Makes the gateway another certificate, valid from now on.
    pub fn renew(&self, valid: Duration) {
        let now = self.ids.clock().now();
        setup::new_certificate(self.dir.path(), "abc.tunnel.test", now, valid).unwrap();
    }

    pub fn write_token(&self, token: &str) {
        let path: PathBuf = self.dir.path().join("token");
        std::fs::write(path, token).unwrap();
    }

    /// Tells the gateway to stop, and does not wait for it.
    pub fn tell_to_stop(&self) {
        self.stop_gateway.cancel();
    }

    pub async fn stop_gateway(&self) {
        self.stop_gateway.cancel();
        self.gateway_over.cancelled().await;
        while !self.edge.connections(&self.tunnel).is_empty() {
            tokio::task::yield_now().await;
        }
    }

    pub async fn reached_slow(&self) {
        self.server.reached.notified().await;
    }

    pub fn let_slow_go(&self) {
        self.server.go.add_permits(1);
    }
}

/// What the edges here have.
pub fn options() -> Options {
    Options {
        register: Duration::from_secs(2),
        arrival: Duration::ZERO,
        // All who come here have one address.
        handshakes: u32::MAX,
        handshakes_of_one: u32::MAX,
        ..Options::new("tunnel.test")
    }
}

fn with_lines(usual: &[String], more: &str) -> String {
    let key = |line: &str| line.split(':').next().unwrap().to_owned();
    let own: Vec<_> = more.lines().map(key).collect();
    let usual = usual.iter().filter(|line| !own.contains(&key(line)));
    usual.map(|line| format!("{line}\n")).collect::<String>() + more
}

fn edge(
    directory: &Arc<Table>,
    options: Options,
    ids: &IdSource,
    listener: TcpListener,
    identity: &Identity,
) -> (Edge, [CancellationToken; 2], tokio::task::JoinHandle<()>) {
    let edge = Edge::new(Arc::clone(directory) as _, options, ids.clone());
    let (stop, idle) = (CancellationToken::new(), CancellationToken::new());
    let (serving, stopping, until) = (edge.clone(), stop.clone(), idle.clone());
    let identity = identity.clone();
    let task = tokio::spawn(async move {
        let served = serving.serve(listener, &identity, stopping, until);
        served.await.unwrap();
    });
    (edge, [stop, idle], task)
}

/// One request and its answer, up to its end.
pub async fn ask(stream: &mut TlsStream<Guarded>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).await.unwrap();
        answer.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(n > 0, "{text}");
            continue;
        };
        let length = head.to_lowercase();
        let length = length
            .split("content-length: ")
            .nth(1)
            .and_then(|l| l.split("\r\n").next()?.parse::<usize>().ok());
        if length.is_none_or(|l| body.len() >= l) {
            return text;
        }
    }
}
