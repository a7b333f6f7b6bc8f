//! The body of a Chat Completions request.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::raw::to_raw;

/// Characters that count as one token in an estimate.
const CHARS_PER_TOKEN: usize = 4;
/// Tokens an image counts for in an estimate.
const TOKENS_PER_IMAGE: usize = 1_600;

/// The request.
#[derive(Debug, Serialize)]
pub(super) struct Outgoing {
    pub(super) model: String,
    pub(super) messages: Vec<ChatMessage>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<ChatTool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_k: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_format: Option<Value>,
    pub(super) stream: bool,
    pub(super) stream_options: StreamOptions,
}

#[derive(Debug, Serialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

/// One message.
#[derive(Debug, Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub(super) enum ChatMessage {
    System {
        content: String,
    },
    User {
        content: UserContent,
    },
    Assistant {
        /// Null beside tool calls when there was no text.
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<ChatToolCall>,
    },
    Tool {
        tool_call_id: String,
        content: String,
    },
}

/// A string where there is only text: older servers know nothing else.
#[derive(Debug)]
pub(super) enum UserContent {
    Text(String),
    Parts(Vec<Part>),
}

impl Serialize for UserContent {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(s),
            Self::Parts(parts) => parts.serialize(s),
        }
    }
}

/// A part of a user message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Debug, Serialize)]
pub(super) struct ImageUrl {
    pub(super) url: String,
}

/// A call the assistant made.
#[derive(Debug, Serialize)]
pub(super) struct ChatToolCall {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: CalledFunction,
}

#[derive(Debug, Serialize)]
pub(super) struct CalledFunction {
    pub(super) name: String,
    /// JSON as text: the bytes of the block's `input`.
    pub(super) arguments: String,
}

/// A tool on offer.
#[derive(Debug, Serialize)]
pub(super) struct ChatTool {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) function: Function,
}

#[derive(Debug, Serialize)]
pub(super) struct Function {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    pub(super) parameters: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
}

impl Outgoing {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        to_raw(self).get().as_bytes().to_vec()
    }

    /// Ids of the calls in the conversation: new ones must differ.
    pub(super) fn tool_call_ids(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().flat_map(|message| {
            let calls: &[ChatToolCall] = match message {
                ChatMessage::Assistant { tool_calls, .. } => tool_calls,
                _ => &[],
            };
            calls.iter().map(|call| call.id.as_str())
        })
    }

    /// A quarter of the characters of messages and tools, images at a flat rate.
    pub(super) fn estimate_tokens(&self) -> u64 {
        let mut chars = to_raw(&self.tools).get().chars().count();
        let mut images = 0;
        for message in &self.messages {
            match message {
                ChatMessage::User {
                    content: UserContent::Parts(parts),
                } => {
                    for part in parts {
                        match part {
                            Part::Text { text } => chars += text.chars().count(),
                            Part::ImageUrl { .. } => images += 1,
                        }
                    }
                }
                other => chars += to_raw(other).get().chars().count(),
            }
        }
        (chars.div_ceil(CHARS_PER_TOKEN) + images * TOKENS_PER_IMAGE).max(1) as u64
    }
}
