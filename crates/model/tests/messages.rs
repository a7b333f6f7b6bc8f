//! The Messages provider against a scripted upstream.

mod common;

use std::collections::BTreeMap;

use common::{
    Piece, Reply, Upstream, content, drain, fold, frame, impatient, message, patient, request,
};
use freehold_base::Secret;
use freehold_model::config::Timeouts;
use freehold_model::messages::MessagesProvider;
use freehold_model::{ModelError, ModelErrorKind, ModelRequest, Provider, RawObject};
use futures_util::StreamExt;
use serde_json::json;

const KEY: &str = "sk-test-0123456789";

fn provider(url: &str, timeouts: Timeouts) -> MessagesProvider {
    let ids = BTreeMap::from([("ours".to_owned(), "theirs-1".to_owned())]);
    let key = Some(Secret::new(KEY.to_owned()));
    MessagesProvider::new("test", url, key, timeouts, ids).unwrap()
}

/// A stream with thinking, a signature, citations, a tool call, a block of an unknown kind, a
/// ping and an event of an unknown kind.
fn rich() -> String {
    [
        frame(
            "message_start",
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"theirs-1","content":[],"stop_reason":null,"stop_sequence":null,"x_new":{"b":1.50,"a":2},"usage":{"input_tokens":9,"output_tokens":1,"cache_creation_input_tokens":12,"cache_read_input_tokens":34,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":7}}}}"#,
        ),
        frame("ping", r#"{"type":"ping"}"#),
        frame(
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"let \"me\" "}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"see é"}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB/+=="}}"#,
        ),
        frame("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
        frame("brand_new_event", r#"{"type":"brand_new_event","x":[1]}"#),
        frame(
            "content_block_start",
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":null}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"Hi "}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"type":"char_location","z":1.0,"cited_text":"q"}}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"there"}}"#,
        ),
        frame("content_block_stop", r#"{"type":"content_block_stop","index":1}"#),
        frame(
            "content_block_start",
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"novel","data":{"k": 1e3},"n":[1, 2]}}"#,
        ),
        frame("content_block_stop", r#"{"type":"content_block_stop","index":2}"#),
        frame(
            "content_block_start",
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"bash","input":{}}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"z\": 1.0, \"comm"}}"#,
        ),
        frame(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"and\": \"ls\"}"}}"#,
        ),
        frame("content_block_stop", r#"{"type":"content_block_stop","index":3}"#),
        frame(
            "message_delta",
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":42,"input_tokens":null,"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1}}}"#,
        ),
        frame("message_stop", r#"{"type":"message_stop"}"#),
    ]
    .concat()
}

