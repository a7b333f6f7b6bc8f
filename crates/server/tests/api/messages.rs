//! The model gateway (contract 82).

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Server, ids, read};

fn ask(text: &str, stream: bool) -> Value {
    json!({"model": "rehearsal", "max_tokens": 1000, "stream": stream,
        "messages": [{"role": "user", "content": text}]})
}

#[tokio::test]
async fn a_message_is_answered() {
    let s = Server::start().await;
    let answer = s.post("/v1/messages", ask("say: hello", false)).await.ok();
    assert_eq!(
        (&answer["type"], &answer["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!(answer["stop_reason"], "end_turn");
    assert!(answer["usage"]["output_tokens"].as_u64().unwrap() > 0);
    let counted = s
        .post("/v1/messages/count_tokens", ask("say: hello", false))
        .await
        .ok();
    assert!(counted["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn a_message_is_streamed() {
    let s = Server::start().await;
    let request = s
        .request(Method::POST, "/v1/messages")
        .json(&ask("say: hello", true));
    let answer = read(request).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert!(answer.header("request-id").starts_with("req_"));
    let text = String::from_utf8(answer.bytes).unwrap();
    let names: Vec<_> = text
        .lines()
        .filter_map(|l| l.strip_prefix("event: "))
        .collect();
    assert_eq!(
        (names[0], names[names.len() - 1]),
        ("message_start", "message_stop")
    );
    assert!(names.contains(&"content_block_delta"));
    for frame in text.split_terminator("\n\n") {
        let (name, data) = frame.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
    }
}

#[tokio::test]
async fn failures_of_the_model_are_passed_on() {
    let s = Server::start().await;
    let overloaded = s
        .post("/v1/messages", ask("error: overloaded always", false))
        .await;
    overloaded.error(529, "overloaded_error");
    let limited = s
        .post("/v1/messages", ask("error: rate_limited always", true))
        .await;
    limited.error(429, "rate_limit_error");
    let request = s
        .request(Method::POST, "/v1/messages")
        .json(&ask("say: first some text\nerror: overloaded always", true));
    let answer = read(request).await;
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.bytes.clone()).unwrap();
    let (_, data) = text.rsplit_once("event: error\ndata: ").unwrap();
    let error: Value = serde_json::from_str(data.trim()).unwrap();
    assert_eq!(error["error"]["type"], "overloaded_error");
    assert_eq!(error["request_id"], answer.header("request-id"));
}

#[tokio::test]
async fn requests_that_cannot_be_routed_are_refused() {
    let s = Server::start().await;
    for path in ["/v1/messages", "/v1/messages/count_tokens"] {
        let mut body = ask("hi", false);
        body["model"] = json!("no-such-model");
        let missing = s
            .post(path, body.clone())
            .await
            .error(404, "not_found_error");
        assert!(missing.contains("no-such-model"));
        for (key, value) in [
            ("model", json!(3)),
            ("model", Value::Null),
            ("messages", json!("x")),
        ] {
            let mut body = ask("hi", false);
            body[key] = value;
            let message = s.post(path, body).await.invalid();
            assert!(message.starts_with(key), "{message}");
        }
    }
    let mut body = ask("hi", false);
    body.as_object_mut().unwrap().remove("max_tokens");
    assert!(
        s.post("/v1/messages", body)
            .await
            .invalid()
            .contains("max_tokens")
    );
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let s = Server::start().await;
    let page = s.get("/v1/models").await.ok();
    assert_eq!(ids(&page), ["rehearsal"]);
    assert_eq!(
        (&page["has_more"], &page["first_id"]),
        (&json!(false), &json!("rehearsal"))
    );
    assert_eq!(page["last_id"], "rehearsal");
    let model = s.get("/v1/models/rehearsal").await.ok();
    assert_eq!(model, page["data"][0]);
    for key in [
        "id",
        "type",
        "display_name",
        "created_at",
        "lifecycle",
        "line",
        "max_input_tokens",
        "max_tokens",
        "deprecated_at",
        "retires_at",
        "capabilities",
    ] {
        assert!(model.get(key).is_some(), "{key}");
    }
    let display = model["display_name"].as_str().unwrap();
    assert!(display.to_lowercase().contains("rehearsal"), "{display}");
    s.get("/v1/models/none").await.error(404, "not_found_error");
    assert_eq!(
        s.get("/v1/models?after_id=rehearsal").await.ok()["data"],
        json!([])
    );
    s.get("/v1/models?after_id=none").await.invalid();
    s.get("/v1/models?limit=0").await.invalid();
    assert_eq!(
        s.get("/v1/models?lifecycle[]=retired").await.ok()["data"],
        json!([])
    );
}
