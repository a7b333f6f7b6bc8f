//! The Chat Completions provider against a scripted upstream.

mod common;

use std::collections::BTreeMap;

use common::{Piece, Reply, Upstream, content, drain, impatient, message, patient, request};
use freehold_base::{IdSource, Secret};
use freehold_model::chat::ChatProvider;
use freehold_model::config::{MidSystem, Timeouts};
use freehold_model::{ModelErrorKind, Provider};
use serde_json::{Value, json};

fn provider_with(url: &str, timeouts: Timeouts, mid_system: MidSystem) -> ChatProvider {
    let names = BTreeMap::from([("ours".to_owned(), "qwen:7b".to_owned())]);
    let key = Some(Secret::new("sk-chat".to_owned()));
    ChatProvider::new(
        "test",
        url,
        key,
        timeouts,
        names,
        mid_system,
        IdSource::system(),
    )
    .unwrap()
}

fn provider(url: &str) -> ChatProvider {
    provider_with(url, patient(), MidSystem::System)
}

fn chunk(delta: Value, finish: Option<&str>) -> String {
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    format!(
        "data: {}\n\n",
        json!({"object": "chat.completion.chunk", "choices": [choice]})
    )
}

fn usage() -> String {
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 60}});
    format!("data: {}\n\n", json!({"choices": [], "usage": usage}))
}

const DONE: &str = "data: [DONE]\n\n";