#[tokio::test]
async fn blocks_come_through_with_their_bytes() {
    let upstream = Upstream::start(vec![Reply::sse(&rich())]).await;
    let provider = provider(&upstream.url(""), patient());
    let body = json!({"model": "ours", "max_tokens": 5, "messages": []});
    let answer = message(provider.stream(request(body)).await.unwrap()).await;
    assert_eq!(
        content(&answer),
        [
            r#"{"type":"thinking","thinking":"let \"me\" see é","signature":"EqQB/+=="}"#,
            r#"{"type":"text","text":"Hi there","citations":[{"type":"char_location","z":1.0,"cited_text":"q"}]}"#,
            r#"{"type":"novel","data":{"k": 1e3},"n":[1, 2]}"#,
            r#"{"type":"tool_use","id":"toolu_1","name":"bash","input":{"z": 1.0, "command": "ls"}}"#,
        ]
    );
    assert_eq!(
        (answer.id.as_str(), answer.stop_reason.as_str()),
        ("msg_1", "tool_use")
    );
    let usage = answer.usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (9, 42));
    assert_eq!(
        (
            usage.cache_creation_5m_input_tokens,
            usage.cache_creation_1h_input_tokens
        ),
        (5, 7)
    );
    assert_eq!(
        (usage.web_search_requests, usage.web_fetch_requests),
        (2, 1)
    );
    let whole = answer.to_json();
    assert!(
        whole.get().contains(r#""x_new":{"b":1.50,"a":2}"#),
        "{whole}"
    );
    assert!(whole.get().contains(r#""stop_reason":"tool_use""#));
}

#[tokio::test]
async fn a_request_reaches_upstream_as_it_is() {
    let upstream = Upstream::start(vec![Reply::sse(&rich())]).await;
    let provider = provider(&upstream.url("/gateway/a"), patient());
    let blocks = r#"[{"role":"assistant","content":[{"type":"thinking","thinking":"é \u00e9","signature":"A+/="},{"type":"odd","z":1.0e2,"a":[ 1 ]}]}]"#;
    let body = format!(r#"{{"zeta":1,"model":"ours","messages":{blocks},"max_tokens":1}}"#);
    let req = ModelRequest {
        body: RawObject::parse(body.as_bytes()).unwrap(),
        anthropic_version: Some("2026-10-21".into()),
        beta: vec!["one-2026-01-01".into(), "two".into()],
    };
    message(provider.stream(req).await.unwrap()).await;
    let seen = &upstream.seen()[0];
    assert_eq!(seen.path, "/gateway/a/v1/messages");
    assert_eq!(
        seen.body,
        format!(
            r#"{{"zeta":1,"model":"theirs-1","messages":{blocks},"max_tokens":1,"stream":true}}"#
        )
    );
    assert_eq!(seen.headers["x-api-key"], KEY);
    assert_eq!(seen.headers["anthropic-version"], "2026-10-21");
    assert_eq!(seen.headers["anthropic-beta"], "one-2026-01-01,two");
    assert_eq!(seen.headers["content-type"], "application/json");
    assert!(!seen.headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn base_urls() {
    for (base, path) in [
        ("", "/v1/messages"),
        ("/", "/v1/messages"),
        ("/v1", "/v1/messages"),
        ("/x/v1/", "/x/v1/messages"),
        ("/a%20b", "/a%20b/v1/messages"),
    ] {
        let upstream = Upstream::start(vec![Reply::sse(&rich())]).await;
        let provider = provider(&upstream.url(base), patient());
        let body = json!({"model": "m", "messages": []});
        message(provider.stream(request(body)).await.unwrap()).await;
        assert_eq!(upstream.seen()[0].path, path, "{base}");
    }
    for bad in [
        "ftp://x/",
        "nonsense",
        "http://u:p@x/",
        "http://x/?k=1",
        "file:///etc/passwd",
    ] {
        let made = MessagesProvider::new("t", bad, None, patient(), BTreeMap::new());
        assert!(made.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn a_stream_cut_into_single_bytes_is_the_same_stream() {
    let pieces = rich().bytes().map(|b| Piece::Bytes(vec![b])).collect();
    let upstream = Upstream::start(vec![Reply::stream(pieces), Reply::sse(&rich())]).await;
    let provider = provider(&upstream.url(""), patient());
    let body = json!({"model": "m", "messages": []});
    let mut got = Vec::new();
    for _ in 0..2 {
        let (events, error) = drain(provider.stream(request(body.clone())).await.unwrap()).await;
        assert!(error.is_none());
        got.push(format!("{events:?}"));
    }
    assert_eq!(got[0], got[1]);
}

async fn start_error(reply: Reply) -> ModelError {
    let upstream = Upstream::start(vec![reply]).await;
    let provider = provider(&upstream.url(""), impatient());
    let body = json!({"model": "m", "messages": []});
    match provider.stream(request(body)).await {
        Ok(_) => panic!("the stream began"),
        Err(error) => error,
    }
}

fn error_body(kind: &str, text: &str) -> String {
    json!({"type": "error", "error": {"type": kind, "message": text}}).to_string()
}

#[tokio::test]
async fn refusals_are_classified() {
    let reply =
        Reply::json(429, &error_body("rate_limit_error", "slow down")).header("retry-after", "3");
    let error = start_error(reply).await;
    assert_eq!(error.kind, ModelErrorKind::RateLimited);
    assert_eq!(
        (error.status, error.retry_after_ms),
        (Some(429), Some(3_000))
    );
    assert_eq!(error.message, "slow down");
    assert_eq!(
        error.upstream_body.unwrap(),
        error_body("rate_limit_error", "slow down")
    );

    let error = start_error(Reply::json(
        529,
        &error_body("overloaded_error", "Overloaded"),
    ))
    .await;
    assert!(error.retryable());
    assert_eq!(error.kind, ModelErrorKind::Overloaded);

    let error = start_error(Reply::json(302, "").header("location", "http://127.0.0.1:1/")).await;
    assert_eq!(
        (error.kind, error.status),
        (ModelErrorKind::Protocol, Some(302))
    );

    let error = start_error(Reply::json(200, "{}")).await;
    assert_eq!(error.kind, ModelErrorKind::Protocol);
}

#[tokio::test]
async fn our_key_is_cut_out_of_what_upstream_says() {
    let text = format!("bad key {KEY}, go away");
    let error = start_error(Reply::json(401, &error_body("authentication_error", &text))).await;
    assert_eq!(error.kind, ModelErrorKind::Authentication);
    assert!(!format!("{error:?}").contains(KEY));

    let upstream = Upstream::start(vec![Reply::json(
        401,
        &error_body("authentication_error", &text),
    )])
    .await;
    let provider = provider(&upstream.url(""), patient());
    let reply = provider
        .send(request(json!({"model": "m", "messages": []})))
        .await
        .unwrap();
    assert_eq!(reply.status, 401);
    assert!(!String::from_utf8_lossy(&reply.body).contains(KEY));
}

async fn stream_error(pieces: Vec<Piece>, events: usize) -> ModelError {
    let upstream = Upstream::start(vec![Reply::stream(pieces)]).await;
    let provider = provider(&upstream.url(""), impatient());
    let body = json!({"model": "m", "messages": []});
    let (got, error) = drain(provider.stream(request(body)).await.unwrap()).await;
    assert_eq!(got.len(), events);
    error.expect("the stream failed")
}

fn ping() -> Piece {
    Piece::Bytes(frame("ping", r#"{"type":"ping"}"#).into())
}

#[tokio::test]
async fn errors_in_the_middle_of_a_stream() {
    let overloaded = frame("error", &error_body("overloaded_error", "Overloaded"));
    let error = stream_error(vec![ping(), Piece::Bytes(overloaded.into())], 1).await;
    assert_eq!(
        (error.kind, error.status),
        (ModelErrorKind::Overloaded, None)
    );

    let error = stream_error(vec![ping(), Piece::Break], 1).await;
    assert_eq!(error.kind, ModelErrorKind::Network);

    let error = stream_error(vec![ping()], 1).await;
    assert_eq!(error.kind, ModelErrorKind::Network);

    let error = stream_error(vec![ping(), Piece::Bytes(b"data: {oops\n\n".to_vec())], 1).await;
    assert_eq!(error.kind, ModelErrorKind::Protocol);

    let error = stream_error(vec![ping(), Piece::Bytes(b"data: \xff\n\n".to_vec())], 1).await;
    assert_eq!(error.kind, ModelErrorKind::Protocol);
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let error = stream_error(vec![ping(), Piece::Hang], 1).await;
    assert_eq!(error.kind, ModelErrorKind::Timeout);
    let error = stream_error(vec![Piece::Hang], 0).await;
    assert_eq!(error.kind, ModelErrorKind::Timeout);
}

#[tokio::test]
async fn dropping_the_stream_closes_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let upstream = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buf = [0; 4096];
        assert_ne!(socket.read(&mut buf).await.unwrap(), 0);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let ping = frame("ping", r#"{"type":"ping"}"#);
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(ping.as_bytes()).await.unwrap();
        // Nothing more is sent: the read returns when the client goes away.
        while socket.read(&mut buf).await.is_ok_and(|n| 0 < n) {}
    });
    let provider = provider(&url, patient());
    let body = json!({"model": "m", "messages": []});
    let mut stream = provider.stream(request(body)).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().name, "ping");
    drop(stream);
    upstream.await.unwrap();
}

#[tokio::test]
async fn nobody_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let provider = provider(&format!("http://{addr}"), patient());
    let error = provider
        .count_tokens(request(json!({"model": "m", "messages": []})))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Network);
    assert!(error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn whole_answers_pass_unchanged() {
    let odd =
        r#"{"type":"error","error":{"type":"not_found_error","message":"model: m"}, "x":1.0}"#;
    let upstream = Upstream::start(vec![
        Reply::json(404, odd)
            .header("request-id", "req_9")
            .header("set-cookie", "a=b")
            .header("anthropic-ratelimit-requests-limit", "5"),
    ])
    .await;
    let provider = provider(&upstream.url(""), patient());
    let body = json!({"model": "ours", "max_tokens": 1, "messages": [], "stream": false});
    let reply = provider.send(request(body)).await.unwrap();
    assert_eq!((reply.status, reply.body.as_ref()), (404, odd.as_bytes()));
    let names: Vec<&str> = reply.headers.iter().map(|(k, _)| k.as_str()).collect();
    assert!(
        names.contains(&"request-id") && !names.contains(&"set-cookie"),
        "{names:?}"
    );
    assert!(names.contains(&"anthropic-ratelimit-requests-limit"));
    assert_eq!(upstream.seen()[0].json()["model"], "theirs-1");
    assert!(upstream.seen()[0].json().get("stream").is_none());
}

#[tokio::test]
async fn counting_sends_only_what_counts() {
    let upstream = Upstream::start(vec![
        Reply::json(200, r#"{"input_tokens":14}"#),
        Reply::json(200, "{}"),
    ])
    .await;
    let provider = provider(&upstream.url(""), patient());
    let body = json!({"model": "ours", "max_tokens": 1, "stream": true, "temperature": 1,
        "messages": [{"role": "user", "content": "x"}], "system": "s", "tools": []});
    assert_eq!(
        provider.count_tokens(request(body.clone())).await.unwrap(),
        14
    );
    let seen = &upstream.seen()[0];
    assert_eq!(seen.path, "/v1/messages/count_tokens");
    assert_eq!(
        seen.json(),
        json!({"model": "theirs-1", "messages": [{"role": "user", "content": "x"}],
            "system": "s", "tools": []})
    );
    let error = provider.count_tokens(request(body)).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Protocol);
}

#[tokio::test]
async fn events_without_a_name_take_the_one_in_their_data() {
    let bare = rich()
        .lines()
        .filter(|line| !line.starts_with("event:"))
        .map(|line| format!("{line}\r\n"))
        .collect::<String>();
    let upstream = Upstream::start(vec![Reply::sse(&bare)]).await;
    let provider = provider(&upstream.url(""), patient());
    let body = json!({"model": "m", "messages": []});
    let (events, error) = drain(provider.stream(request(body)).await.unwrap()).await;
    assert!(error.is_none());
    assert_eq!(fold(&events).content.len(), 4);
}

#[test]
fn a_key_no_header_can_carry_is_refused_and_not_shown() {
    let key = Some(Secret::new("secret\nkey".to_owned()));
    let made = MessagesProvider::new("t", "http://x", key, patient(), BTreeMap::new());
    let error = made.err().unwrap().to_string();
    assert!(
        error.contains("key") && !error.contains("secret"),
        "{error}"
    );
}
