//! Any request gets a well-formed answer below 500 and nothing panics.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::harness::{ADMIN_KEY, Server};

/// JSON values whose keys and words are those the API knows, in any arrangement.
fn api_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("agent".to_owned()),
        Just("cloud".to_owned()),
        Just("user.message".to_owned()),
        Just("text".to_owned()),
        Just("file".to_owned()),
        Just("rehearsal".to_owned()),
        Just("agent_toolset_20260401".to_owned()),
        Just("mcp_tool_use".to_owned()),
        Just("mcp_tool_result".to_owned()),
        Just("mcp_tool_listing".to_owned()),
        Just("mcp_toolset".to_owned()),
        Just("agent_0".to_owned()),
        Just("env_0".to_owned()),
        "\\PC{0,12}",
    ];
    let key = prop_oneof![
        Just("type"),
        Just("name"),
        Just("model"),
        Just("tools"),
        Just("agent"),
        Just("events"),
        Just("content"),
        Just("text"),
        Just("metadata"),
        Just("config"),
        Just("environment_id"),
        Just("version"),
        Just("budget"),
        Just("resources"),
        Just("messages"),
        Just("max_tokens"),
        Just("stream"),
        Just("multiagent"),
        Just("mcp_servers"),
        Just("tool_use_id"),
        Just("mcp_server_name"),
        Just("server_name"),
        Just("input_schema"),
        Just("configs"),
        Just("odd"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|f| json!(f)),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| {
                Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => api_json().prop_map(|v| v.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

const SEGMENTS: [&str; 27] = [
    "agents",
    "environments",
    "sessions",
    "files",
    "models",
    "messages",
    "events",
    "threads",
    "resources",
    "archive",
    "stream",
    "content",
    "versions",
    "count_tokens",
    "freehold",
    "keys",
    "workspaces",
    "status",
    "revoke",
    "sesn_0",
    "env_0",
    "work",
    "work_0",
    "poll",
    "ack",
    "heartbeat",
    "stop",
];

fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        6 => prop::sample::select(&SEGMENTS[..]).prop_map(str::to_owned),
        1 => Just("%2e%2e%2f".to_owned()),
        1 => Just("%ff".to_owned()),
        1 => "[a-zA-Z0-9_.~-]{0,20}",
    ];
    let query = "([a-z_]{1,8}(\\[\\]|%5B%5D|\\[gte\\])?=[a-zA-Z0-9%_:.-]{0,16}&?){0,4}";
    (prop::collection::vec(segment, 0..5), query)
        .prop_map(|(segments, query)| format!("/v1/{}?{query}", segments.join("/")))
}

async fn check(app: &Arc<freehold_server::App>, session: &str, request: Request<Body>) {
    let what = format!("{} {}", request.method(), request.uri());
    let response = freehold_server::router(Arc::clone(app))
        .oneshot(request)
        .await
        .unwrap();
    let status = response.status().as_u16();
    assert!(
        status == 200 || (400..500).contains(&status),
        "{what}: {status} ({session})"
    );
    assert!(response.headers().contains_key("request-id"), "{what}");
    let kind = response
        .headers()
        .get("content-type")
        .map(|v| v.to_str().unwrap().to_owned());
    if kind.as_deref() == Some("text/event-stream") {
        return;
    }
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{what}: no JSON"));
    assert_eq!(status != 200, body["type"] == "error", "{what}: {body}");
}

#[test]
fn whatever_is_sent_is_answered() {
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (s, session) = tokio.block_on(async {
        let s = Server::start().await;
        let session = s.session().await;
        (s, session)
    });
    let methods = prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE]);
    let mut runner = TestRunner::new(Config {
        cases: 300,
        ..Config::default()
    });
    let targets = [
        "/v1/agents".to_owned(),
        "/v1/environments".to_owned(),
        "/v1/sessions".to_owned(),
        format!("/v1/sessions/{session}"),
        format!("/v1/sessions/{session}/events"),
        format!("/v1/sessions/{session}/resources"),
        "/v1/files".to_owned(),
        "/v1/messages".to_owned(),
        "/v1/messages/count_tokens".to_owned(),
        "/v1/freehold/keys".to_owned(),
    ];
    let known = prop::sample::select(targets.to_vec());
    let paths = prop_oneof![1 => path(), 1 => known];
    runner
        .run(&(methods, paths, body()), |(method, path, body)| {
            let Ok(uri) = path.parse::<http::Uri>() else {
                return Ok(());
            };
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .header("x-api-key", ADMIN_KEY)
                .header("anthropic-version", "2023-06-01")
                .header("anthropic-beta", "mcp-client-2025-11-20")
                .header("content-type", "multipart/form-data; boundary=b")
                .body(Body::from(body))
                .unwrap();
            tokio.block_on(check(&s.app, &session, request));
            Ok(())
        })
        .unwrap();
}
