use std::sync::Arc;

use freehold_base::{Entropy, ManualClock};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::*;
use crate::{Accumulator, Message};

/// Counts instead of drawing: ids are the same in every run.
struct Counting(std::sync::atomic::AtomicU8);

impl Entropy for Counting {
    fn fill(&self, buf: &mut [u8]) {
        buf.fill(self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
    }
}

fn model() -> Rehearsal {
    let ids = IdSource::new(
        Arc::new(ManualClock::at(CREATED_AT)),
        Arc::new(Counting(Default::default())),
    );
    let config = RehearsalConfig {
        delay_ms: 0,
        ..RehearsalConfig::default()
    };
    Rehearsal::new(config, ids)
}

fn asked(messages: &[Value]) -> ModelRequest {
    ModelRequest::from_value(json!({"model": "rehearsal", "messages": messages})).unwrap()
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": [{"type": "text", "text": text}]})
}

async fn events(model: &Rehearsal, req: ModelRequest) -> Result<Vec<StreamEvent>, ModelError> {
    let all: Vec<_> = model.stream(req).await?.collect().await;
    all.into_iter().collect()
}

async fn answer(model: &Rehearsal, req: ModelRequest) -> Message {
    let mut fold = Accumulator::new();
    for event in events(model, req).await.unwrap() {
        fold.push(&event).unwrap();
    }
    fold.finish().unwrap()
}

fn blocks(message: &Message) -> Vec<Value> {
    let texts = message.content.iter().map(|block| block.get());
    texts
        .map(|text| serde_json::from_str(text).unwrap())
        .collect()
}

/// Plays a whole conversation; every tool answers with its name and a count.
async fn play(script: &str) -> Vec<Message> {
    let model = model();
    let mut messages = vec![user(script)];
    let mut answers = Vec::new();
    for turn in 0..20 {
        let message = answer(&model, asked(&messages)).await;
        messages.push(json!({"role": "assistant", "content": blocks(&message)}));
        let results: Vec<Value> = blocks(&message)
            .iter()
            .filter(|b| b["type"] == "tool_use")
            .map(|b| {
                let text = format!("{} {turn}", b["name"].as_str().unwrap());
                json!({"type": "tool_result", "tool_use_id": b["id"],
                    "content": [{"type": "text", "text": text}]})
            })
            .collect();
        let over = message.stop_reason != "tool_use";
        assert_eq!(over, results.is_empty());
        answers.push(message);
        if over {
            return answers;
        }
        messages.push(json!({"role": "user", "content": results}));
    }
    panic!("no end");
}

#[tokio::test]
async fn a_script_is_played_turn_by_turn() {
    let answers = play(
        "think: first\nsay: Looking.\nbash: ls\nparallel:\nread: a\ntool: custom {\"x\":1}\nend:\n\
         say: Got {result}\nsay: Bye",
    )
    .await;
    assert_eq!(answers.len(), 3);
    let first = blocks(&answers[0]);
    assert_eq!(first[0]["type"], "thinking");
    assert!(!first[0]["signature"].as_str().unwrap().is_empty());
    assert_eq!(first[1]["text"], format!("{INTRODUCTION}\n\nLooking."));
    assert_eq!(first[2]["input"], json!({"command": "ls"}));
    let second = blocks(&answers[1]);
    assert_eq!(second.len(), 2);
    assert_eq!(
        (&second[0]["name"], &second[1]["name"]),
        (&json!("read"), &json!("custom"))
    );
    assert_ne!(second[0]["id"], second[1]["id"]);
    let third = blocks(&answers[2]);
    assert_eq!(third[0]["text"], "Got read 1\ncustom 1");
    assert_eq!(third[1]["text"], "Bye");
    assert_eq!(answers[2].stop_reason, "end_turn");
    assert!(
        answers
            .iter()
            .all(|a| 0 < a.usage.input_tokens && 0 < a.usage.output_tokens)
    );
}

#[tokio::test]
async fn a_script_that_ends_with_a_tool_reports_its_result() {
    let answers = play("bash: ls").await;
    let text = &blocks(&answers[1])[0]["text"];
    assert!(text.as_str().unwrap().ends_with("was:\nbash 0"), "{text}");
}

#[tokio::test]
async fn every_first_answer_says_what_it_is() {
    for script in [
        "Hello!",
        "say: x",
        "bash: x",
        "think: x",
        "refuse: x",
        "wait: 0",
        "wait: ?",
    ] {
        let message = answer(&model(), asked(&[user(script)])).await;
        let blocks = blocks(&message);
        let text = blocks.iter().find(|b| b["type"] == "text").unwrap();
        assert!(
            text["text"].as_str().unwrap().starts_with(INTRODUCTION),
            "{script}"
        );
    }
}

#[tokio::test]
async fn later_messages_start_their_own_script() {
    let said = json!({"role": "assistant", "content": [{"type": "text", "text": "hi"}]});
    let history = [user("bash: one"), said, user("say: two")];
    let message = answer(&model(), asked(&history)).await;
    assert_eq!(blocks(&message)[0]["text"], "two");
    let system = json!({"role": "system", "content": "bash: not for me"});
    let history = [user("say: one"), system];
    let message = answer(&model(), asked(&history)).await;
    assert_eq!(
        blocks(&message)[0]["text"],
        format!("{INTRODUCTION}\n\none")
    );
}

#[tokio::test]
async fn prose_is_answered_with_help() {
    let mut req = asked(&[user("What is the weather?")]);
    req.body
        .set("tools", json!([{"name": "bash"}, {"name": "read"}]));
    let text = blocks(&answer(&model(), req).await)[0]["text"].to_string();
    for part in [
        "20 characters",
        "What is the weather?",
        "bash, read",
        "docs/rehearsal.md",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = blocks(&answer(&model(), asked(&[user("a\nwait: x")])).await)[0]["text"].to_string();
    assert!(text.contains("line 2"), "{text}");
}

#[tokio::test]
async fn text_comes_in_several_deltas() {
    let text = "a sentence of several words, é included, long enough to be cut".to_owned();
    let script = format!("say: {text}");
    let events = events(&model(), asked(&[user(&script)])).await.unwrap();
    let deltas = events.iter().filter(|e| e.name == "content_block_delta");
    assert!(3 < deltas.count());
}

#[tokio::test]
async fn errors_are_raised_as_often_as_told() {
    let model = model();
    let req = asked(&[user("error: overloaded 2\nsay: through")]);
    for _ in 0..2 {
        for attempt in 0..3 {
            let result = events(&model, req.clone()).await;
            match result {
                Err(error) => {
                    assert!(attempt < 2);
                    assert_eq!(error.kind, ModelErrorKind::Overloaded);
                    assert_eq!(error.status, Some(529));
                }
                Ok(_) => assert_eq!(attempt, 2),
            }
        }
    }
}

#[tokio::test]
async fn an_error_after_text_breaks_the_stream() {
    let model = model();
    let req = asked(&[user("say: begun\nerror: network\nsay: ended")]);
    let mut stream = model.stream(req.clone()).await.unwrap();
    let mut results = Vec::new();
    while let Some(event) = stream.next().await {
        results.push(event.map(|e| e.name).map_err(|e| e.kind));
    }
    assert_eq!(results[0], Ok("message_start".into()));
    assert_eq!(results.last(), Some(&Err(ModelErrorKind::Network)));
    assert_eq!(blocks(&answer(&model, req).await).len(), 2);
}

#[tokio::test]
async fn refusal() {
    let message = answer(&model(), asked(&[user("refuse: not this\nsay: never")])).await;
    assert_eq!(message.stop_reason, "refusal");
    let details: Value =
        serde_json::from_str(message.stop_details.as_ref().unwrap().get()).unwrap();
    assert_eq!(details["explanation"], "not this");
    assert_eq!(blocks(&message).len(), 1);
}

#[tokio::test]
async fn max_tokens_cuts_text_and_calls() {
    let said = json!({"role": "assistant", "content": "hi"});
    let ask = |script: &str| {
        let mut req = asked(&[user("x"), said.clone(), user(script)]);
        req.body.set("max_tokens", 2);
        req
    };
    let message = answer(&model(), ask("say: 0123456789\nsay: more")).await;
    assert_eq!(message.stop_reason, "max_tokens");
    assert_eq!(blocks(&message)[0]["text"], "01234567");
    let message = answer(&model(), ask("bash: 0123456789")).await;
    assert!(message.truncated_tool_use && message.content.is_empty());
}

#[tokio::test]
async fn a_small_window_overflows() {
    let mut model = model();
    model.config.context_window = 20;
    let error = events(&model, asked(&[user(&"x".repeat(100))]))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::ContextExceeded);
}

#[tokio::test]
async fn counting_agrees_with_answering() {
    let model = model();
    let req = asked(&[user("say: x")]);
    let counted = model.count_tokens(req.clone()).await.unwrap();
    assert_eq!(counted, answer(&model, req).await.usage.input_tokens);
}

#[tokio::test]
async fn the_same_conversation_has_the_same_answer() {
    let req = asked(&[user("think: a\nsay: b\nbash: c")]);
    let first = events(&model(), req.clone()).await.unwrap();
    let second = events(&model(), req).await.unwrap();
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

#[tokio::test]
async fn bad_requests_are_refused() {
    for messages in [
        json!([]),
        json!([{"role": "user"}]),
        json!("x"),
        json!([said("x")]),
    ] {
        let req = ModelRequest::from_value(json!({"model": "rehearsal", "messages": messages}));
        let error = events(&model(), req.unwrap()).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::InvalidRequest);
    }
}

fn said(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

#[test]
fn its_date_is_what_its_documentation_says() {
    assert_eq!(CREATED_AT.to_string(), "2026-01-01T00:00:00.000000Z");
}

#[tokio::test]
async fn a_whole_answer_has_every_field_the_sdk_types_require() {
    let reply = model().send(asked(&[user("say: hi")])).await.unwrap();
    let body: Value = serde_json::from_slice(&reply.body).unwrap();
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let message = "container content diagnostics id model role stop_details stop_reason \
                   stop_sequence type usage";
    assert_eq!(keys(&body).join(" "), message);
    let usage = "cache_creation cache_creation_input_tokens cache_read_input_tokens \
                 inference_geo input_tokens output_tokens output_tokens_details \
                 server_tool_use service_tier speed";
    assert_eq!(keys(&body["usage"]).join(" "), usage);
    assert_eq!(keys(&body["content"][0]).join(" "), "citations text type");
}
