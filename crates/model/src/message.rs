//! A whole answer, and the pieces of one that is still being made.

use serde_json::value::RawValue;

use crate::Usage;
use crate::raw::RawObject;

/// A finished answer (contract 82 §3).
#[derive(Debug, Clone)]
pub struct Message {
    /// Upstream's id of the message.
    pub id: String,
    /// The model that served it, by upstream's name: after a server-side fallback the last one.
    pub model: String,
    /// Content blocks in order. Blocks of kinds this version does not know are kept whole; tool
    /// inputs, signatures and citations are the bytes upstream sent.
    pub content: Vec<Box<RawValue>>,
    /// `end_turn`, `max_tokens`, `stop_sequence`, `tool_use`, `pause_turn`, `refusal`,
    /// `model_context_window_exceeded`, or one this version does not know.
    pub stop_reason: String,
    /// Why a refusal was one; absent or null otherwise.
    pub stop_details: Option<Box<RawValue>>,
    /// Final counts.
    pub usage: Usage,
    /// Set when the answer ran out of tokens inside a tool call: that block, which nobody may
    /// run, is not in `content`.
    pub truncated_tool_use: bool,
    /// The message object without `content`, every field as upstream sent it.
    pub(crate) envelope: RawObject,
}

impl Message {
    /// Any field but `content`, as upstream sent it.
    pub fn field(&self, key: &str) -> Option<&RawValue> {
        self.envelope.get(key)
    }
    /// The message as the JSON body of a `POST /v1/messages` without `stream`.
    pub fn to_json(&self) -> Box<RawValue> {
        let mut whole = self.envelope.clone();
        whole.set_raw("content", crate::raw::to_raw(&self.content));
        whole.to_raw()
    }
}

/// What a block is, as far as previews and the engine care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockKind {
    /// `text`.
    Text,
    /// `thinking` or `redacted_thinking`.
    Thinking,
    /// `tool_use`: a call this platform must answer.
    ToolUse {
        /// The model's id of the call.
        id: String,
        /// The tool.
        name: String,
    },
    /// Any other type, by name.
    Other(String),
}

/// A step of a running answer, for previews. `index` is the block's place in the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// The answer began; input counts are known where upstream gives them early.
    MessageStart,
    /// A block began.
    BlockStart {
        /// Place in the content.
        index: usize,
        /// What it is.
        kind: BlockKind,
    },
    /// Text was added to a text block.
    Text {
        /// Place in the content.
        index: usize,
        /// The addition; never empty.
        text: String,
    },
    /// Thinking was added to a thinking block.
    Thinking {
        /// Place in the content.
        index: usize,
        /// The addition; never empty.
        text: String,
    },
    /// Part of a tool call's input arrived; not JSON by itself.
    ToolInput {
        /// Place in the content.
        index: usize,
        /// The addition; never empty.
        partial_json: String,
    },
    /// A block is complete.
    BlockStop {
        /// Place in the content.
        index: usize,
    },
    /// The answer is complete.
    MessageStop,
}
