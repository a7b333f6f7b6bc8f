//! The status over HTTP, for probes and for Prometheus.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming as Body;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::{Board, Status};

/// Longest wait for a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// Largest head, bytes.
const MAX_HEAD: usize = 8 << 10;
/// Connections at a time; others wait.
const MAX_CONNECTIONS: usize = 32;
/// After an accept that failed: there may be no file descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the status until dropped: `/` as JSON, `/healthz`, `/metrics`.
pub(in crate::gateway) async fn serve(listener: TcpListener, board: Arc<Board>) {
    let loopback = listener.local_addr().is_ok_and(|a| a.ip().is_loopback());
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = tokio::task::JoinSet::new();
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        while open.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let board = Arc::clone(&board);
        open.spawn(async move {
            let service = service_fn(|request: Request<Body>| {
                let board = &board;
                async move { Ok::<_, Infallible>(answer(board, &request, loopback)) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}

fn answer<B>(board: &Board, request: &Request<B>, loopback: bool) -> Response<Full<Bytes>> {
    let no = |status, text: &str| text_with(status, "text/plain", format!("{text}\n"));
    if loopback && !names_this_host(request.headers()) {
        // A page in a browser on this host could point a name of its own here.
        return no(StatusCode::FORBIDDEN, "ask by an address or localhost");
    }
    if request.method() != Method::GET {
        return no(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    let status = board.now();
    match request.uri().path() {
        "/" => {
            // Serialising our own plain type cannot fail.
            let json = serde_json::to_string(&status).unwrap_or_default();
            text_with(StatusCode::OK, "application/json", json)
        }
        "/healthz" if status.ready => no(StatusCode::OK, "ready"),
        "/healthz" => no(StatusCode::SERVICE_UNAVAILABLE, "not connected"),
        "/metrics" => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            text_with(StatusCode::OK, kind, metrics(&status))
        }
        _ => no(StatusCode::NOT_FOUND, "there are /, /healthz and /metrics"),
    }
}

fn text_with(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn names_this_host(headers: &HeaderMap) -> bool {
    let host = headers
        .get(HOST)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address = host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok();
    address || name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

fn metrics(status: &Status) -> String {
    let up = status
        .connections
        .values()
        .filter(|c| c.id.is_some())
        .count();
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, values: &[(String, String)]| {
        let name = format!("freehold_gateway_{name}");
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in values {
            text.push_str(&format!("{name}{labels} {value}\n"));
        }
    };
    let one = |value: String| [(String::new(), value)];
    let ready = u8::from(status.ready).to_string();
    family(
        "ready",
        "gauge",
        "Whether requests can come in.",
        &one(ready),
    );
    let help = "Connections to the edge that stand.";
    family("connections", "gauge", help, &one(up.to_string()));
    let routes = status.routes.len().to_string();
    family("routes", "gauge", "Routes.", &one(routes));
    let days = status.certificate_days_left.to_string();
    let help = "Days the certificate is still valid.";
    family("certificate_days_left", "gauge", help, &one(days));
    let requests = status.requests.iter();
    let requests =
        requests.map(|(outcome, n)| (format!("{{outcome=\"{outcome}\"}}"), n.to_string()));
    let requests: Vec<_> = requests.collect();
    family(
        "requests_total",
        "counter",
        "Requests, by how they ended.",
        &requests,
    );
    text
}
