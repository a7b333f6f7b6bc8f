//! What the rehearsal model reads in a request.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{ModelError, ModelErrorKind};
use crate::raw::RawObject;

/// Characters that count as one token.
pub(super) const CHARS_PER_TOKEN: u64 = 4;

/// The state of a conversation, as far as a script needs it.
#[derive(Debug)]
pub(super) struct Conversation {
    /// Model id of the request, for the answer's `model`.
    pub(super) model: String,
    /// Text of the latest user message that has any.
    pub(super) prompt: String,
    /// Assistant messages after it: how many turns of its script were played.
    pub(super) turns_played: usize,
    /// Whether no assistant message was ever sent.
    pub(super) is_first_answer: bool,
    /// Text of the tool results in the last message, and whether one of them is an error.
    pub(super) last_result: Option<(String, bool)>,
    /// Names of the tools on offer.
    pub(super) tools: Vec<String>,
    /// Most tokens of the answer.
    pub(super) max_tokens: u64,
    /// A quarter of the characters of system prompt, messages and tools.
    pub(super) input_tokens: u64,
    /// The same for the same request, different for different ones.
    pub(super) fingerprint: u64,
}

#[derive(Deserialize)]
struct InMessage {
    role: String,
    content: Value,
}

impl Conversation {
    /// Reads a request body.
    pub(super) fn read(body: &RawObject) -> Result<Self, ModelError> {
        let wrong = |message: &str| {
            ModelError::new(ModelErrorKind::InvalidRequest, message).with_status(400)
        };
        let raw = body
            .get("messages")
            .ok_or_else(|| wrong("messages: Field required"))?;
        let messages: Vec<InMessage> = serde_json::from_str(raw.get())
            .map_err(|_| wrong("messages: every item needs a role and content"))?;
        let last = messages
            .last()
            .ok_or_else(|| wrong("messages: at least one message is required"))?;
        if last.role == "assistant" {
            return Err(wrong(
                "messages: the last message must not be the assistant's",
            ));
        }
        let is_user = |m: &&InMessage| m.role == "user";
        let latest = messages
            .iter()
            .rposition(|m| is_user(&m) && text_of(&m.content).is_some());
        let assistants = |m: &[InMessage]| m.iter().filter(|m| m.role == "assistant").count();
        let last_result = messages
            .iter()
            .rev()
            .find(is_user)
            .and_then(|m| results_of(&m.content));
        Ok(Self {
            model: body.read("model").unwrap_or_default(),
            prompt: latest
                .and_then(|at| text_of(&messages[at].content))
                .unwrap_or_default(),
            turns_played: assistants(&messages[latest.map_or(0, |at| at + 1)..]),
            is_first_answer: assistants(&messages) == 0,
            last_result,
            tools: tools_of(body),
            max_tokens: body.read("max_tokens").unwrap_or(u64::MAX),
            input_tokens: estimate(body),
            fingerprint: fingerprint(body),
        })
    }
}

fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(blocks) => {
            let texts: Vec<&str> = blocks
                .iter()
                .filter(|b| b["type"] == "text")
                .filter_map(|b| b["text"].as_str())
                .collect();
            (!texts.is_empty()).then(|| texts.join("\n"))
        }
        _ => None,
    }
}

fn results_of(content: &Value) -> Option<(String, bool)> {
    let results: Vec<&Value> = content
        .as_array()?
        .iter()
        .filter(|b| b["type"] == "tool_result")
        .collect();
    if results.is_empty() {
        return None;
    }
    let texts: Vec<String> = results
        .iter()
        .map(|b| text_of(&b["content"]).unwrap_or_default())
        .collect();
    let failed = results.iter().any(|b| b["is_error"] == true);
    Some((texts.join("\n"), failed))
}

fn tools_of(body: &RawObject) -> Vec<String> {
    #[derive(Deserialize)]
    struct Tool {
        name: String,
    }
    body.read::<Vec<Tool>>("tools")
        .unwrap_or_default()
        .into_iter()
        .map(|tool| tool.name)
        .collect()
}

/// A quarter of the characters, at least 1.
fn estimate(body: &RawObject) -> u64 {
    let chars: u64 = ["system", "messages", "tools"]
        .iter()
        .filter_map(|key| body.get(key))
        .map(|raw| raw.get().chars().count() as u64)
        .sum();
    chars.div_ceil(CHARS_PER_TOKEN).max(1)
}

/// FNV-1a of the whole body: needs no strength, only stability between runs.
fn fingerprint(body: &RawObject) -> u64 {
    body.to_raw()
        .get()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
