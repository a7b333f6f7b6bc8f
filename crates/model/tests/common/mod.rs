//! A scripted upstream on loopback.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use freehold_model::config::Timeouts;
use freehold_model::{Accumulator, EventStream, Message, ModelError, ModelRequest, StreamEvent};
use futures_util::{StreamExt, stream};
use serde_json::Value;

/// What happens in a body.
#[derive(Clone)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// Nothing ever comes again.
    Hang,
    /// The connection breaks.
    Break,
}

/// One scripted answer.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub pieces: Vec<Piece>,
}

impl Reply {
    pub fn sse(text: &str) -> Self {
        Self::stream(vec![Piece::Bytes(text.into())])
    }
    pub fn stream(pieces: Vec<Piece>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type", "text/event-stream; charset=utf-8".into())],
            pieces,
        }
    }
    pub fn json(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type", "application/json".into())],
            pieces: vec![Piece::Bytes(body.into())],
        }
    }
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    seen: Vec<Seen>,
}

/// The server; it ends with the test's runtime.
pub struct Upstream {
    addr: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Upstream {
    pub async fn start(replies: Vec<Reply>) -> Self {
        let script = Arc::new(Mutex::new(Script {
            replies: replies.into(),
            seen: Vec::new(),
        }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, script }
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
    pub fn seen(&self) -> Vec<Seen> {
        self.script.lock().unwrap().seen.clone()
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let reply = {
        let mut script = script.lock().unwrap();
        script.seen.push(Seen {
            path: parts.uri.to_string(),
            headers: parts
                .headers
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_str().unwrap_or("?").to_owned()))
                .collect(),
            body: String::from_utf8_lossy(&body).into_owned(),
        });
        script
            .replies
            .pop_front()
            .unwrap_or_else(|| Reply::json(500, "no reply is scripted"))
    };
    let pieces = stream::iter(reply.pieces).then(|piece| async {
        match piece {
            Piece::Bytes(bytes) => Ok(Bytes::from(bytes)),
            Piece::Hang => std::future::pending().await,
            Piece::Break => {
                // A pending body makes the server flush what it has before the break.
                tokio::task::yield_now().await;
                Err(std::io::Error::other("broken on purpose"))
            }
        }
    });
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from_stream(pieces)).unwrap()
}

/// Short limits where a test waits for one, generous ones elsewhere.
pub fn patient() -> Timeouts {
    Timeouts::default()
}

pub fn impatient() -> Timeouts {
    Timeouts {
        first_byte_ms: 100,
        idle_ms: 100,
        ..Timeouts::default()
    }
}

pub fn request(body: Value) -> ModelRequest {
    ModelRequest::from_value(body).unwrap()
}

/// All events, and the error that ended them if one did.
pub async fn drain(mut events: EventStream) -> (Vec<StreamEvent>, Option<ModelError>) {
    let mut all = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => all.push(event),
            Err(error) => {
                assert!(events.next().await.is_none(), "nothing follows an error");
                return (all, Some(error));
            }
        }
    }
    (all, None)
}

/// The message of a stream that ends well.
pub async fn message(events: EventStream) -> Message {
    let (events, error) = drain(events).await;
    assert!(error.is_none(), "{error:?}");
    fold(&events)
}

pub fn fold(events: &[StreamEvent]) -> Message {
    let mut fold = Accumulator::new();
    for event in events {
        fold.push(event).unwrap();
    }
    fold.finish().unwrap()
}

/// Content blocks as text.
pub fn content(message: &Message) -> Vec<&str> {
    message.content.iter().map(|block| block.get()).collect()
}

/// A frame.
pub fn frame(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}
