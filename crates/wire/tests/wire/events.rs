//! Contract 40, "Inbound events".

use freehold_wire::event::{EventBody, EventParams, SendEvents, event_deltas};
use serde_json::{Value, json};

use crate::support::*;

fn send(events: Value) -> Value {
    json!({ "events": events })
}
fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}
fn message(blocks: Value) -> Value {
    json!({"type": "user.message", "content": blocks})
}
fn result(blocks: Value) -> Value {
    json!({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_1", "content": blocks})
}
fn system() -> Value {
    json!({"type": "system.message", "content": [text("s")]})
}
fn stored(event: Value) -> Value {
    let mut request = read::<SendEvents>(&send(json!([event]))).unwrap();
    let body = request.events.remove(0).into_body().unwrap();
    serde_json::to_value(body).unwrap()
}

#[test]
fn events_are_stored_as_sent() {
    for event in [
        message(json!([
            text("look"),
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
            {"type": "document", "title": "t", "context": "c", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGVsbG8="}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_2"}}
        ])),
        json!({"type": "user.interrupt"}),
        json!({"type": "user.interrupt", "session_thread_id": "sthr_1"}),
        json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow"}),
        json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "deny", "deny_message": "no"}),
        json!({"type": "user.tool_result", "tool_use_id": "sevt_1", "is_error": true, "content": [text("")]}),
        json!({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_1", "is_error": null, "content": [
            {"type": "search_result", "source": "s", "title": "t", "content": [text("x")], "citations": {"enabled": true}}]}),
        system(),
    ] {
        assert_eq!(stored(event.clone()), event);
    }
    // Nulls that mean nothing are dropped, `content` is always there.
    assert_eq!(
        stored(
            json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow", "deny_message": null})
        ),
        json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow"})
    );
    assert_eq!(
        stored(json!({"type": "user.tool_result", "tool_use_id": "sevt_1"})),
        json!({"type": "user.tool_result", "tool_use_id": "sevt_1", "content": [], "is_error": null})
    );
}

