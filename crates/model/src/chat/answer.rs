//! From the chunks of a Chat Completions stream to Messages events.
//!
//! Text is passed on as it comes. Tool calls are gathered and given at the end, because servers
//! may interleave them while Messages has one open block at a time.

use std::collections::HashSet;

use freehold_base::IdSource;
use freehold_base::id::kind;
use serde::Deserialize;
use serde_json::{Value, json};

use super::tool_calls::{Call, Piece, ToolCalls};
use crate::classify;
use crate::error::{ModelError, ModelErrorKind};
use crate::provider::StreamEvent;
use crate::raw::to_raw;

/// Longest upstream call id that is kept.
const MAX_ID: usize = 64;

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<ChatUsage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Option<ChoiceDelta>,
    finish_reason: Option<String>,
}

/// `reasoning_content` and its kin are not read: thinking needs signatures to be sent back, and
/// these have none.
#[derive(Deserialize)]
struct ChoiceDelta {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Piece>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct ChatUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

/// The answer so far.
pub(super) struct Answer {
    model: String,
    /// Used where upstream gives no counts.
    input_estimate: u64,
    /// Ids of calls in the conversation and in this answer.
    taken_ids: HashSet<String>,
    ids: IdSource,
    started: bool,
    text_open: bool,
    refused: bool,
    chars: u64,
    calls: ToolCalls,
    finish: Option<String>,
    usage: Option<ChatUsage>,
}

impl Answer {
    pub(super) fn new(
        model: String,
        input_estimate: u64,
        taken_ids: HashSet<String>,
        ids: IdSource,
    ) -> Self {
        Self {
            model,
            input_estimate,
            taken_ids,
            ids,
            started: false,
            text_open: false,
            refused: false,
            chars: 0,
            calls: ToolCalls::default(),
            finish: None,
            usage: None,
        }
    }

    /// Takes one `data:` payload.
    pub(super) fn chunk(&mut self, data: &str) -> Result<Vec<StreamEvent>, ModelError> {
        let chunk: Chunk = serde_json::from_str(data).map_err(|_| {
            ModelError::new(
                ModelErrorKind::Protocol,
                "the model endpoint sent a chunk that is not a chat completion",
            )
        })?;
        if chunk.error.is_some_and(|error| !error.is_null()) {
            return Err(classify::stream_error(data));
        }
        if let Some(usage) = chunk.usage {
            self.usage = Some(usage);
        }
        let mut events = Vec::new();
        self.start(&mut events);
        // We ask for one choice; others are not ours.
        for choice in chunk.choices.into_iter().filter(|c| c.index == 0) {
            if let Some(delta) = choice.delta {
                self.text(delta.content, &mut events);
                if delta.refusal.as_ref().is_some_and(|r| !r.is_empty()) {
                    self.refused = true;
                }
                self.text(delta.refusal, &mut events);
                for piece in delta.tool_calls.into_iter().flatten() {
                    self.calls.add(piece).map_err(|_| {
                        ModelError::new(
                            ModelErrorKind::Protocol,
                            "the model endpoint sent too many tool calls",
                        )
                    })?;
                }
            }
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        Ok(events)
    }

    /// The stream is over; `done` says whether upstream said so itself.
    pub(super) fn end(&mut self, done: bool) -> Result<Vec<StreamEvent>, ModelError> {
        if self.finish.is_none() && !done {
            return Err(ModelError::new(
                ModelErrorKind::Network,
                "the model endpoint closed the stream before the end of its answer",
            ));
        }
        let mut events = Vec::new();
        self.start(&mut events);
        let mut index = 0;
        if std::mem::take(&mut self.text_open) {
            events.push(event(json!({"type": "content_block_stop", "index": 0})));
            index = 1;
        }
        let stop_reason = self.stop_reason();
        for call in std::mem::take(&mut self.calls).into_calls() {
            self.call(index, &call, &mut events);
            index += 1;
        }
        let stop_details = if stop_reason == "refusal" {
            json!({"type": "refusal", "category": null, "explanation": null})
        } else {
            Value::Null
        };
        events.push(event(json!({
            "type": "message_delta",
            "delta": {
                "stop_reason": stop_reason,
                "stop_sequence": null,
                "stop_details": stop_details,
                "container": null,
            },
            "usage": self.counts(),
        })));
        events.push(event(json!({"type": "message_stop"})));
        Ok(events)
    }

    fn stop_reason(&self) -> &'static str {
        match self.finish.as_deref() {
            Some("length") => "max_tokens",
            Some("content_filter") => "refusal",
            _ if self.refused => "refusal",
            // Some servers say `stop` beside tool calls, some `tool_calls` beside none.
            _ if !self.calls.is_empty() => "tool_use",
            _ => "end_turn",
        }
    }

    /// Upstream's counts; where it gives none, a quarter of the characters.
    fn counts(&self) -> Value {
        let said = self.usage.as_ref();
        let prompt = said
            .and_then(|u| u.prompt_tokens)
            .unwrap_or(self.input_estimate);
        let cached = said
            .and_then(|u| u.prompt_tokens_details)
            .and_then(|d| d.cached_tokens)
            .unwrap_or(0)
            .min(prompt);
        let output = said
            .and_then(|u| u.completion_tokens)
            .unwrap_or_else(|| self.chars.div_ceil(4));
        json!({
            "input_tokens": prompt - cached,
            "output_tokens": output,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
        })
    }

    fn start(&mut self, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = json!({
            "id": self.ids.next::<kind::Message>().to_string(),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "stop_details": null,
            "container": null,
            "usage": {
                "input_tokens": self.input_estimate,
                "output_tokens": 0,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "cache_creation": null,
                "server_tool_use": null,
                "service_tier": null,
            },
        });
        events.push(event(json!({"type": "message_start", "message": message})));
    }

    fn text(&mut self, text: Option<String>, events: &mut Vec<StreamEvent>) {
        let Some(text) = text.filter(|t| !t.is_empty()) else {
            return;
        };
        if !std::mem::replace(&mut self.text_open, true) {
            let block = json!({"type": "text", "text": ""});
            events.push(event(
                json!({"type": "content_block_start", "index": 0, "content_block": block}),
            ));
        }
        self.chars += text.chars().count() as u64;
        let delta = json!({"type": "text_delta", "text": text});
        events.push(event(
            json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        ));
    }

    fn call(&mut self, index: usize, call: &Call, events: &mut Vec<StreamEvent>) {
        let id = self.id_for(&call.id);
        let input = call.input();
        self.chars += input.chars().count() as u64;
        let block = json!({"type": "tool_use", "id": id, "name": call.name, "input": {}});
        let delta = json!({"type": "input_json_delta", "partial_json": input});
        for data in [
            json!({"type": "content_block_start", "index": index, "content_block": block}),
            json!({"type": "content_block_delta", "index": index, "delta": delta}),
            json!({"type": "content_block_stop", "index": index}),
        ] {
            events.push(event(data));
        }
    }

    /// Upstream's id where it is well-formed and new in this conversation (chat templates may
    /// care about its form), else one of ours.
    fn id_for(&mut self, upstream: &str) -> String {
        let fits = !upstream.is_empty()
            && upstream.len() <= MAX_ID
            && upstream
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            && !self.taken_ids.contains(upstream);
        let id = if fits {
            upstream.to_owned()
        } else {
            self.ids.next::<kind::ToolUse>().to_string()
        };
        self.taken_ids.insert(id.clone());
        id
    }
}

fn event(data: Value) -> StreamEvent {
    let name = data["type"].as_str().unwrap_or_default().to_owned();
    StreamEvent {
        name,
        data: to_raw(&data),
    }
}
