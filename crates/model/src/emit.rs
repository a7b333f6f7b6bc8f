//! The events of a Messages stream, for providers that make their own. Every field the official
//! SDKs' types call required is there (contract 82 §3, §4).

use serde_json::{Value, json};

use crate::provider::StreamEvent;
use crate::raw::to_raw;

/// Final counts of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) input: u64,
    pub(crate) cache_read: u64,
    pub(crate) output: u64,
}

pub(crate) fn message_start(id: &str, model: &str, input_tokens: u64) -> StreamEvent {
    event(json!({"type": "message_start", "message": {
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "stop_details": null,
        "container": null,
        "diagnostics": null,
        "usage": {
            "input_tokens": input_tokens,
            "output_tokens": 0,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens_details": null,
            "server_tool_use": null,
            "service_tier": "standard",
            "speed": null,
            "inference_geo": null,
        },
    }}))
}

pub(crate) fn text_start(index: usize) -> StreamEvent {
    let block = json!({"type": "text", "text": "", "citations": null});
    block_start(index, &block)
}

pub(crate) fn text_delta(index: usize, text: &str) -> StreamEvent {
    block_delta(index, &json!({"type": "text_delta", "text": text}))
}

pub(crate) fn thinking_start(index: usize) -> StreamEvent {
    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
    block_start(index, &block)
}

pub(crate) fn thinking_delta(index: usize, thinking: &str) -> StreamEvent {
    block_delta(
        index,
        &json!({"type": "thinking_delta", "thinking": thinking}),
    )
}

pub(crate) fn signature_delta(index: usize, signature: &str) -> StreamEvent {
    block_delta(
        index,
        &json!({"type": "signature_delta", "signature": signature}),
    )
}

pub(crate) fn tool_use_start(index: usize, id: &str, name: &str) -> StreamEvent {
    let caller = json!({"type": "direct"});
    let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}, "caller": caller});
    block_start(index, &block)
}

pub(crate) fn input_delta(index: usize, partial_json: &str) -> StreamEvent {
    block_delta(
        index,
        &json!({"type": "input_json_delta", "partial_json": partial_json}),
    )
}

pub(crate) fn block_stop(index: usize) -> StreamEvent {
    event(json!({"type": "content_block_stop", "index": index}))
}

/// The end: `message_delta` and `message_stop`. `explanation` is for refusals.
pub(crate) fn message_end(
    stop_reason: &str,
    explanation: Option<&str>,
    counts: Counts,
) -> [StreamEvent; 2] {
    let stop_details = if stop_reason == "refusal" {
        json!({"type": "refusal", "category": null, "explanation": explanation})
    } else {
        Value::Null
    };
    let delta = event(json!({
        "type": "message_delta",
        "delta": {
            "stop_reason": stop_reason,
            "stop_sequence": null,
            "stop_details": stop_details,
            "container": null,
        },
        "usage": {
            "input_tokens": counts.input,
            "output_tokens": counts.output,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": counts.cache_read,
            "output_tokens_details": null,
            "server_tool_use": null,
        },
    }));
    [delta, event(json!({"type": "message_stop"}))]
}

fn block_start(index: usize, block: &Value) -> StreamEvent {
    event(json!({"type": "content_block_start", "index": index, "content_block": block}))
}

fn block_delta(index: usize, delta: &Value) -> StreamEvent {
    event(json!({"type": "content_block_delta", "index": index, "delta": delta}))
}

fn event(data: Value) -> StreamEvent {
    let name = data["type"].as_str().unwrap_or_default().to_owned();
    StreamEvent {
        name,
        data: to_raw(&data),
    }
}