fn hello() -> Value {
    json!({"model": "ours", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn text_streams_and_usage_is_mapped() {
    let sse = [
        chunk(json!({"role": "assistant", "content": ""}), None),
        chunk(json!({"reasoning_content": "hmm"}), None),
        chunk(json!({"content": "Hel"}), None),
        chunk(json!({"content": "lo"}), None),
        chunk(json!({}), Some("stop")),
        usage(),
        DONE.to_owned(),
    ]
    .concat();
    let upstream = Upstream::start(vec![Reply::sse(&sse)]).await;
    let (events, error) = drain(
        provider(&upstream.url("/v1"))
            .stream(request(hello()))
            .await
            .unwrap(),
    )
    .await;
    assert!(error.is_none());
    let names: Vec<&str> = events.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let answer = common::fold(&events);
    assert_eq!(
        content(&answer),
        [r#"{"type":"text","text":"Hello","citations":null}"#]
    );
    assert_eq!(answer.stop_reason, "end_turn");
    let u = answer.usage;
    assert_eq!(
        (u.input_tokens, u.cache_read_input_tokens, u.output_tokens),
        (40, 60, 7)
    );
    let seen = &upstream.seen()[0];
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.headers["authorization"], "Bearer sk-chat");
    assert_eq!(
        seen.json(),
        json!({"model": "qwen:7b", "max_tokens": 50, "stream": true,
            "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "hi"}]})
    );
}

#[tokio::test]
async fn several_tool_calls_with_odd_ids() {
    let call = |i: u32, id: &str, args: &str| {
        json!({"tool_calls": [{"index": i, "id": id,
        "type": "function", "function": {"name": "bash", "arguments": args}}]})
    };
    let more =
        |i: u32, args: &str| json!({"tool_calls": [{"index": i, "function": {"arguments": args}}]});
    let sse = [
        chunk(json!({"content": "Let me look."}), None),
        chunk(call(0, "call_abcdefgh", "{\"command\": "), None),
        chunk(call(1, "0", "{}"), None),
        chunk(more(0, "\"ls\"}"), None),
        chunk(call(2, "call_abcdefgh", ""), None),
        // As some servers do: `stop` although there are calls.
        chunk(json!({}), Some("stop")),
        DONE.to_owned(),
    ]
    .concat();
    let upstream = Upstream::start(vec![Reply::sse(&sse)]).await;
    let answer = message(
        provider(&upstream.url("/v1"))
            .stream(request(hello()))
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(answer.stop_reason, "tool_use");
    let blocks: Vec<Value> = answer
        .content
        .iter()
        .map(|b| serde_json::from_str(b.get()).unwrap())
        .collect();
    assert_eq!(blocks.len(), 4);
    assert_eq!(blocks[1]["id"], "call_abcdefgh");
    assert_eq!(blocks[1]["input"], json!({"command": "ls"}));
    assert!(content(&answer)[1].contains(r#""input":{"command": "ls"}"#));
    for block in &blocks[2..] {
        let id = block["id"].as_str().unwrap();
        assert!(id.starts_with("toolu_"), "{id}");
        assert_eq!(block["input"], json!({}));
    }
    // No counts from upstream: estimated, not zero.
    assert!(0 < answer.usage.input_tokens && 0 < answer.usage.output_tokens);
}

#[tokio::test]
async fn an_id_used_before_is_not_used_again() {
    let call = json!({"tool_calls": [{"index": 0, "id": "call_abcdefgh",
        "function": {"name": "t", "arguments": "{}"}}]});
    let sse = chunk(call, Some("tool_calls")) + DONE;
    let upstream = Upstream::start(vec![Reply::sse(&sse)]).await;
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content":
            [{"type": "tool_use", "id": "call_abcdefgh", "name": "t", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_abcdefgh"}]},
    ]});
    let answer = message(
        provider(&upstream.url("/v1"))
            .stream(request(body))
            .await
            .unwrap(),
    )
    .await;
    assert!(!content(&answer)[0].contains("call_abcdefgh"));
}

#[tokio::test]
async fn ends() {
    for (finish, text, reason) in [
        (Some("length"), json!({"content": "a"}), "max_tokens"),
        (Some("content_filter"), json!({}), "refusal"),
        (Some("stop"), json!({"refusal": "no"}), "refusal"),
        (Some("tool_calls"), json!({"content": "a"}), "end_turn"),
        (None, json!({"content": "a"}), "end_turn"),
    ] {
        let sse = chunk(text, finish) + DONE;
        let upstream = Upstream::start(vec![Reply::sse(&sse)]).await;
        let answer = message(
            provider(&upstream.url("/v1"))
                .stream(request(hello()))
                .await
                .unwrap(),
        )
        .await;
        assert_eq!(answer.stop_reason, reason);
        assert_eq!(answer.stop_details.is_some(), reason == "refusal");
    }
}

#[tokio::test]
async fn broken_streams() {
    let text = || Piece::Bytes(chunk(json!({"content": "a"}), None).into());
    for (pieces, kind) in [
        (vec![text()], ModelErrorKind::Network),
        (vec![text(), Piece::Break], ModelErrorKind::Network),
        (vec![text(), Piece::Hang], ModelErrorKind::Timeout),
        (
            vec![text(), Piece::Bytes(b"data: nope\n\n".to_vec())],
            ModelErrorKind::Protocol,
        ),
        (
            vec![
                text(),
                Piece::Bytes(b"data: {\"error\":{\"message\":\"busy\",\"code\":503}}\n\n".to_vec()),
            ],
            ModelErrorKind::Overloaded,
        ),
    ] {
        let upstream = Upstream::start(vec![Reply::stream(pieces)]).await;
        let provider = provider_with(&upstream.url("/v1"), impatient(), MidSystem::System);
        let (events, error) = drain(provider.stream(request(hello())).await.unwrap()).await;
        assert_eq!(events.len(), 3, "start, block, delta");
        assert_eq!(error.unwrap().kind, kind);
    }
    // A stream that says how it ended but not that it is over is complete.
    let upstream = Upstream::start(vec![Reply::sse(&chunk(
        json!({"content": "a"}),
        Some("stop"),
    ))])
    .await;
    let answer = provider(&upstream.url(""))
        .stream(request(hello()))
        .await
        .unwrap();
    assert_eq!(message(answer).await.stop_reason, "end_turn");
    assert_eq!(upstream.seen()[0].path, "/v1/chat/completions");
}

#[tokio::test]
async fn refusals_are_classified() {
    let upstream = Upstream::start(vec![
        Reply::json(
            400,
            r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#,
        ),
        Reply::json(
            503,
            r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#,
        ),
        Reply::json(
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-chat"}}"#,
        ),
    ])
    .await;
    let provider = provider(&upstream.url("/v1"));
    for kind in [
        ModelErrorKind::ContextExceeded,
        ModelErrorKind::Overloaded,
        ModelErrorKind::Authentication,
    ] {
        let error = provider.stream(request(hello())).await.err().unwrap();
        assert_eq!(error.kind, kind);
        assert!(!format!("{error:?}").contains("sk-chat"));
    }
}

#[tokio::test]
async fn a_whole_answer_is_a_message() {
    let sse = chunk(json!({"content": "Hi"}), Some("stop")) + DONE;
    let upstream = Upstream::start(vec![Reply::sse(&sse)]).await;
    let reply = provider(&upstream.url("/v1"))
        .send(request(hello()))
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(body["type"], "message");
    assert_eq!(body["model"], "ours");
    assert_eq!(
        body["content"],
        json!([{"type": "text", "text": "Hi", "citations": null}])
    );
    assert_eq!(body["stop_reason"], "end_turn");
}

async fn translated(body: Value, mid_system: MidSystem) -> Value {
    let upstream = Upstream::start(vec![Reply::json(500, "{}")]).await;
    let provider = provider_with(&upstream.url("/v1"), patient(), mid_system);
    provider.stream(request(body)).await.err().unwrap();
    upstream.seen()[0].json()
}

#[tokio::test]
async fn a_whole_conversation_is_translated() {
    let body = json!({
        "model": "m", "max_tokens": 9, "temperature": 0.5, "stop_sequences": ["X"],
        "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
                   {"type": "text", "text": "b"}],
        "tools": [{"name": "t", "description": "d", "input_schema": {"type": "object"}},
                  {"type": "custom", "name": "u", "input_schema": {"type": "object"}, "strict": true}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"x": 1}}},
        "thinking": {"type": "adaptive"},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "text", "text": "ok"},
                {"type": "tool_use", "id": "i1", "name": "t", "input": {"b": 1, "a": [2]}},
                {"type": "tool_use", "id": "i2", "name": "t", "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "i1", "content": "plain"},
                {"type": "tool_result", "tool_use_id": "i2", "is_error": true, "content": [
                    {"type": "text", "text": "bad"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0"}}]},
                {"type": "text", "text": "go on"}]},
            {"role": "system", "content": "be brief"},
            {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]},
            {"role": "user", "content": [
                {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "body"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}]},
        ],
    });
    let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
    let text = |text: &str| json!({"type": "text", "text": text});
    let call = |id: &str, args: &str| {
        json!({"id": id, "type": "function",
        "function": {"name": "t", "arguments": args}})
    };
    assert_eq!(
        translated(body.clone(), MidSystem::System).await,
        json!({
            "model": "m", "max_tokens": 9, "temperature": 0.5, "stop": ["X"], "stream": true,
            "stream_options": {"include_usage": true},
            "tools": [
                {"type": "function", "function": {"name": "t", "description": "d", "parameters": {"type": "object"}}},
                {"type": "function", "function": {"name": "u", "parameters": {"type": "object"}, "strict": true}}],
            "tool_choice": "required", "parallel_tool_calls": false,
            "response_format": {"type": "json_schema",
                "json_schema": {"name": "answer", "strict": true, "schema": {"x": 1}}},
            "messages": [
                {"role": "system", "content": "a\n\nb"},
                {"role": "user", "content": [text("look"), image("data:image/png;base64,AAA"), image("https://x/y.png")]},
                {"role": "assistant", "content": "ok", "tool_calls": [call("i1", r#"{"b":1,"a":[2]}"#), call("i2", "{}")]},
                {"role": "tool", "tool_call_id": "i1", "content": "plain"},
                {"role": "tool", "tool_call_id": "i2", "content": "Error: bad"},
                {"role": "user", "content": [text("[pictures returned by the tool]"),
                    image("data:image/gif;base64,R0"), text("go on")]},
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "[document: T]\nbody\n\n[document: untitled; this model cannot read its format]"},
            ],
        })
    );
    let as_user = translated(body, MidSystem::User).await;
    assert_eq!(
        as_user["messages"][6],
        json!({"role": "user", "content": "[system message]\nbe brief"})
    );
}

#[tokio::test]
async fn what_cannot_be_translated_is_refused() {
    let provider = provider("http://127.0.0.1:9/v1");
    let say = json!([{"role": "user", "content": "x"}]);
    for (body, word) in [
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": []}), "messages"),
        (
            json!({"model": "m", "messages": [{"role": "robot", "content": ""}]}),
            "messages.0",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": 3}]}),
            "messages.0",
        ),
        (
            json!({"model": "m", "messages": say, "tools": [{"type": "web_search_20260318", "name": "web_search"}]}),
            "web_search_20260318",
        ),
        (
            json!({"model": "m", "messages": say, "tools": [{"name": "t"}]}),
            "input_schema",
        ),
    ] {
        let error = provider.stream(request(body)).await.err().unwrap();
        assert_eq!(error.kind, ModelErrorKind::InvalidRequest);
        assert!(error.message.contains(word), "{}", error.message);
    }
}

#[tokio::test]
async fn counting_is_an_estimate() {
    let provider = provider("http://127.0.0.1:9/v1");
    let count = |text: String| {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": text}]});
        provider.count_tokens(request(body))
    };
    let (short, long) = (
        count("x".into()).await.unwrap(),
        count("x".repeat(4_000)).await.unwrap(),
    );
    assert!(
        0 < short && short + 990 < long && long < short + 1_010,
        "{short} {long}"
    );
}
