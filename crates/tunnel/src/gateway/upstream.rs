//! Connections to the servers behind the gateway: the address that was checked is the one that is
//! dialled.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::config::{Addresses, Config, Route};

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection to a server.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Looks names up. A seam for tests of names that change their minds.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a name.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0))
            .await?
            .map(|a| a.ip())
            .collect())
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The name is not known.
    #[error("the name {0} is not known")]
    Dns(String),
    /// The address may not be used.
    #[error("IP validation failed: {0} is not a private address")]
    Address(IpAddr),
    /// Nobody answers.
    #[error("cannot connect: {0}")]
    Tcp(io::Error),
    /// Its certificate was not accepted, or it speaks no TLS.
    #[error("no TLS: {0}")]
    Tls(io::Error),
    /// It took too long.
    #[error("no answer within {} seconds", CONNECT.as_secs())]
    Slow,
}

/// Opens connections to upstreams.
pub struct Upstreams {
    addresses: Addresses,
    tls: TlsConnector,
    resolver: Arc<dyn Resolve>,
}

impl Upstreams {
    /// As the configuration has it.
    ///
    /// # Errors
    /// The authorities for upstreams cannot be read.
    pub fn new(config: &Config, resolver: Arc<dyn Resolve>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if config.upstream_system_cas {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if let Some(file) = &config.upstream_ca {
            for authority in authorities(file)? {
                roots
                    .add(authority)
                    .map_err(|e| format!("{}: {e}", file.display()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            addresses: config.addresses.clone(),
            tls: TlsConnector::from(Arc::new(tls)),
            resolver,
        })
    }

    /// Opens one.
    ///
    /// # Errors
    /// [`UpstreamError`].
    pub async fn connect(&self, route: &Route) -> Result<Box<dyn Stream>, UpstreamError> {
        match tokio::time::timeout(CONNECT, self.attempt(route)).await {
            Ok(done) => done,
            Err(_) => Err(UpstreamError::Slow),
        }
    }

    async fn attempt(&self, route: &Route) -> Result<Box<dyn Stream>, UpstreamError> {
        let unknown = || UpstreamError::Dns(route.host.clone());
        let found = match route.host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => self
                .resolver
                .resolve(&route.host)
                .await
                .map_err(|_| unknown())?,
        };
        // IPv6 is not spoken with upstreams (contract 60 §6); one bad address of the rest is enough.
        let found: Vec<_> = match found.iter().any(IpAddr::is_ipv4) {
            true => found.into_iter().filter(IpAddr::is_ipv4).collect(),
            false => found,
        };
        if let Some(bad) = found.iter().find(|ip| !self.addresses.permit(**ip)) {
            return Err(UpstreamError::Address(*bad));
        }
        let mut last = UpstreamError::Dns(route.host.clone());
        for ip in found {
            match TcpStream::connect(SocketAddr::new(ip, route.port)).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return self.secure(route, stream).await;
                }
                Err(error) => last = UpstreamError::Tcp(error),
            }
        }
        Err(last)
    }

    async fn secure(
        &self,
        route: &Route,
        stream: TcpStream,
    ) -> Result<Box<dyn Stream>, UpstreamError> {
        if !route.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(route.host.clone())
            .map_err(|e| UpstreamError::Tls(io::Error::other(e)))?;
        let stream = self.tls.connect(name, stream).await;
        Ok(Box::new(stream.map_err(UpstreamError::Tls)?))
    }
}

/// The certificates of a PEM file.
///
/// # Errors
/// It cannot be read.
pub fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| format!("{}: {e}", file.display()))
}