#[test]
fn a_thread_id_on_an_answer_is_tolerated_and_dropped() {
    for event in [
        json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow", "session_thread_id": "sthr_1"}),
        json!({"type": "user.tool_result", "tool_use_id": "sevt_1", "content": [], "session_thread_id": null}),
        json!({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_1", "content": [], "session_thread_id": 5}),
    ] {
        assert!(stored(event).get("session_thread_id").is_none());
    }
    assert_eq!(
        refusal::<SendEvents>(&send(
            json!([{"type": "user.message", "content": [text("x")], "session_thread_id": "sthr_1"}])
        )),
        "events.0.session_thread_id: Extra inputs are not permitted"
    );
}

#[test]
fn rules() {
    let one = |event: Value| send(json!([event]));
    let block = |block: Value| one(message(json!([block])));
    let image = |source: Value| block(json!({"type": "image", "source": source}));
    let document = |source: Value| block(json!({"type": "document", "source": source}));
    let b64 =
        |media: &str, data: &str| json!({"type": "base64", "media_type": media, "data": data});
    let bad64 = "events.0.content.0.source.data: Input should be valid base64";
    for (body, text_) in [
        (json!({}), "events: Field required"),
        (send(json!([])), "events: List should have at least 1 item"),
        (
            send(json!(vec![json!({"type": "user.interrupt"}); 1001])),
            "events: List should have at most 1000 items, not 1001",
        ),
        (one(json!({"content": []})), "events.0.type: Field required"),
        (
            one(json!({"type": "agent.message", "content": []})),
            "events.0.type: Input tag 'agent.message' does not match any of the expected tags: 'user.message', 'user.interrupt', 'user.tool_confirmation', 'user.custom_tool_result', 'user.tool_result', 'user.define_outcome' or 'system.message'",
        ),
        (
            one(json!({"type": "user.message"})),
            "events.0.content: Field required",
        ),
        (
            one(message(json!("hi"))),
            "events.0.content: Input should be a valid list",
        ),
        (
            one(message(json!([]))),
            "events.0.content: List should have at least 1 item",
        ),
        (
            one(message(json!(vec![text("x"); 1001]))),
            "events.0.content: List should have at most 1000 items, not 1001",
        ),
        (
            one(with(&message(json!([text("x")])), json!({"id": "sevt_1"}))),
            "events.0.id: Extra inputs are not permitted",
        ),
        (
            block(text("")),
            "events.0.content.0.text: String should have at least 1 character",
        ),
        (
            block(json!({"type": "text", "text": "x", "cache_control": {}})),
            "events.0.content.0.cache_control: Extra inputs are not permitted",
        ),
        (
            block(json!({"type": "redacted"})),
            "events.0.content.0: `redacted` blocks are output only and cannot be sent",
        ),
        (
            one(result(json!([{"type": "redacted"}]))),
            "events.0.content.0: `redacted` blocks are output only and cannot be sent",
        ),
        (
            block(json!({"type": "search_result"})),
            "events.0.content.0.type: Input tag 'search_result' does not match any of the expected tags: 'text', 'image' or 'document'",
        ),
        (
            one(json!({"type": "system.message", "content": [{"type": "image"}]})),
            "events.0.content.0.type: Input tag 'image' does not match any of the expected tags: 'text'",
        ),
        (
            image(b64("image/bmp", "aGVsbG8=")),
            "events.0.content.0.source.media_type: Input should be 'image/png', 'image/jpeg', 'image/gif' or 'image/webp', not 'image/bmp'",
        ),
        (image(b64("image/png", "")), bad64),
        (image(b64("image/png", "aGVsbG8")), bad64),
        (image(b64("image/png", "aGVs=G8=")), bad64),
        (image(b64("image/png", "aGVsbG8=\n")), bad64),
        (image(b64("image/png", "aGVs_-8=")), bad64),
        (
            image(json!({"type": "text", "media_type": "text/plain", "data": "x"})),
            "events.0.content.0.source.type: Input tag 'text' does not match any of the expected tags: 'base64', 'url' or 'file'",
        ),
        (
            image(json!({"type": "url", "url": "file:///etc/passwd"})),
            "events.0.content.0.source.url: URL scheme should be 'http' or 'https'",
        ),
        (
            image(json!({"type": "file", "file_id": "x"})),
            "events.0.content.0.source.file_id: not a valid id: expected the form file_…",
        ),
        (
            document(b64("text/html", "aGVsbG8=")),
            "events.0.content.0.source.media_type: Input should be 'application/pdf' or 'text/plain', not 'text/html'",
        ),
        (
            document(json!({"type": "text", "media_type": "text/html", "data": "x"})),
            "events.0.content.0.source.media_type: Input should be 'text/plain', not 'text/html'",
        ),
        (
            one(result(
                json!([{"type": "search_result", "source": "s", "title": "t", "content": []}]),
            )),
            "events.0.content.0.citations: Field required",
        ),
        (
            one(json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1"})),
            "events.0.result: Field required",
        ),
        (
            one(
                json!({"type": "user.tool_confirmation", "tool_use_id": "toolu_1", "result": "allow"}),
            ),
            "events.0.tool_use_id: not a valid id: expected the form sevt_…",
        ),
        (
            one(
                json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "maybe"}),
            ),
            "events.0.result: Input should be 'allow' or 'deny'",
        ),
        (
            one(
                json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow", "deny_message": "x"}),
            ),
            "events.0.deny_message: Only allowed when result is 'deny'",
        ),
        (
            one(json!({"type": "user.custom_tool_result", "tool_use_id": "sevt_1"})),
            "events.0.custom_tool_use_id: Field required",
        ),
        (
            one(json!({"type": "user.tool_result", "tool_use_id": "sevt_1", "is_error": "no"})),
            "events.0.is_error: Input should be a valid boolean",
        ),
        (
            one(json!({"type": "user.tool_result", "tool_use_id": "sevt_1", "content": null})),
            "events.0.content: Input should be a valid list",
        ),
        (
            one(
                json!({"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "x"}, "max_iterations": 21}),
            ),
            "events.0.max_iterations: Input should be less than or equal to 20",
        ),
        (
            one(
                json!({"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "x".repeat(262_145)}}),
            ),
            "events.0.rubric.content: String should have at most 262144 characters",
        ),
    ] {
        let got = refusal::<SendEvents>(&body);
        assert_eq!(
            got,
            text_,
            "{}",
            body.to_string().chars().take(200).collect::<String>()
        );
    }
}

#[test]
fn long_base64_is_checked_to_its_end() {
    let body = |data: &str| {
        send(json!([message(
            json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}])
        )]))
    };
    let good = "QUJD".repeat(5000);
    read::<SendEvents>(&body(&good)).unwrap();
    read::<SendEvents>(&body(&format!("{good}QQ=="))).unwrap();
    for bad in [
        format!("{good}Q"),
        format!("{good}Q!=="),
        format!("{}QQ=={good}", "QUJD".repeat(1023)),
        good.replacen("QUJD", "QU\u{e9}", 1),
    ] {
        assert!(read::<SendEvents>(&body(&bad)).is_err());
    }
}

#[test]
fn a_system_message_accompanies_an_input() {
    let tool = json!({"type": "user.tool_result", "tool_use_id": "sevt_1"});
    for events in [
        json!([message(json!([text("x")])), system()]),
        json!([tool, system()]),
        json!([result(json!([])), system()]),
        json!([system()]),
    ] {
        read::<SendEvents>(&send(events)).unwrap();
    }
    assert!(
        read::<SendEvents>(&send(json!([system()])))
            .unwrap()
            .is_lone_system()
    );
    for (events, message) in [
        (
            json!([system(), message(json!([text("x")]))]),
            "events.0: system.message must be the last event of the request",
        ),
        (
            json!([message(json!([text("x")])), system(), system()]),
            "events: At most one system.message is allowed per request",
        ),
        (
            json!([{"type": "user.interrupt"}, system()]),
            "events.1: system.message must directly follow a user.message, user.tool_result or user.custom_tool_result",
        ),
    ] {
        assert_eq!(refusal::<SendEvents>(&send(events)), message);
    }
}

#[test]
fn what_the_server_asks_of_an_event() {
    let events = read::<SendEvents>(&send(json!([
        message(json!([{"type": "document", "source": {"type": "file", "file_id": "file_1"}}, {"type": "image", "source": {"type": "file", "file_id": "file_2"}}])),
        {"type": "user.interrupt", "session_thread_id": "sthr_1"},
        {"type": "user.tool_confirmation", "tool_use_id": "sevt_9", "result": "allow"},
        {"type": "user.define_outcome", "description": "d", "rubric": {"type": "file", "file_id": "file_1"}}
    ])))
    .unwrap()
    .events;
    let [message, interrupt, confirmation, outcome] = events.as_slice() else {
        panic!("four events")
    };
    assert_eq!(message.file_ids().collect::<Vec<_>>(), ["file_1", "file_2"]);
    assert_eq!(interrupt.thread().unwrap().as_str(), "sthr_1");
    assert_eq!(confirmation.answers().unwrap().as_str(), "sevt_9");
    let at_cap: Vec<bool> = events.iter().map(EventParams::is_accepted_at_cap).collect();
    assert_eq!(at_cap, [false, true, true, false]);
    let error = outcome.clone().into_body().unwrap_err();
    assert_eq!(error.code, Some("not_supported_yet"));
    assert!(matches!(
        message.clone().into_body().unwrap(),
        EventBody::UserMessage(_)
    ));
}

#[test]
fn deltas_are_a_closed_set() {
    let deltas = event_deltas(&["agent.message", "agent.message"]).unwrap();
    assert!(deltas.message && !deltas.thinking);
    assert_eq!(
        event_deltas(&["agent.tool_use"]).unwrap_err().message,
        "event_deltas: Input should be 'agent.message' or 'agent.thinking', not 'agent.tool_use'"
    );
    event_deltas(&["agent.thinking"; 100]).unwrap();
    assert_eq!(
        event_deltas(&["agent.thinking"; 101]).unwrap_err().message,
        "event_deltas: At most 100 values are allowed, not 101"
    );
}

#[test]
fn refusals_that_depend_on_the_session() {
    let error = freehold_wire::event::params::no_system_messages("chat");
    assert_eq!(error.kind.status(), 400);
    assert_eq!(
        error.code,
        Some("model_does_not_support_mid_conversation_system")
    );
    // The contract wants the accepted events named.
    let error = freehold_wire::budget::reached("user.message");
    for accepted in [
        "user.tool_confirmation",
        "user.tool_result",
        "user.custom_tool_result",
        "user.interrupt",
    ] {
        assert!(error.message.contains(accepted), "{error}");
    }
}
