//! The HTTP side of the proxy. hyper parses; we decide.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, UPGRADE,
};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Shared;
use super::dial::DialError;
use super::target::Target;

/// Connections of one sandbox at a time; more wait.
const MAX_CONNECTIONS: usize = 128;
/// How long a request's head may take to arrive.
const HEAD_LIMIT: Duration = Duration::from_secs(15);
/// Bytes of a request's head, and number of its fields.
const MAX_HEAD: usize = 16 * 1024;
const MAX_FIELDS: usize = 100;
/// How long a tunnel may be silent in both directions.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long an origin may take to answer a forwarded request.
const ANSWER_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Bytes copied at a time in each direction of a tunnel.
const COPY: usize = 32 * 1024;

type Body = BoxBody<Bytes, hyper::Error>;

/// Accepts until stopped.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors or the like; trying again at once would only burn time.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let stop = shared.stop.clone();
            tokio::select! {
                () = serve(stream, shared) => {}
                () = stop.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // The tunnel of a CONNECT, taken over when hyper is done with the connection, so that it is
    // counted and stopped with it.
    let (hand_over, mut tunnel) =
        tokio::sync::mpsc::channel::<(TcpStream, hyper::upgrade::OnUpgrade)>(1);
    let service = service_fn(move |request| {
        let (shared, hand_over) = (shared.clone(), hand_over.clone());
        async move { Ok::<_, Infallible>(answer(request, &shared, &hand_over).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    // A client that breaks off or breaks the rules of HTTP harms only itself.
    if served.is_err() {
        return;
    }
    if let Ok((origin, upgrade)) = tunnel.try_recv()
        && let Ok(client) = upgrade.await
    {
        relay(TokioIo::new(client), origin).await;
    }
}

async fn answer(
    mut request: Request<Incoming>,
    shared: &Shared,
    hand_over: &tokio::sync::mpsc::Sender<(TcpStream, hyper::upgrade::OnUpgrade)>,
) -> Response<Body> {
    let connect = request.method() == Method::CONNECT;
    let plain_http = request.uri().scheme_str() == Some("http");
    if !connect && !plain_http {
        return say(
            StatusCode::BAD_REQUEST,
            "this is a proxy: send CONNECT or an http:// target",
        );
    }
    let Some(target) = Target::of(request.uri(), plain_http.then_some(80)) else {
        return say(
            StatusCode::BAD_REQUEST,
            "the target is not a host and a port",
        );
    };
    let origin = match shared.dial(&target).await {
        Ok(origin) => origin,
        Err(error) => return refuse(error),
    };
    if !connect {
        return forward(request, origin).await;
    }
    let upgrade = hyper::upgrade::on(&mut request);
    match hand_over.try_send((origin, upgrade)) {
        Ok(()) => Response::new(body(Bytes::new())),
        Err(_) => say(StatusCode::BAD_REQUEST, "one tunnel for each connection"),
    }
}

/// Sends an absolute-form request on in origin form.
async fn forward(request: Request<Incoming>, origin: TcpStream) -> Response<Body> {
    let Ok(request) = origin_form(request) else {
        return say(StatusCode::BAD_REQUEST, "the target is not a URL");
    };
    let bad_gateway = |text| say(StatusCode::BAD_GATEWAY, text);
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(origin)).await;
    let Ok((mut sender, connection)) = handshake else {
        return bad_gateway("no connection could be made");
    };
    // Ends by itself once sender and response body are gone, which stopping the proxy brings about.
    tokio::spawn(connection);
    match tokio::time::timeout(ANSWER_LIMIT, sender.send_request(request)).await {
        Ok(Ok(mut response)) => {
            strip_hop_by_hop(response.headers_mut());
            response.map(BodyExt::boxed)
        }
        Ok(Err(_)) => bad_gateway("the host broke off"),
        Err(_) => say(
            StatusCode::GATEWAY_TIMEOUT,
            "the host did not answer in time",
        ),
    }
}

/// `Host` is set from the target that was checked, never from what the client claims.
fn origin_form(request: Request<Incoming>) -> Result<Request<Incoming>, http::Error> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().map_or("", |a| a.as_str()).to_owned();
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str());
    head.uri = Uri::try_from(path)?;
    strip_hop_by_hop(&mut head.headers);
    head.headers.insert(HOST, HeaderValue::try_from(authority)?);
    Ok(Request::from_parts(head, body))
}

/// Removes what concerns one connection only (RFC 9110 §7.6.1). `Transfer-Encoding` is hyper's.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| {
            *name != http::header::TRANSFER_ENCODING && *name != http::header::CONTENT_LENGTH
        })
        .collect();
    let fixed = [
        CONNECTION,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        UPGRADE,
    ];
    let odd = ["keep-alive", "proxy-connection"].map(HeaderName::from_static);
    for name in named.iter().chain(&fixed).chain(&odd) {
        headers.remove(name);
    }
}

/// Copies both ways until both ends have closed, an error, or silence.
async fn relay(client: impl AsyncRead + AsyncWrite, origin: TcpStream) {
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut origin_read, mut origin_write) = origin.into_split();
    let active = tokio::sync::Notify::new();
    let silence = async {
        while tokio::time::timeout(IDLE_LIMIT, active.notified())
            .await
            .is_ok()
        {}
    };
    let both = async {
        tokio::join!(
            copy(&mut client_read, &mut origin_write, &active),
            copy(&mut origin_read, &mut client_write, &active),
        )
    };
    tokio::select! {
        _ = both => {}
        () = silence => {}
    }
}

/// Copies one way; an end or error is passed on as an end.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    active: &tokio::sync::Notify,
) {
    let mut buffer = vec![0; COPY];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
        active.notify_one();
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

fn refuse(error: DialError) -> Response<Body> {
    let status = if error.is_policy() {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::BAD_GATEWAY
    };
    say(status, &error.to_string())
}

fn say(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(body(format!("{text}\n").into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

fn body(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
