//! Who is let in: replicas that the database lists, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::{IdSource, ReplicaId};
use freehold_peers::{Parts, previews};
use freehold_runtime::Hub;
use freehold_store::Store;
use freehold_tunnel::edge::{Directory, DirectoryError, Edge, Options, TokenGrant, Tunnel};
use freehold_tunnel::transport::streams::{self, Bidirectional, Opened};
use freehold_tunnel::transport::trust::Pinned;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

struct NoTunnels;

#[async_trait::async_trait]
impl Directory for NoTunnels {
    async fn by_token(&self, _: [u8; 32]) -> Result<Option<TokenGrant>, DirectoryError> {
        Ok(None)
    }
    async fn by_id(&self, _: &freehold_base::TunnelId) -> Result<Option<Tunnel>, DirectoryError> {
        Ok(None)
    }
    async fn by_domain(&self, _: &str) -> Result<Option<Tunnel>, DirectoryError> {
        Ok(None)
    }
}

struct World {
    store: Store,
    address: String,
    dir: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// A replica that serves others.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ids = IdSource::system();
        let hub = Hub::new(ids.clone());
        let store = Store::open(dir.path(), ids.clone(), Arc::new(hub.clone())).unwrap();
        let replica = store.replica().clone();
        store.heartbeat(&replica, 600_000).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let edge = Edge::new(Arc::new(NoTunnels), Options::new("tunnel.test"), ids);
        let stop = CancellationToken::new();
        let parts = Parts {
            store: store.clone(),
            hub,
            edge,
        };
        let served =
            freehold_peers::serve(listener, address.clone(), parts, stop.clone(), stop.clone());
        tokio::spawn(served);
        Self {
            store,
            address,
            dir,
            stop,
        }
    }

    /// What the replica says of itself in the database.
    async fn fingerprint(&self) -> [u8; 32] {
        loop {
            let peers = self.store.peers().await.unwrap();
            let own = peers.iter().find(|p| p.replica == *self.store.replica());
            if let Some(own) = own {
                assert_eq!(own.address, self.address);
                return freehold_base::hex::decode(&own.fingerprint).unwrap();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Another replica, as the database lists it.
    fn list(&self, fingerprint: &str) {
        let database = rusqlite::Connection::open(self.dir.path().join("freehold.db")).unwrap();
        let other: ReplicaId = IdSource::system().next();
        let row = (other.as_str(), i64::MAX, "127.0.0.1:9", fingerprint);
        let sql =
            "INSERT INTO replica (id, lease_until, address, fingerprint) VALUES (?1, ?2, ?3, ?4)";
        database.execute(sql, row).unwrap();
    }

    fn unlist(&self, fingerprint: &str) {
        let database = rusqlite::Connection::open(self.dir.path().join("freehold.db")).unwrap();
        let sql = "DELETE FROM replica WHERE fingerprint = ?1";
        assert_eq!(database.execute(sql, [fingerprint]).unwrap(), 1);
    }

    /// Whether somebody with this certificate gets a stream of previews.
    async fn gets_in(&self, shown: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>) -> bool {
        self.enter(shown).await.is_some()
    }

    /// The stream of previews that somebody with this certificate gets, if he does.
    async fn enter(
        &self,
        shown: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>,
    ) -> Option<Bidirectional> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let pinned = Pinned::new(self.fingerprint().await, Arc::clone(&provider));
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned));
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let key = PrivatePkcs8KeyDer::from(shown.signing_key.serialize_der());
                let chain = vec![shown.cert.der().clone()];
                builder.with_client_auth_cert(chain, key.into()).unwrap()
            }
        };
        config.alpn_protocols = vec![b"freehold-peer/1".to_vec()];
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let name = ServerName::try_from("anything").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.ok()?;
        let opened = streams::open(stream, TokioExecutor::new(), Duration::from_secs(60)).await;
        let (opener, connection) = opened.ok()?;
        tokio::spawn(connection);
        match opener.open(previews::HOST).await {
            Opened::Stream(stream) => Some(stream),
            _ => None,
        }
    }
}

fn certificate() -> (rcgen::CertifiedKey<rcgen::KeyPair>, String) {
    let made = rcgen::generate_simple_self_signed(vec!["freehold-replica".to_owned()]).unwrap();
    let fingerprint = freehold_base::hex::encode(Sha256::digest(made.cert.der()));
    (made, fingerprint)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_listed_certificate_gets_in() {
    let w = World::new().await;
    let (stranger, _) = certificate();
    let (listed, fingerprint) = certificate();
    assert!(!w.gets_in(None).await, "without a certificate");
    assert!(!w.gets_in(Some(&listed)).await, "not listed yet");
    w.list(&fingerprint);
    assert!(w.gets_in(Some(&listed)).await, "looked up when it came");
    assert!(!w.gets_in(Some(&stranger)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_listed_any_more_is_let_go() {
    let w = World::new().await;
    let (listed, fingerprint) = certificate();
    w.list(&fingerprint);
    let mut stream = w.enter(Some(&listed)).await.unwrap();
    w.unlist(&fingerprint);
    let mut byte = [0];
    let read = stream.read(&mut byte).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_say_nothing_keep_nobody_out() {
    let w = World::new().await;
    let (listed, fingerprint) = certificate();
    w.list(&fingerprint);
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(TcpStream::connect(&w.address).await.unwrap());
    }
    assert!(w.gets_in(Some(&listed)).await);
    // The first of them have been let go for that.
    let mut byte = [0];
    let read = silent[0].read(&mut byte).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}
