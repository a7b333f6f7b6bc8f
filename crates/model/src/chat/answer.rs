//! From the chunks of a Chat Completions stream to Messages events.
//!
//! Text is passed on as it comes. Tool calls are gathered and given at the end, because servers
//! may interleave them while Messages has one open block at a time.

use std::collections::HashSet;

use freehold_base::IdSource;
use freehold_base::id::kind;
use serde::Deserialize;
use serde_json::Value;

use super::tool_calls::{Call, Piece, ToolCalls};
use crate::classify;
use crate::emit::{self, Counts};
use crate::error::{ModelError, ModelErrorKind};
use crate::provider::StreamEvent;

/// Characters of an upstream call id that is kept. Shorter ones are counters, which begin anew in
/// each answer.
const ID_CHARS: std::ops::RangeInclusive<usize> = 9..=64;

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
            events.push(emit::block_stop(0));
            index = 1;
        }
        let stop_reason = self.stop_reason();
        for call in std::mem::take(&mut self.calls).into_calls() {
            self.call(index, &call, &mut events);
            index += 1;
        }
        events.extend(emit::message_end(stop_reason, None, self.counts()));
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
    fn counts(&self) -> Counts {
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
        Counts {
            input: prompt - cached,
            cache_read: cached,
            output,
        }
    }

    fn start(&mut self, events: &mut Vec<StreamEvent>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let id = self.ids.next::<kind::Message>().to_string();
        events.push(emit::message_start(&id, &self.model, self.input_estimate));
    }

    fn text(&mut self, text: Option<String>, events: &mut Vec<StreamEvent>) {
        let Some(text) = text.filter(|t| !t.is_empty()) else {
            return;
        };
        if !std::mem::replace(&mut self.text_open, true) {
            events.push(emit::text_start(0));
        }
        self.chars += text.chars().count() as u64;
        events.push(emit::text_delta(0, &text));
    }

    fn call(&mut self, index: usize, call: &Call, events: &mut Vec<StreamEvent>) {
        let id = self.id_for(&call.id);
        let input = call.input();
        self.chars += input.chars().count() as u64;
        events.push(emit::tool_use_start(index, &id, &call.name));
        events.push(emit::input_delta(index, &input));
        events.push(emit::block_stop(index));
    }

    /// Upstream's id where it is well-formed and new in this conversation (chat templates may
    /// care about its form), else one of ours.
    fn id_for(&mut self, upstream: &str) -> String {
        let fits = ID_CHARS.contains(&upstream.len())
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
