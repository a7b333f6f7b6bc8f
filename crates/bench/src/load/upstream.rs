//! An instant model: a Messages API inside this process that answers at once with what the user's
//! message orders, and remembers when it was asked and when it had answered.

mod answer;
mod order;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub(crate) use order::{Order, Work};

/// Greatest request that is read, bytes.
const MAX_REQUEST: usize = 64 * 1024 * 1024;

/// One request and its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The head of the request had arrived.
    pub(crate) arrived: Instant,
    /// The answer was handed to the connection.
    pub(crate) answered: Instant,
}

/// The model. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// Where it listens, on loopback.
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    next: AtomicU64,
    /// Requests of orders whose times are wanted; taken out by whoever ordered.
    watched: Mutex<HashMap<u64, Vec<Asked>>>,
}

impl State {
    fn watched(&self) -> MutexGuard<'_, HashMap<u64, Vec<Asked>>> {
        // The map is whole between any two statements.
        self.watched.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Upstream {
    /// Starts to listen.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let upstream = Self {
            address: listener.local_addr()?,
            state: Arc::default(),
        };
        let state = Arc::clone(&upstream.state);
        tokio::spawn(async move {
            // As many connections as the server under test opens; it is the only client.
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                tokio::spawn(async move {
                    // A delay of small writes would be measured as the server's; a connection
                    // without this option is only slower.
                    let _ = socket.set_nodelay(true);
                    let service = service_fn(|request| answer(&state, request));
                    // The server under test may hang up at any time.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Ok(upstream)
    }

    /// An order whose requests nobody will ask about.
    pub(crate) fn order(&self, work: Work) -> Order {
        Order {
            work,
            number: self.state.next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// An order whose requests are remembered until [`Upstream::asked`].
    pub(crate) fn watched(&self, work: Work) -> Order {
        let order = self.order(work);
        self.state.watched().insert(order.number, Vec::new());
        order
    }

    /// The requests of a watched order, in order of arrival; forgets them.
    pub(crate) fn asked(&self, order: &Order) -> Result<Vec<Asked>> {
        self.state
            .watched()
            .remove(&order.number)
            .context("the order was not watched")
    }
}

async fn answer(
    state: &State,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let arrived = Instant::now();
    let wanted = request.uri().path() == "/v1/messages";
    let body = Limited::new(request.into_body(), MAX_REQUEST)
        .collect()
        .await;
    let order = body
        .ok()
        .filter(|_| wanted)
        .and_then(|b| order::read(&b.to_bytes()));
    let Some((order, done)) = order else {
        let text =
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"no order"}}"#;
        let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    let mut response = Response::new(Full::new(answer::write(&order, done)));
    let kind = header::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if let Some(asked) = state.watched().get_mut(&order.number) {
        asked.push(Asked {
            arrived,
            answered: Instant::now(),
        });
    }
    Ok(response)
}
