//! Event streams (contract 40, "SSE").

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, message, read, types};

/// A client of one stream.
struct Listener {
    bytes: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
}

/// A frame: its name and its data.
type Frame = (String, Value);

impl Listener {
    async fn open(s: &Server, path: &str) -> Self {
        let response = s.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(
            response.headers()["request-id"]
                .to_str()
                .unwrap()
                .starts_with("req_")
        );
        assert!(response.headers().contains_key("anthropic-workspace-id"));
        Self {
            bytes: response.bytes_stream().boxed(),
            buffer: String::new(),
        }
    }

    async fn session(s: &Server, session: &str, query: &str) -> Self {
        Self::open(s, &format!("/v1/sessions/{session}/events/stream{query}")).await
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some((frame, rest)) = self.buffer.split_once("\n\n") {
                let (name, data) = frame.split_once('\n').unwrap();
                let name = name.strip_prefix("event: ").unwrap().to_owned();
                let data = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
                self.buffer = rest.to_owned();
                return Some((name, data));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.bytes.next())
                .await
                .expect("no frame");
            self.buffer
                .push_str(std::str::from_utf8(&chunk?.unwrap()).unwrap());
        }
    }

    /// Data of the frames up to and with the first of this type.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        while let Some((name, data)) = self.next().await {
            if name == "ping" {
                continue;
            }
            let last = data["type"] == kind;
            seen.push(data);
            if last {
                return seen;
            }
        }
        panic!("the stream ended before {kind}: {:?}", types(&seen));
    }
}

#[tokio::test]
async fn a_stream_and_the_history_agree() {
    let s = Server::start().await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "").await;
    s.say(&session, "bash: ls\nsay: done").await;
    let live = stream.until("session.status_idle").await;
    assert_eq!(live, s.settled(&session).await);
    assert!(
        types(&live).contains(&"agent.tool_result"),
        "{:?}",
        types(&live)
    );
    let n = live.len();
    assert_eq!(
        types(&live)[n - 2..],
        ["session.usage", "session.status_idle"]
    );
    // Nothing is replayed to a stream that opens later.
    let mut late = Listener::session(&s, &session, "").await;
    s.say(&session, "say: again").await;
    assert_eq!(
        late.until("session.status_idle").await[0]["type"],
        "user.message"
    );
}

#[tokio::test]
async fn frames_are_named_for_old_and_new_clients() {
    let s = Server::start().await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "?event_deltas[]=agent.message").await;
    s.say(&session, "say: done").await;
    loop {
        let (name, data) = stream.next().await.unwrap();
        let kind = data["type"].as_str().unwrap();
        match kind {
            "session.usage"
            | "event_start"
            | "event_delta"
            | "session.thread_status_idle"
            | "session.thread_status_running" => assert_eq!(name, "message"),
            _ => assert_eq!(name, kind),
        }
        if kind == "session.status_idle" {
            break;
        }
    }
}

#[tokio::test]
async fn previews_start_before_their_fragments_and_end_with_the_event() {
    let s = Server::start().await;
    let session = s.session().await;
    let query = "?event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking";
    let mut stream = Listener::session(&s, &session, query).await;
    let mut plain = Listener::session(&s, &session, "").await;
    let text = "a text that is long enough to come in more than one piece, one after the other";
    s.say(&session, &format!("think: about it\nsay: {text}"))
        .await;
    let live = stream.until("session.status_idle").await;
    let mut previews: std::collections::HashMap<String, String> = Default::default();
    let (mut compared, mut thought) = (0, false);
    for event in &live {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "event_start" => {
                assert!(event.get("id").is_none() && event.get("processed_at").is_none());
                thought |= event["event"]["type"] == "agent.thinking";
                let new = previews.insert(text(&event["event"]["id"]), String::new());
                assert!(new.is_none(), "two starts for one id");
            }
            "event_delta" => {
                let so_far = previews
                    .get_mut(&text(&event["event_id"]))
                    .expect("start first");
                so_far.push_str(event["delta"]["content"]["text"].as_str().unwrap());
            }
            "agent.message" => {
                let shown = previews.remove(&text(&event["id"])).expect("a preview");
                let whole: String = event["content"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|b| b["text"].as_str().unwrap())
                    .collect();
                assert!(
                    !shown.is_empty() && whole.starts_with(&shown),
                    "{shown} / {whole}"
                );
                compared += 1;
            }
            _ => {}
        }
    }
    assert_eq!((compared, thought), (1, true));
    let plain = plain.until("session.status_idle").await;
    assert!(!types(&plain).contains(&"event_start") && !types(&plain).contains(&"event_delta"));
    let events: Vec<_> = live
        .into_iter()
        .filter(|e| !e["type"].as_str().unwrap().starts_with("event_"))
        .collect();
    assert_eq!(events, plain);
}

