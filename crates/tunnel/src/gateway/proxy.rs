//! From a stream that the edge opened to the server it is for: inner TLS, one HTTP/1.1 request after
//! another, each to the route of the host it names.

mod gate;
mod headers;
mod pool;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming as Body};
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::audit::{self, Cut, Record, Watched};
use super::config::Route;
use super::limits::Limits;
use super::status::Board;
use super::upstream::{UpstreamError, Upstreams};
use gate::{Gate, MAX_HEAD};
use headers::{check, repeats_body, request_id, strip};
use pool::Connector;

/// Largest request, bytes.
const MAX_BODY: u64 = 32 << 20;
/// Largest answer, bytes.
const MAX_ANSWER: u64 = 4 << 30;
/// How long a kept connection to a server may be idle.
const KEPT: Duration = Duration::from_secs(60);

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

type Out = UnsyncBoxBody<Bytes, Cut>;

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
            .pool_idle_timeout(KEPT)
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

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Unserved {
    /// Caller and gateway did not agree on TLS; nothing of HTTP was read.
    #[error("tls handshake failed: {0}")]
    Handshake(String),
    /// A request that can be read in more than one way; it was answered with 400.
    #[error("request refused: {0}")]
    Unclear(&'static str),
    /// The connection broke, or nothing came for too long.
    #[error("{0}")]
    Broken(hyper::Error),
}

/// How streams are served.
#[derive(Clone)]
pub struct Serving {
    /// The routes, looked up anew for each request. One that is gone serves nobody any more, and what
    /// was under way ends.
    pub table: watch::Receiver<Arc<Table>>,
    /// The end of the inner TLS.
    pub acceptor: TlsAcceptor,
    /// How long what may take.
    pub limits: Limits,
    /// Once cancelled, each answer is its connection's last.
    pub drain: CancellationToken,
    /// Where requests are counted.
    pub board: Arc<Board>,
}

impl Serving {
    /// Serves a stream to its end.
    ///
    /// # Errors
    /// [`Unserved`].
    pub async fn serve(
        self,
        authority: &str,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), Unserved> {
        let failed = |why: &str| Unserved::Handshake(why.to_owned());
        let host = host_of(authority).ok_or_else(|| failed("the stream names no host"))?;
        let accepting = self.acceptor.accept(stream);
        let stream = tokio::time::timeout(self.limits.handshake, accepting)
            .await
            .map_err(|_| failed("too slow"))?
            .map_err(|e| failed(&e.to_string()))?;
        if stream.get_ref().1.server_name() != Some(host.as_str()) {
            return Err(failed("it names another host than the stream"));
        }
        let stream = Gate::new(stream);
        let unclear = stream.reason();
        let (limits, drain) = (self.limits, self.drain.clone());
        let (called, board) = (host.clone(), Arc::clone(&self.board));
        let service = service_fn(move |request| {
            let (serving, host) = (self.clone(), called.clone());
            async move { Ok::<_, Infallible>(serving.respond(&host, request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let idle = async {
            drain.cancelled().await;
            tokio::time::sleep(limits.last_word).await;
        };
        let served = tokio::select! {
            served = &mut connection => served,
            () = idle => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        match unclear.get() {
            Some(why) => {
                audit::unclear(&board, &host, why);
                Err(Unserved::Unclear(why))
            }
            None => served.map_err(Unserved::Broken),
        }
    }

    async fn respond(&self, host: &str, request: Request<Body>) -> Response<Out> {
        let table = Arc::clone(&self.table.borrow());
        // Where such a body ends only its reader knows; the gate lets no request in behind it.
        let unbounded = request.headers().contains_key(TRANSFER_ENCODING);
        let mut response = self.answer(&table, host, request).await;
        if unbounded || self.drain.is_cancelled() {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        response
    }

    async fn answer(&self, table: &Table, host: &str, request: Request<Body>) -> Response<Out> {
        let record = Record {
            request_id: request_id(request.headers()),
            host: host.to_owned(),
            method: request.method().to_string(),
            headers: audit::noted(request.headers()),
            sent: Arc::default(),
            received: Arc::default(),
            begun: Instant::now(),
            arguments: table.log_arguments,
            board: Arc::clone(&self.board),
        };
        let forwarded = tokio::select! {
            biased;
            forwarded = forward(table, &self.limits, host, request, &record) => forwarded,
            () = gone(self.table.clone(), host.to_owned()) => Err(no_route()),
        };
        match forwarded {
            Ok(response) => {
                let status = response.status().as_u16();
                let received = Arc::clone(&record.received);
                let silence = self.limits.answer_silence;
                let gone = gone(self.table.clone(), host.to_owned());
                response.map(|body| {
                    Watched::new(body, received, MAX_ANSWER, silence)
                        .until(gone)
                        .at_end(move || record.write(status, None))
                        .boxed_unsync()
                })
            }
            Err(Refused { status, why, json }) => {
                record.write(status.as_u16(), Some(&why));
                tracing::warn!(host, status = status.as_u16(), why, "request not forwarded");
                let is_json = json.is_some();
                let text = json.unwrap_or_else(|| format!("{why}\n"));
                let body = Full::new(Bytes::from(text));
                let mut response = Response::new(body.map_err(|e| match e {}).boxed_unsync());
                *response.status_mut() = status;
                if is_json {
                    response.headers_mut().insert(CONTENT_TYPE, JSON);
                }
                if status.is_client_error() {
                    // A caller that got this wrong begins anew, with a stream that has a route.
                    response.headers_mut().insert(CONNECTION, CLOSE);
                }
                response
            }
        }
    }
}

/// What is answered in place of forwarding.
struct Refused {
    status: StatusCode,
    why: String,
    /// The answer, if it is one of JSON-RPC.
    json: Option<String>,
}

impl Refused {
    fn new(status: StatusCode, why: &str) -> Self {
        Self {
            status,
            why: why.to_owned(),
            json: None,
        }
    }

    /// The headers of a message contradict it (HeaderMismatch of MCP 2026-07-28). `id` is its id, as JSON.
    fn mismatch(id: &str) -> Self {
        let why = "Header mismatch: Mcp-Method or Mcp-Name does not match the body";
        let json =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32020,"message":"{why}"}}}}"#);
        Self {
            json: Some(json),
            ..Self::new(StatusCode::BAD_REQUEST, why)
        }
    }
}

impl From<Cut> for Refused {
    fn from(cut: Cut) -> Self {
        let status = match cut {
            Cut::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Cut::Silent | Cut::Broken | Cut::Gone => StatusCode::REQUEST_TIMEOUT,
        };
        Self::new(status, &cut.to_string())
    }
}

fn no_route() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "no route for host")
}

/// Until a host has no route any more.
async fn gone(mut table: watch::Receiver<Arc<Table>>, host: String) {
    let unrouted = |table: &Arc<Table>| table.route(&host).is_none();
    if table.wait_for(unrouted).await.is_err() {
        // The gateway is over, and ends what is under way in its own time.
        std::future::pending().await
    }
}

async fn forward(
    table: &Table,
    limits: &Limits,
    host: &str,
    request: Request<Body>,
    record: &Record,
) -> Result<Response<Body>, Refused> {
    let no = |status, why: &str| Err(Refused::new(status, why));
    check(host, &request)?;
    let repeats_body = repeats_body(&request);
    let Some((number, route)) = table.route(host) else {
        return Err(no_route());
    };
    let (mut parts, body) = request.into_parts();
    // What is known to be too much is not begun: the server would have most of it before it is cut.
    if body.size_hint().lower() > MAX_BODY {
        return Err(Cut::TooLarge.into());
    }
    let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
    // Where it goes is the connector's to say: the number of the route is all it needs.
    parts.uri = format!("http://{number}.route{path}")
        .parse::<Uri>()
        .map_err(|_| Refused::new(StatusCode::BAD_REQUEST, "bad request target"))?;
    strip(&mut parts.headers);
    let authority = if route.preserve_host {
        host.to_owned()
    } else {
        route.authority()
    };
    let value = HeaderValue::from_str(&authority)
        .map_err(|_| Refused::new(StatusCode::BAD_GATEWAY, "bad upstream name"))?;
    parts.headers.insert(HOST, value);
    if let Ok(host) = HeaderValue::from_str(host) {
        parts.headers.insert("x-forwarded-host", host);
    }
    parts
        .headers
        .insert("x-forwarded-proto", HeaderValue::from_static("https"));
    let sent = Arc::clone(&record.sent);
    let mut body = Watched::new(body, sent, MAX_BODY, limits.body_silence).looked_at();
    if repeats_body {
        // Whoever reads the body, as is done here for the record, must not let such a request pass: others
        // on the way go by its headers.
        body = body.read_ahead().await?;
        if let Some(id) = record.contradicts() {
            return Err(Refused::mismatch(&id));
        }
    }
    let request = Request::from_parts(parts, body);
    let sent = tokio::time::timeout(limits.answer, table.client.request(request)).await;
    let mut response = match sent {
        Err(_) => return no(StatusCode::GATEWAY_TIMEOUT, "the upstream does not answer"),
        Ok(Err(error)) => return Err(failed(&error)),
        Ok(Ok(response)) => response,
    };
    strip(response.headers_mut());
    *response.version_mut() = http::Version::HTTP_11;
    Ok(response)
}

fn failed(error: &hyper_util::client::legacy::Error) -> Refused {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(now) = cause {
        if let Some(upstream) = now.downcast_ref::<UpstreamError>() {
            return Refused::new(StatusCode::BAD_GATEWAY, &upstream.to_string());
        }
        if let Some(cut) = now.downcast_ref::<Cut>() {
            return (*cut).into();
        }
        cause = now.source();
    }
    Refused::new(StatusCode::BAD_GATEWAY, "the upstream's answer is not HTTP")
}
