//! From a stream that the edge opened to the server it is for: inner TLS, one HTTP/1.1 request after
//! another, each to the route of the host it names.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Body;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::audit::{Cut, Record, Watched};
use super::config::Route;
use super::upstream::{Stream, UpstreamError, Upstreams};

/// Longest wait for the inner handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest wait for a request's head, and of a body's silence.
const HEAD: Duration = Duration::from_secs(30);
/// Longest wait for an answer's head.
const ANSWER: Duration = Duration::from_secs(120);
/// Longest silence of an answer: event streams may have nothing to say.
const SILENCE: Duration = Duration::from_secs(300);
/// How long a kept connection is still listened to when the gateway stops: closed at once, it would
/// take a request along that is already on its way. The next answer says that it is the last; the
/// connector of the server keeps no idle connection for so long.
const LAST_WORD: Duration = Duration::from_secs(7);
/// Largest head, bytes.
const MAX_HEAD: usize = 32 << 10;
/// Largest request, bytes.
const MAX_BODY: u64 = 32 << 20;
/// Largest answer, bytes.
const MAX_ANSWER: u64 = 4 << 30;

type Out = BoxBody<Bytes, Cut>;

/// The routes as they are now, with kept connections to their servers.
pub struct Table {
    domain: Option<String>,
    routes: BTreeMap<String, (usize, Route)>,
    client: Client<Connector, Watched<Body>>,
    log_arguments: bool,
}

impl Table {
    /// One for these routes.
    pub fn new(
        domain: Option<String>,
        routes: BTreeMap<String, Route>,
        upstreams: Arc<Upstreams>,
        log_arguments: bool,
    ) -> Self {
        let targets: Vec<_> = routes.values().cloned().collect();
        let connector = Connector {
            upstreams,
            targets: targets.into(),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(60))
            .pool_max_idle_per_host(32)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(4 * MAX_HEAD)
            .set_host(false)
            .retry_canceled_requests(true)
            .build(connector);
        let numbered = routes.into_iter().enumerate();
        Self {
            domain,
            routes: numbered
                .map(|(i, (name, route))| (name, (i, route)))
                .collect(),
            client,
            log_arguments,
        }
    }

    /// The route of a host in lower case: its own, or that of what stands before the tunnel's domain.
    fn route(&self, host: &str) -> Option<&(usize, Route)> {
        self.routes.get(host).or_else(|| {
            let domain = self.domain.as_deref()?;
            let label = host.strip_suffix(domain)?.strip_suffix('.')?;
            self.routes.get(label)
        })
    }

    /// Whether a stream for `authority` is taken.
    pub fn serves(&self, authority: &str) -> bool {
        host_of(authority).is_some_and(|host| self.route(&host).is_some())
    }
}

/// The host of `host:443`, in one form.
pub fn host_of(authority: &str) -> Option<String> {
    let host = authority.strip_suffix(":443")?;
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.');
    (!host.is_empty() && host.bytes().all(fits)).then_some(host)
}