#[tokio::test]
async fn only_the_asked_kinds_are_previewed() {
    let s = Server::start().await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "?event_deltas[]=agent.thinking").await;
    s.say(&session, "think: about it\nsay: hello there").await;
    let live = stream.until("session.status_idle").await;
    let starts: Vec<_> = live.iter().filter(|e| e["type"] == "event_start").collect();
    assert_eq!(starts.len(), 1);
    assert_eq!(starts[0]["event"]["type"], "agent.thinking");
    assert!(!types(&live).contains(&"event_delta"));
}

#[tokio::test]
async fn bad_event_deltas_are_refused() {
    let s = Server::start().await;
    let session = s.session().await;
    let many = "event_deltas[]=agent.message&".repeat(101);
    for query in [
        "event_deltas[]=agent.tool_use",
        "event_deltas[]=",
        many.as_str(),
    ] {
        let path = format!("/v1/sessions/{session}/events/stream?{query}");
        let message = s.get(&path).await.invalid();
        assert!(message.contains("event_deltas"), "{message}");
    }
}

#[tokio::test]
async fn a_silent_stream_gets_pings() {
    let s = Server::with(|app| app.with_ping(Duration::from_millis(20))).await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "").await;
    for _ in 0..3 {
        assert_eq!(
            stream.next().await.unwrap(),
            ("ping".into(), json!({"type": "ping"}))
        );
    }
}

#[tokio::test]
async fn deleting_a_session_is_the_last_frame() {
    let s = Server::start().await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "").await;
    s.delete(&format!("/v1/sessions/{session}")).await.ok();
    let (name, data) = stream.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &data["type"]),
        ("session.deleted", &json!("session.deleted"))
    );
    assert!(data["id"].as_str().unwrap().starts_with("sevt_"));
    assert!(data["processed_at"].is_string());
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn archiving_a_session_ends_its_streams() {
    let s = Server::start().await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "").await;
    s.post(&format!("/v1/sessions/{session}/archive"), json!({}))
        .await
        .ok();
    let seen = stream.until("session.status_terminated").await;
    assert_eq!(types(&seen).last(), Some(&"session.status_terminated"));
    assert!(stream.next().await.is_none());
    let mut late = Listener::session(&s, &session, "").await;
    assert!(late.next().await.is_none());
}

#[tokio::test]
async fn stopping_the_server_ends_open_streams() {
    let s = Server::start().await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "").await;
    s.stop().await;
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn a_revoked_keys_streams_end_and_nobody_elses() {
    let s = Server::start().await;
    let session = s.session().await;
    let made = s.post("/v1/freehold/keys", json!({"name": "k"})).await.ok();
    let key = made["key"].as_str().unwrap();
    let path = format!("/v1/sessions/{session}/events/stream");
    let theirs = s.request_as(key, Method::GET, &path).send().await.unwrap();
    let mut mine = Listener::open(&s, &path).await;
    let revoke = format!("/v1/freehold/keys/{}/revoke", made["id"].as_str().unwrap());
    s.post_raw(&revoke, "").await.ok();
    assert_eq!(theirs.text().await.unwrap(), "");
    s.say(&session, "say: hi").await;
    mine.until("session.status_idle").await;
}

#[tokio::test]
async fn events_too_large_to_be_held_come_in_their_place() {
    let s = Server::start().await;
    let session = s.session().await;
    let mut stream = Listener::session(&s, &session, "?event_deltas[]=agent.message").await;
    let large = "x".repeat(freehold_base::limits::HUB_FRAME * 2);
    s.say(&session, &format!("say: {large}")).await;
    let mut live = stream.until("session.status_idle").await;
    live.retain(|e| e["type"] != "event_start" && e["type"] != "event_delta");
    assert_eq!(live, s.settled(&session).await);
}

#[tokio::test]
async fn the_primary_threads_stream_is_the_sessions() {
    let s = Server::start().await;
    let session = s.session().await;
    let threads = s.get(&format!("/v1/sessions/{session}/threads")).await.ok();
    let thread = threads["data"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/sessions/{session}/threads/{thread}/stream");
    let mut stream = Listener::open(&s, &path).await;
    s.send(&session, json!([message("say: hi")])).await.ok();
    stream.until("session.status_idle").await;
    let unknown = format!("/v1/sessions/{session}/threads/sthr_none/stream");
    s.get(&unknown).await.error(404, "not_found_error");
    let wrong = format!("/v1/sessions/{session}/threads/{thread}/events/stream");
    s.get(&wrong).await.error(404, "not_found_error");
}

#[tokio::test]
async fn streams_of_nothing_are_404_before_any_frame() {
    let s = Server::start().await;
    let request = s.request(Method::GET, "/v1/sessions/sesn_none/events/stream");
    read(request).await.error(404, "not_found_error");
}
