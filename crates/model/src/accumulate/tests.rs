use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::message::BlockKind;

fn event(data: Value) -> StreamEvent {
    StreamEvent {
        name: data["type"].as_str().unwrap().to_owned(),
        data: to_raw(&data),
    }
}

fn start() -> StreamEvent {
    event(json!({"type": "message_start", "message": {
        "id": "msg_1", "model": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}}))
}

fn block(index: usize, block: Value) -> StreamEvent {
    event(json!({"type": "content_block_start", "index": index, "content_block": block}))
}

fn delta(index: usize, delta: Value) -> StreamEvent {
    event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn stop(index: usize) -> StreamEvent {
    event(json!({"type": "content_block_stop", "index": index}))
}

fn end(reason: &str) -> [StreamEvent; 2] {
    let details = if reason == "refusal" {
        json!({"type": "refusal", "category": "cyber", "explanation": null})
    } else {
        Value::Null
    };
    [
        event(json!({"type": "message_delta",
            "delta": {"stop_reason": reason, "stop_details": details}, "usage": {"output_tokens": 8}})),
        event(json!({"type": "message_stop"})),
    ]
}

fn tool(index: usize, input: &str) -> Vec<StreamEvent> {
    vec![
        block(
            index,
            json!({"type": "tool_use", "id": format!("t{index}"), "name": "bash", "input": {}}),
        ),
        delta(
            index,
            json!({"type": "input_json_delta", "partial_json": input}),
        ),
        stop(index),
    ]
}

fn fold(parts: &[&[StreamEvent]]) -> Result<Message, AccumulateError> {
    let mut fold = Accumulator::new();
    for event in parts.iter().copied().flatten() {
        fold.push(event)?;
    }
    fold.finish()
}

#[test]
fn previews() {
    let mut fold = Accumulator::new();
    let mut deltas = Vec::new();
    let text = block(0, json!({"type": "text", "text": ""}));
    let hi = delta(0, json!({"type": "text_delta", "text": "hi"}));
    let empty = delta(0, json!({"type": "text_delta", "text": ""}));
    let events = [
        vec![start(), text, hi, empty, stop(0)],
        tool(1, "{}"),
        end("tool_use").into(),
    ];
    for event in events.iter().flatten() {
        deltas.extend(fold.push(event).unwrap());
    }
    let call = BlockKind::ToolUse {
        id: "t1".into(),
        name: "bash".into(),
    };
    assert_eq!(
        deltas,
        [
            Delta::MessageStart,
            Delta::BlockStart {
                index: 0,
                kind: BlockKind::Text
            },
            Delta::Text {
                index: 0,
                text: "hi".into()
            },
            Delta::BlockStop { index: 0 },
            Delta::BlockStart {
                index: 1,
                kind: call
            },
            Delta::ToolInput {
                index: 1,
                partial_json: "{}".into()
            },
            Delta::BlockStop { index: 1 },
            Delta::MessageStop,
        ]
    );
}

#[test]
fn unreadable_tool_input_is_a_typed_error() {
    for input in ["{", "[1]", "\"x\"", "{} {}"] {
        let result = fold(&[
            &[start()],
            &tool(0, input),
            &tool(1, "{}"),
            &end("tool_use"),
        ]);
        let expected = AccumulateError::ToolInput {
            index: 0,
            id: "t0".into(),
            name: "bash".into(),
        };
        assert_eq!(result.unwrap_err(), expected, "{input}");
    }
}

#[test]
fn a_call_cut_short_by_max_tokens_is_left_out_and_said_so() {
    let text = [
        block(0, json!({"type": "text", "text": ""})),
        delta(0, json!({"type": "text_delta", "text": "hi"})),
        stop(0),
    ];
    for input in ["{\"command\": \"rm -r", "{\"command\":\"ls\"}", ""] {
        let message = fold(&[&[start()], &text, &tool(1, input), &end("max_tokens")]).unwrap();
        assert!(message.truncated_tool_use);
        assert_eq!(message.content.len(), 1, "{input}");
    }
    let message = fold(&[&[start()], &text, &end("max_tokens")]).unwrap();
    assert!(!message.truncated_tool_use);
    assert_eq!(message.content.len(), 1);
    let earlier = fold(&[&[start()], &tool(0, "{"), &tool(1, "{"), &end("max_tokens")]);
    assert!(matches!(
        earlier,
        Err(AccumulateError::ToolInput { index: 0, .. })
    ));
}

#[test]
fn refusals_carry_their_details() {
    let message = fold(&[&[start()], &end("refusal")]).unwrap();
    assert_eq!(message.stop_reason, "refusal");
    let details: Value = serde_json::from_str(message.stop_details.unwrap().get()).unwrap();
    assert_eq!(details["category"], "cyber");
    assert!(
        fold(&[&[start()], &end("end_turn")])
            .unwrap()
            .stop_details
            .is_none()
    );
}

#[test]
fn usage_of_an_answer_that_broke_off() {
    let mut fold = Accumulator::new();
    fold.push(&start()).unwrap();
    assert_eq!(fold.usage().input_tokens, 3);
    assert!(fold.started());
    assert_eq!(fold.finish().unwrap_err(), AccumulateError::Incomplete);
}

#[test]
fn after_a_fallback_the_last_model_served() {
    let hop = block(0, json!({"type": "fallback", "to": {"model": "second"}}));
    let message = fold(&[&[start(), hop, stop(0)], &end("end_turn")]).unwrap();
    assert_eq!(message.model, "second");
}

#[test]
fn deltas_of_unknown_kinds_replace_their_fields() {
    let message = fold(&[
        &[
            start(),
            block(0, json!({"type": "compaction", "content": null})),
            delta(
                0,
                json!({"type": "compaction_delta", "content": "sum", "encrypted_content": "e"}),
            ),
            stop(0),
        ],
        &end("end_turn"),
    ])
    .unwrap();
    let block: Value = serde_json::from_str(message.content[0].get()).unwrap();
    assert_eq!(
        block,
        json!({"type": "compaction", "content": "sum", "encrypted_content": "e"})
    );
}

#[test]
fn events_out_of_order_are_errors() {
    let text = || block(0, json!({"type": "text", "text": ""}));
    let order = |event: &str| AccumulateError::Order {
        event: event.into(),
    };
    let check = |events: Vec<StreamEvent>, error: AccumulateError| {
        assert_eq!(fold(&[&events]).unwrap_err(), error);
    };
    check(vec![], AccumulateError::Incomplete);
    check(vec![text()], order("content_block_start"));
    check(vec![start(), start()], order("message_start"));
    check(vec![start(), text(), text()], order("content_block_start"));
    check(
        vec![start(), block(1, json!({"type": "text"}))],
        order("content_block_start"),
    );
    check(vec![start(), stop(0)], order("content_block_stop"));
    check(
        vec![start(), delta(0, json!({"type": "text_delta", "text": ""}))],
        order("content_block_delta"),
    );
    check(
        vec![start(), text(), end("end_turn")[1].clone()],
        order("message_stop"),
    );
    check(vec![start(), text()], AccumulateError::Incomplete);
    let broken = event(json!({"type": "content_block_start", "index": "x"}));
    check(
        vec![start(), broken],
        AccumulateError::Malformed {
            event: "content_block_start".into(),
        },
    );
}

#[test]
fn a_missing_message_stop_is_forgiven() {
    let [last, _] = end("end_turn");
    assert!(fold(&[&[start(), last]]).is_ok());
}

proptest! {
    #[test]
    fn any_events_are_folded_or_refused(picks in proptest::collection::vec((0usize..9, 0usize..3), 0..24)) {
        let mut fold = Accumulator::new();
        for (pick, index) in picks {
            let event = match pick {
                0 => start(),
                1 => block(index, json!({"type": "text", "text": "x"})),
                2 => block(index, json!({"type": "tool_use", "id": 3})),
                3 => delta(index, json!({"type": "text_delta", "text": "y"})),
                4 => delta(index, json!({"type": "input_json_delta", "partial_json": "{"})),
                5 => stop(index),
                6 => end("tool_use")[0].clone(),
                7 => end("end_turn")[1].clone(),
                _ => event(json!({"type": "message_delta", "delta": null})),
            };
            let _ = fold.push(&event);
        }
        let _ = fold.finish();
    }
}
