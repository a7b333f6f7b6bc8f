//! A server that keeps one session's log, streams it, and fails when told to.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use freehold_base::{Secret, Timestamp};
use freehold_client::{Client, Options};
use futures_util::stream;
use tokio::sync::broadcast;

type Answer = (u16, Vec<(&'static str, &'static str)>, String);
type Hook = Box<dyn FnMut(&Fake) + Send>;

pub struct Fake {
    log: Mutex<Vec<(Timestamp, String)>>,
    live: broadcast::Sender<String>,
    /// Frames each stream connection gives before it breaks; the last for all that follow.
    pub cuts: Mutex<VecDeque<usize>>,
    /// What `/v1/scripted` answers, in turn: status, headers, body.
    pub answers: Mutex<VecDeque<Answer>>,
    /// Requests that came, as `METHOD path?query`.
    pub seen: Mutex<Vec<String>>,
    pub headers: Mutex<HeaderMap>,
    /// Called when a stream was opened, before its head is sent.
    pub on_open: Mutex<Option<Hook>>,
}

impl Fake {
    /// Appends an event and streams it.
    pub fn append(&self, id: &str, kind: &str) {
        let mut log = self.log.lock().unwrap();
        let at = Timestamp::from_micros(1_000_000 + log.len() as i64);
        let event = format!(r#"{{"id":"{id}","type":"{kind}","processed_at":"{at}"}}"#);
        log.push((at, event.clone()));
        let _ = self.live.send(format!("event: {kind}\ndata: {event}\n\n"));
    }
    /// Streams a frame that is in no log.
    pub fn frame(&self, frame: &str) {
        let _ = self.live.send(frame.to_owned());
    }
    pub fn answer(&self, status: u16, headers: &[(&'static str, &'static str)], body: &str) {
        self.answers
            .lock()
            .unwrap()
            .push_back((status, headers.to_vec(), body.to_owned()));
    }
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

pub async fn start() -> (Arc<Fake>, Client) {
    let fake = Arc::new(Fake {
        log: Mutex::default(),
        live: broadcast::channel(1024).0,
        cuts: Mutex::new([usize::MAX].into()),
        answers: Mutex::default(),
        seen: Mutex::default(),
        headers: Mutex::default(),
        on_open: Mutex::default(),
    });
    let router = Router::new()
        .route("/base/v1/sessions/s1/events", get(list))
        .route("/base/v1/sessions/s1/events/stream", get(stream_events))
        .fallback(any(scripted))
        .with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let key = Secret::new("sk-test-key".to_owned());
    let client = Client::new(Options::new(format!("http://{address}/base"), key)).unwrap();
    (fake, client)
}

/// Two to a page, so that pages are walked through.
async fn list(State(fake): State<Arc<Fake>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    fake.seen.lock().unwrap().push(format!("LIST {query}"));
    let value = |name: &str| {
        let pairs = query.split('&').filter_map(|p| p.split_once('='));
        pairs
            .into_iter()
            .find(|(k, _)| *k == name)
            .map(|(_, v)| v.replace("%3A", ":"))
    };
    let after: Option<Timestamp> = value("created_at%5Bgt%5D").map(|t| t.parse().unwrap());
    let from: usize = value("page").map_or(0, |p| p.parse().unwrap());
    let log = fake.log.lock().unwrap();
    let all: Vec<&str> = log
        .iter()
        .filter(|(at, _)| after.is_none_or(|after| after < *at))
        .map(|(_, e)| e.as_str())
        .collect();
    let page = all
        .iter()
        .skip(from)
        .take(2)
        .copied()
        .collect::<Vec<_>>()
        .join(",");
    let next = if from + 2 < all.len() {
        format!("\"{}\"", from + 2)
    } else {
        "null".to_owned()
    };
    let queued = r#"{"id":"queued","type":"user.message","processed_at":null}"#;
    let data = if page.is_empty() {
        queued.to_owned()
    } else {
        page
    };
    format!(r#"{{"data":[{data}],"next_page":{next}}}"#).into_response()
}

async fn stream_events(State(fake): State<Arc<Fake>>, RawQuery(query): RawQuery) -> Response {
    fake.seen
        .lock()
        .unwrap()
        .push(format!("STREAM {}", query.unwrap_or_default()));
    let receiver = fake.live.subscribe();
    let cut = {
        let mut cuts = fake.cuts.lock().unwrap();
        if cuts.len() > 1 {
            cuts.pop_front().unwrap()
        } else {
            cuts[0]
        }
    };
    let hook = fake.on_open.lock().unwrap().take();
    if let Some(mut hook) = hook {
        hook(&fake);
        *fake.on_open.lock().unwrap() = Some(hook);
    }
    let frames = stream::unfold((receiver, cut), async |(mut receiver, left)| {
        if left == 0 {
            return None;
        }
        let frame = receiver.recv().await.ok()?;
        Some((
            Ok::<_, Infallible>(Bytes::from(frame)),
            (receiver, left - 1),
        ))
    });
    (
        [("content-type", "text/event-stream")],
        Body::from_stream(frames),
    )
        .into_response()
}

async fn scripted(State(fake): State<Arc<Fake>>, request: axum::extract::Request) -> Response {
    fake.seen
        .lock()
        .unwrap()
        .push(format!("{} {}", request.method(), request.uri()));
    *fake.headers.lock().unwrap() = request.headers().clone();
    let Some((status, headers, body)) = fake.answers.lock().unwrap().pop_front() else {
        return StatusCode::IM_A_TEAPOT.into_response();
    };
    let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
