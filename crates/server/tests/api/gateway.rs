//! The gateway in front of a Messages API: what passes through unchanged and what does not.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use freehold_base::Secret;
use http::HeaderMap;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::{Server, read};

/// An upstream that answers everything alike and keeps the last request.
#[derive(Clone)]
struct Upstream {
    status: u16,
    kind: &'static str,
    body: &'static str,
    seen: Arc<Mutex<Option<(HeaderMap, Bytes)>>>,
}

impl Upstream {
    /// Starts it, and a server in front of it.
    async fn start(status: u16, kind: &'static str, body: &'static str) -> (Self, Server) {
        let upstream = Self {
            status,
            kind,
            body,
            seen: Arc::default(),
        };
        let router = Router::new()
            .route("/prefix/v1/messages", post(Self::answer))
            .with_state(upstream.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/prefix", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let server = Server::with_models(|models| {
            let key = Secret::new("upstream-key".to_owned());
            models
                .set_fallback_url(&url, Some(key), Default::default())
                .unwrap();
        })
        .await;
        (upstream, server)
    }

    async fn answer(State(up): State<Self>, headers: HeaderMap, body: Bytes) -> Response {
        *up.seen.lock().unwrap() = Some((headers, body));
        Response::builder()
            .status(up.status)
            .header("content-type", up.kind)
            .header("retry-after", "7")
            .header("set-cookie", "a=b")
            .header("request-id", "req_upstream")
            .header("anthropic-ratelimit-requests-remaining", "3")
            .body(up.body.into())
            .unwrap()
    }
}

const ANSWER: &str = r#"{"id":"msg_1","type":"message","unknown":[1.0e0],"content":[]}"#;

#[tokio::test]
async fn bodies_pass_unchanged_and_keys_do_not() {
    let (up, s) = Upstream::start(200, "application/json", ANSWER).await;
    let body =
        r#"{"model":"claude-x","max_tokens":5,"messages":[],"new_field":{"b":1.50,"a":"\u00e9"}}"#;
    let request = s
        .request(Method::POST, "/v1/messages")
        .header("anthropic-beta", "one-1, two-2")
        .header("x-stainless-lang", "python")
        .body(body);
    let answer = read(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.bytes, ANSWER.as_bytes());
    assert_eq!(answer.header("anthropic-ratelimit-requests-remaining"), "3");
    assert_eq!(answer.header("set-cookie"), "");
    assert_ne!(answer.header("request-id"), "req_upstream");
    let (headers, seen) = up.seen.lock().unwrap().take().unwrap();
    let sent = String::from_utf8(seen.to_vec()).unwrap();
    assert!(
        sent.contains(r#""new_field":{"b":1.50,"a":"\u00e9"}"#),
        "{sent}"
    );
    assert_eq!(headers["x-api-key"], "upstream-key");
    assert_eq!(headers["anthropic-version"], "2026-10-21");
    assert!(
        headers["anthropic-beta"]
            .to_str()
            .unwrap()
            .contains("two-2")
    );
    assert!(!format!("{headers:?}").contains(crate::harness::ADMIN_KEY));
    assert!(!headers.contains_key("authorization"));
}

#[tokio::test]
async fn an_upstream_error_keeps_its_words_and_gets_our_request_id() {
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"too hot",
        "details":{"error_code":"x"}},"request_id":"req_upstream"}"#;
    let (_, s) = Upstream::start(400, "application/json", body).await;
    let ask = json!({"model": "claude-x", "max_tokens": 5, "messages": []});
    let answer = s.post("/v1/messages", ask).await;
    assert_eq!(answer.invalid(), "too hot");
    assert_eq!(answer.code(), "x");
    assert_eq!(answer.header("retry-after"), "7");
    let ask = json!({"model": "claude-x", "max_tokens": 5, "messages": [], "stream": true});
    let streamed = s.post("/v1/messages", ask).await.invalid();
    assert!(streamed.contains("too hot"), "{streamed}");
}

#[tokio::test]
async fn redirects_and_nonsense_are_not_passed_on() {
    for (status, kind, body) in [
        (302, "application/json", "{}"),
        (200, "text/html", "<html>"),
        (502, "text/html", "<html>bad gateway</html>"),
    ] {
        let (_, s) = Upstream::start(status, kind, body).await;
        let ask = json!({"model": "claude-x", "max_tokens": 5, "messages": []});
        let answer = s.post("/v1/messages", ask).await;
        assert!(
            answer.status >= 500,
            "{status} {kind} gave {}",
            answer.status
        );
        assert_eq!(answer.body["type"], "error", "{}", answer.body);
        assert_eq!(answer.header("content-type"), "application/json");
    }
}
