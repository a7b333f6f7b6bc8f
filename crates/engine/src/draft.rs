//! What a step wants appended.

use freehold_base::EventId;
use freehold_wire::event::EventBody;
use freehold_wire::session::Status;
use freehold_wire::usage::CacheCreation;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::summary::PicoUsd;

/// What the server must remember of an event and clients do not see.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// On `span.model_request_end`: what the model answered.
    Reply(ReplyDetail),
    /// On `agent.thread_context_compacted`: the summary that replaces the context.
    Compaction {
        /// Written by the model.
        summary: String,
    },
    /// On `agent.mcp_tool_use`: what the call is bound to.
    Mcp {
        /// Of the definition the model saw.
        fingerprint: String,
    },
    /// On `session.status_rescheduled`: how long to wait.
    Retry {
        /// Milliseconds.
        after_ms: u64,
    },
}

/// The model's answer, byte for byte, and what it cost.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReplyDetail {
    /// The content blocks as received; empty for a failed request or a compaction.
    pub content: Vec<Box<RawValue>>,
    /// Ids of the `tool_use` blocks, in the order of their use events.
    pub tool_ids: Vec<String>,
    /// The model's stop reason.
    pub stop_reason: Option<String>,
    /// Refusal: category and explanation.
    pub refusal: Option<(Option<String>, Option<String>)>,
    /// Cache writes by lifetime.
    pub cache_creation: CacheCreation,
    /// Exact cost; `None` when the model has no price.
    pub cost: Option<PicoUsd>,
    /// Tokens the context held after this answer.
    pub context_tokens: u64,
    /// The request failed because the context did not fit.
    pub context_exceeded: bool,
}

/// One event to append.
#[derive(Debug, Clone)]
pub struct DraftEvent {
    /// Its id.
    pub id: EventId,
    /// Its body.
    pub body: EventBody,
    /// What clients do not see.
    pub detail: Option<Detail>,
}

/// Events to append together, and what changes with them.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// In order.
    pub events: Vec<DraftEvent>,
    /// Inbox items these events process.
    pub consume: Vec<i64>,
    /// Status after them, if it changes.
    pub status: Option<Status>,
    /// Whether the session then waits for a client's answers.
    pub blocked: Option<bool>,
}

impl Draft {
    /// Adds an event.
    pub fn push(&mut self, id: EventId, body: EventBody) {
        self.events.push(DraftEvent {
            id,
            body,
            detail: None,
        });
    }
    /// Adds an event with a detail.
    pub fn push_with(&mut self, id: EventId, body: EventBody, detail: Detail) {
        self.events.push(DraftEvent {
            id,
            body,
            detail: Some(detail),
        });
    }
    /// Appends another draft to this one; its status wins.
    pub fn merge(&mut self, other: Self) {
        self.events.extend(other.events);
        self.consume.extend(other.consume);
        self.status = other.status.or(self.status);
        self.blocked = other.blocked.or(self.blocked);
    }
    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.consume.is_empty()
    }
}
