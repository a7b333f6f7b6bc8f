//! The gateway's end: dials the edge, says who it is, and serves the streams that the edge opens.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::Secret;
use http::StatusCode;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::head;
use super::streams::{self, Bidirectional};
use super::{PATH, UPGRADE, WELCOME, Welcome};

/// Longest time until the edge has answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the edge is and who asks.
#[derive(Clone)]
pub struct Target {
    /// `host:port`.
    pub edge: String,
    /// `host:port` of an HTTP proxy on the way.
    pub proxy: Option<String>,
    /// Whom it takes for the edge.
    pub tls: Arc<ClientConfig>,
    /// The tunnel's token.
    pub token: Secret<String>,
    /// Names this gateway; the same for all its connections.
    pub gateway_id: String,
    /// Which of its connections this is.
    pub index: u32,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A name that is not known.
    #[error("the name of the {what} is not known: {host}")]
    Dns {
        /// `edge` or `proxy`.
        what: &'static str,
        /// The name.
        host: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to the {what}: {error}")]
    Tcp {
        /// `edge` or `proxy`.
        what: &'static str,
        /// Why.
        error: io::Error,
    },
    /// The proxy does not let us through.
    #[error("the proxy answered: {0}")]
    Proxy(String),
    /// The edge's certificate is not the one that is expected, or it is no edge.
    #[error("no TLS with the edge: {0}")]
    Tls(io::Error),
    /// The edge does not take the token.
    #[error("the edge does not take the token")]
    Token,
    /// The edge wants fewer connections for now.
    #[error("the edge asks to come back in {} seconds", .0.as_secs())]
    Later(Duration),
    /// Something that is no edge.
    #[error("the edge answered: {0}")]
    Answer(String),
    /// It took too long.
    #[error("no answer from the edge within {} seconds", PATIENCE.as_secs())]
    Slow,
}

/// A connection that the edge has accepted.
pub struct Session {
    /// What the edge said.
    pub welcome: Welcome,
    stream: TlsStream<TcpStream>,
}

/// A stream that the edge opened.
pub struct Incoming {
    /// `host:port` that is wanted.
    pub authority: String,
    /// Bytes from and to whoever wants it.
    pub stream: Bidirectional,
}

/// Dials the edge and registers.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(target: &Target) -> Result<Session, ConnectError> {
    match tokio::time::timeout(PATIENCE, attempt(target)).await {
        Ok(done) => done,
        Err(_) => Err(ConnectError::Slow),
    }
}

async fn attempt(target: &Target) -> Result<Session, ConnectError> {
    let (host, _) = target.edge.rsplit_once(':').unwrap_or((&target.edge, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let tcp = match &target.proxy {
        None => tcp("edge", &target.edge).await?,
        Some(proxy) => through(proxy, &target.edge).await?,
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|e| ConnectError::Tls(io::Error::other(e)))?;
    let mut stream = TlsConnector::from(Arc::clone(&target.tls))
        .connect(name, tcp)
        .await
        .map_err(ConnectError::Tls)?;
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: {UPGRADE}\r\n\
         Authorization: Bearer {}\r\nGateway-Id: {}\r\nConnection-Index: {}\r\n\
         User-Agent: freehold-gateway/{}\r\n\r\n",
        target.token.expose(),
        target.gateway_id,
        target.index,
        env!("CARGO_PKG_VERSION"),
    );
    let broken = |e: io::Error| ConnectError::Answer(e.to_string());
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let head = head::read(&mut stream).await.map_err(broken)?;
    let status = head.first.split(' ').nth(1).unwrap_or_default();
    match status {
        "101" => {
            let welcome = head.field(WELCOME).map(serde_json::from_str);
            let Some(Ok(welcome)) = welcome else {
                return Err(ConnectError::Answer(
                    "a welcome that cannot be read".to_owned(),
                ));
            };
            Ok(Session { welcome, stream })
        }
        "401" | "403" => Err(ConnectError::Token),
        "429" | "503" => {
            let seconds = head.field("retry-after").and_then(|s| s.parse().ok());
            Err(ConnectError::Later(Duration::from_secs(
                seconds.unwrap_or(5).min(300),
            )))
        }
        _ => Err(ConnectError::Answer(head.first.chars().take(100).collect())),
    }
}

async fn tcp(what: &'static str, address: &str) -> Result<TcpStream, ConnectError> {
    let found = tokio::net::lookup_host(address).await;
    let found: Vec<_> = match found {
        Ok(found) => found.collect(),
        Err(_) => Vec::new(),
    };
    if found.is_empty() {
        return Err(ConnectError::Dns {
            what,
            host: address.to_owned(),
        });
    }
    let stream = TcpStream::connect(&found[..]).await;
    let stream = stream.map_err(|error| ConnectError::Tcp { what, error })?;
    // A message that waits for another to fill its packet is late.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn through(proxy: &str, edge: &str) -> Result<TcpStream, ConnectError> {
    let mut stream = tcp("proxy", proxy).await?;
    let broken = |e: io::Error| ConnectError::Proxy(e.to_string());
    let request = format!("CONNECT {edge} HTTP/1.1\r\nHost: {edge}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let head = head::read(&mut stream).await.map_err(broken)?;
    match head.first.split(' ').nth(1) {
        Some("200") => Ok(stream),
        _ => Err(ConnectError::Proxy(head.first.chars().take(100).collect())),
    }
}

impl Session {
    /// Serves streams until the connection ends. After `drain` no new one is taken, and it ends with
    /// the last. `refuse` says with which status a stream is not taken.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn serve(
        self,
        drain: CancellationToken,
        refuse: impl Fn(&str) -> Option<StatusCode> + Clone + Send + Sync + 'static,
        handle: impl Fn(Incoming) + Clone + Send + Sync + 'static,
    ) -> io::Result<()> {
        streams::take(self.stream, drain, move |authority: String| {
            let handle = handle.clone();
            let taken = match refuse(&authority) {
                Some(status) => Err(status),
                None => Ok(move |stream| handle(Incoming { authority, stream })),
            };
            std::future::ready(taken)
        })
        .await
    }
}