/// Serves a stream to its end.
///
/// # Errors
/// What ended it before its time; there was no answer then.
pub async fn serve(
    table: Arc<Table>,
    acceptor: TlsAcceptor,
    authority: &str,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    drain: CancellationToken,
) -> io::Result<()> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let host = host_of(authority).ok_or_else(|| invalid("no host"))?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| invalid("tls handshake failed: too slow"))?
        .map_err(|e| invalid(&format!("tls handshake failed: {e}")))?;
    if stream.get_ref().1.server_name() != Some(host.as_str()) {
        return Err(invalid(
            "tls handshake failed: it names another host than the stream",
        ));
    }
    let last = drain.clone();
    let service = service_fn(move |request| {
        let (table, host, last) = (Arc::clone(&table), host.clone(), last.clone());
        async move {
            let mut response = answer(&table, &host, request).await;
            if last.is_cancelled() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let idle = async {
        drain.cancelled().await;
        tokio::time::sleep(LAST_WORD).await;
    };
    let served = tokio::select! {
        served = &mut connection => served,
        () = idle => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    served.map_err(|e| invalid(&e.to_string()))
}

async fn answer(table: &Arc<Table>, host: &str, request: Request<Body>) -> Response<Out> {
    let record = Record {
        request_id: request_id(request.headers()),
        host: host.to_owned(),
        method: request.method().to_string(),
        sent: Arc::default(),
        received: Arc::default(),
        begun: Instant::now(),
        arguments: table.log_arguments,
    };
    let forwarded = forward(table, host, request, &record).await;
    match forwarded {
        Ok(response) => {
            let status = response.status().as_u16();
            let received = Arc::clone(&record.received);
            response.map(|body| {
                Watched::new(body, received, MAX_ANSWER, SILENCE)
                    .at_end(move || record.write(status, None))
                    .boxed()
            })
        }
        Err((status, why)) => {
            record.write(status.as_u16(), Some(&why));
            tracing::warn!(host, status = status.as_u16(), why, "request not forwarded");
            let body = Full::new(Bytes::from(format!("{why}\n")));
            let mut response = Response::new(body.map_err(|e| match e {}).boxed());
            *response.status_mut() = status;
            response
        }
    }
}

/// The caller's name of the request, or none.
fn request_id(headers: &HeaderMap) -> String {
    let id = headers.get("x-request-id").and_then(|v| v.to_str().ok());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let id = id.filter(|id| id.len() <= 128 && id.chars().all(fits));
    id.unwrap_or_default().to_owned()
}

type Refused = (StatusCode, String);

async fn forward(
    table: &Arc<Table>,
    host: &str,
    request: Request<Body>,
    record: &Record,
) -> Result<Response<Body>, Refused> {
    let no = |status, why: &str| Err((status, why.to_owned()));
    check(host, &request)?;
    let Some((number, route)) = table.route(host) else {
        return no(StatusCode::NOT_FOUND, "no route for host");
    };
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    // Where it goes is the connector's to say: the number of the route is all it needs.
    parts.uri = format!("http://{number}.route{path}")
        .parse::<Uri>()
        .map_err(|_| (StatusCode::BAD_REQUEST, "bad request target".to_owned()))?;
    strip(&mut parts.headers);
    let authority = if route.preserve_host {
        host.to_owned()
    } else {
        route.authority()
    };
    let value = HeaderValue::from_str(&authority)
        .map_err(|_| (StatusCode::BAD_GATEWAY, "bad upstream name".to_owned()))?;
    parts.headers.insert(HOST, value);
    if let Ok(host) = HeaderValue::from_str(host) {
        parts.headers.insert("x-forwarded-host", host);
    }
    parts
        .headers
        .insert("x-forwarded-proto", HeaderValue::from_static("https"));
    let sent = Arc::clone(&record.sent);
    let body = Watched::new(body, sent, MAX_BODY, HEAD).looked_at();
    let request = Request::from_parts(parts, body);
    let sent = tokio::time::timeout(ANSWER, table.client.request(request)).await;
    let mut response = match sent {
        Err(_) => return no(StatusCode::GATEWAY_TIMEOUT, "the upstream does not answer"),
        Ok(Err(error)) => return Err(failed(&error)),
        Ok(Ok(response)) => response,
    };
    strip(response.headers_mut());
    *response.version_mut() = http::Version::HTTP_11;
    Ok(response)
}

/// Refuses what two readers could read differently, and what names another host than the stream.
fn check(host: &str, request: &Request<Body>) -> Result<(), Refused> {
    let no = |status, why: &str| Err((status, why.to_owned()));
    let headers = request.headers();
    if *request.method() == Method::CONNECT || request.uri().authority().is_some() {
        return no(StatusCode::BAD_REQUEST, "only a path may be asked for");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(named), None) = (hosts.next(), hosts.next()) else {
        return no(StatusCode::BAD_REQUEST, "exactly one Host is needed");
    };
    let named = named.to_str().unwrap_or_default();
    let named = named.strip_suffix(":443").unwrap_or(named);
    let named = named.strip_suffix('.').unwrap_or(named);
    if !named.eq_ignore_ascii_case(host) {
        return no(
            StatusCode::MISDIRECTED_REQUEST,
            "Host is not the host of the connection",
        );
    }
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    let encodings = headers.get_all(TRANSFER_ENCODING).iter().count();
    if lengths + encodings > 1 {
        return no(
            StatusCode::BAD_REQUEST,
            "the length of the body is not clear",
        );
    }
    Ok(())
}

/// Takes away what is between two neighbours only, and what only a proxy may say.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, UPGRADE, FORWARDED] {
        headers.remove(name);
    }
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "via",
    ] {
        headers.remove(name);
    }
    // The body is framed anew by whoever sends it on.
    headers.remove(TRANSFER_ENCODING);
    let forwarding: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-forwarded-") || name.as_str() == "x-real-ip")
        .cloned()
        .collect();
    for name in forwarding {
        headers.remove(name);
    }
}

fn failed(error: &hyper_util::client::legacy::Error) -> Refused {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(now) = cause {
        if let Some(upstream) = now.downcast_ref::<UpstreamError>() {
            return (StatusCode::BAD_GATEWAY, upstream.to_string());
        }
        if let Some(cut) = now.downcast_ref::<Cut>() {
            let status = match cut {
                Cut::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                Cut::Silent | Cut::Broken => StatusCode::REQUEST_TIMEOUT,
            };
            return (status, cut.to_string());
        }
        cause = now.source();
    }
    (
        StatusCode::BAD_GATEWAY,
        "the upstream's answer is not HTTP".to_owned(),
    )
}

/// Opens the connections of the routes.
#[derive(Clone)]
struct Connector {
    upstreams: Arc<Upstreams>,
    targets: Arc<[Route]>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Wire;
    type Error = UpstreamError;
    type Future = BoxFuture<'static, Result<Wire, UpstreamError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let number = uri
            .host()
            .and_then(|h| h.strip_suffix(".route")?.parse::<usize>().ok());
        let (upstreams, targets) = (Arc::clone(&self.upstreams), Arc::clone(&self.targets));
        Box::pin(async move {
            let route = number.and_then(|n| targets.get(n));
            let route = route.ok_or_else(|| UpstreamError::Dns("the route".to_owned()))?;
            upstreams
                .connect(route)
                .await
                .map(|io| Wire(TokioIo::new(io)))
        })
    }
}

struct Wire(TokioIo<Box<dyn Stream>>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
