//! Passes requests on, one a connection, unless told to do otherwise.

use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// What is done with a request.
#[derive(Clone)]
pub enum Deed {
    /// It is passed on.
    Pass,
    /// It is answered with a status and an error code, and not passed on.
    Answer(u16, &'static str),
    /// It is passed on; of the answer's bytes only so many come back.
    Cut(usize),
    /// It is passed on when the semaphore gives leave.
    Hold(Arc<Semaphore>),
}

type Decide = Box<dyn FnMut(&str) -> Deed + Send>;

/// A proxy that runs as long as the test.
pub struct Proxy {
    pub endpoint: String,
    decide: Arc<Mutex<Decide>>,
}

impl Proxy {
    /// Before a server at `endpoint`; at first all requests pass.
    pub async fn start(endpoint: &str) -> Self {
        Self::listen(endpoint, None).await
    }

    /// As [`Proxy::start`], over TLS. Gives the PEM of its certificate, too.
    pub async fn start_tls(endpoint: &str) -> (Self, String) {
        let names = vec!["127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        (Self::listen(endpoint, Some(tls)).await, made.cert.pem())
    }

    async fn listen(endpoint: &str, tls: Option<TlsAcceptor>) -> Self {
        let upstream = endpoint.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let decide: Arc<Mutex<Decide>> = Arc::new(Mutex::new(Box::new(|_| Deed::Pass)));
        let proxy = Self {
            endpoint: match tls {
                Some(_) => format!("https://{address}"),
                None => format!("http://{address}"),
            },
            decide: Arc::clone(&decide),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, decide) = (upstream.clone(), Arc::clone(&decide));
                let tls = tls.clone();
                // A peer that goes away is what is tested.
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => serve(tls.accept(client).await?, &upstream, &decide).await,
                        None => serve(client, &upstream, &decide).await,
                    }
                });
            }
        });
        proxy
    }

    /// Decides by the request line, as `PUT /bucket/name?partNumber=1 HTTP/1.1`.
    pub fn decide(&self, decide: impl FnMut(&str) -> Deed + Send + 'static) {
        *self.decide.lock().unwrap() = Box::new(decide);
    }
}

async fn serve(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    upstream: &str,
    decide: &Mutex<Decide>,
) -> std::io::Result<()> {
    let (head, begun) = head(&mut client).await?;
    let line = head.lines().next().unwrap_or_default().to_owned();
    let length = head.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        let wanted = name.eq_ignore_ascii_case("content-length");
        wanted.then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = begun;
    let rest = length.unwrap_or(0).saturating_sub(body.len());
    let mut more = vec![0; rest];
    client.read_exact(&mut more).await?;
    body.append(&mut more);
    let deed = (decide.lock().unwrap())(&line);
    let mut left = match deed {
        Deed::Answer(status, code) => {
            let text = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            client.write_all((head + &text).as_bytes()).await?;
            return client.shutdown().await;
        }
        Deed::Cut(bytes) => bytes,
        Deed::Hold(leave) => {
            leave
                .acquire()
                .await
                .map_err(std::io::Error::other)?
                .forget();
            usize::MAX
        }
        Deed::Pass => usize::MAX,
    };
    let mut server = TcpStream::connect(upstream).await?;
    // The signature does not cover this one.
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    server.write_all(head.as_bytes()).await?;
    server.write_all(&body).await?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = server.read(&mut buffer).await?.min(left);
        if n == 0 {
            return client.shutdown().await;
        }
        client.write_all(&buffer[..n]).await?;
        left -= n;
    }
}

/// The head, with the empty line that ends it, and what came after it.
async fn head(client: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = read.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&read).into_owned(), rest));
        }
        if client.read_buf(&mut read).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}
