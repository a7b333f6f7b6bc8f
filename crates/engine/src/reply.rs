//! From a model's answer, or its failure, to events.

use freehold_base::EventId;
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{
    ContentOnly, CustomToolUse, Empty, EventBody, McpToolResult, McpToolUse, ModelRequestEnd,
    RetryStatus, SessionError, SessionErrorEvent, SessionErrorKind, ThreadStatus, ToolResult,
    ToolUse,
};
use freehold_wire::session::Status;
use freehold_wire::usage::{CacheCreation, ModelUsage};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::{self, CallKind};
use crate::decide::{Purpose, View};
use crate::draft::{Detail, Draft, ReplyDetail};
use crate::request::Facts;
use crate::state::State;
use crate::steps;
use crate::summary::PicoUsd;

/// A finished answer.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The content blocks, byte for byte.
    pub content: Vec<Box<RawValue>>,
    /// `end_turn`, `tool_use`, `max_tokens`, `refusal`, `pause_turn`, …
    pub stop_reason: Option<String>,
    /// Refusal: category and explanation.
    pub refusal: Option<(Option<String>, Option<String>)>,
    /// What it cost.
    pub spent: Spent,
}

/// What a model request used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Tokens.
    pub usage: ModelUsage,
    /// Cache writes by lifetime.
    pub cache_creation: CacheCreation,
    /// Exact cost; `None` if the model has no price.
    pub cost: Option<PicoUsd>,
}

impl Spent {
    /// Nothing: for a request whose provider reported nothing.
    pub const NOTHING: Self = Self {
        usage: ModelUsage {
            input_tokens: 0,
            output_tokens: 0,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 0,
        },
        cache_creation: CacheCreation {
            ephemeral_5m_input_tokens: 0,
            ephemeral_1h_input_tokens: 0,
        },
        cost: Some(0),
    };
}

impl Reply {
    /// Its text, for a compaction.
    pub fn text(&self) -> String {
        let blocks = self.content.iter().filter_map(|raw| Block::of(raw));
        blocks
            .filter_map(|b| (b.r#type == "text").then_some(b.text))
            .flatten()
            .collect()
    }
}

/// Why a model request failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What clients are told.
    pub kind: SessionErrorKind,
    /// For people; without secrets.
    pub message: String,
    /// Whether trying again may help.
    pub retryable: bool,
    /// What the provider asked for.
    pub retry_after_ms: Option<u64>,
    /// The context does not fit.
    pub context_exceeded: bool,
    /// What the provider reported before it failed.
    pub spent: Spent,
}

/// Which event each content block becomes part of. Fed in block order, once for the previews while
/// the answer streams and again, with the same result, for the events: a preview's id is the id of
/// the event that follows it.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    blocks: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    kind: String,
    event: EventId,
    index: usize,
}

impl Layout {
    /// Places the next block; gives the event and the block's index in the event's content. Runs
    /// of text share one `agent.message`.
    pub fn place(&mut self, kind: &str, new_id: impl FnOnce() -> EventId) -> (EventId, usize) {
        let (event, index) = match self.blocks.last() {
            Some(last) if kind == "text" && last.kind == "text" => {
                (last.event.clone(), last.index + 1)
            }
            _ => (new_id(), 0),
        };
        self.blocks.push(Place {
            kind: kind.to_owned(),
            event: event.clone(),
            index,
        });
        (event, index)
    }
}

/// The fields of a content block the engine reads.
#[derive(Deserialize)]
struct Block<'a> {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

impl<'a> Block<'a> {
    fn of(raw: &'a RawValue) -> Option<Self> {
        serde_json::from_str(raw.get()).ok()
    }
}

/// Text of the result a refused call gets.
fn refusal_text(name: &str) -> String {
    let name: String = name.chars().take(128).collect();
    format!("Tool '{name}' is not available to this agent.")
}

/// The events of an answer, ending with the request's end. `layout` holds the ids that previews
/// already showed; blocks it lacks get new ones.
pub fn events(
    state: &State,
    request: &EventId,
    reply: Reply,
    layout: &Layout,
    facts: &Facts,
    new_id: &mut dyn FnMut() -> EventId,
) -> Draft {
    let mut draft = Draft::default();
    let mut detail = ReplyDetail {
        stop_reason: Some(
            reply
                .stop_reason
                .clone()
                .unwrap_or_else(|| "end_turn".into()),
        ),
        refusal: reply.refusal,
        cache_creation: reply.spent.cache_creation,
        cost: reply.spent.cost,
        context_tokens: reply.spent.usage.input_tokens
            + reply.spent.usage.cache_creation_input_tokens
            + reply.spent.usage.cache_read_input_tokens
            + reply.spent.usage.output_tokens,
        ..ReplyDetail::default()
    };
    let mut text: Option<(EventId, Vec<ContentBlock>)> = None;
    let mut refused = Vec::new();
    for (i, raw) in reply.content.iter().enumerate() {
        let Some(block) = Block::of(raw) else {
            continue;
        };
        let placed = layout.blocks.get(i).filter(|p| p.kind == block.r#type);
        let id = placed.map(|p| p.event.clone());
        if block.r#type != "text"
            && let Some((id, content)) = text.take()
        {
            draft.push(id, EventBody::AgentMessage(ContentOnly { content }));
        }
        match block.r#type.as_str() {
            "text" => {
                let content = ContentBlock::text(block.text.unwrap_or_default());
                match &mut text {
                    Some((_, blocks)) => blocks.push(content),
                    None => text = Some((id.unwrap_or_else(&mut *new_id), vec![content])),
                }
            }
            "thinking" | "redacted_thinking" => {
                draft.push(
                    id.unwrap_or_else(&mut *new_id),
                    EventBody::AgentThinking(Empty {}),
                );
            }
            "tool_use" => {
                let use_id = id.unwrap_or_else(&mut *new_id);
                let name = block.name.unwrap_or_default();
                let input = block.input.map_or_else(empty_object, ToOwned::to_owned);
                detail.tool_ids.push(block.id.unwrap_or_default());
                if let Some(tool) = facts.mcp_tool(&name) {
                    let grant = call::mcp_grant(&state.agent, tool);
                    if grant.kind == CallKind::Refused {
                        refused.push(EventBody::AgentMcpToolResult(McpToolResult {
                            mcp_tool_use_id: use_id.clone(),
                            content: vec![ContentBlock::text(refusal_text(&name))],
                            is_error: Some(true),
                        }));
                    }
                    let body = EventBody::AgentMcpToolUse(McpToolUse {
                        mcp_server_name: tool.server.clone(),
                        name: tool.name.clone(),
                        input,
                        evaluated_permission: grant.permission,
                        evaluation: grant.evaluation,
                    });
                    let fingerprint = tool.fingerprint.clone();
                    draft.push_with(use_id, body, Detail::Mcp { fingerprint });
                    continue;
                }
                let grant = call::grant(&state.agent, state.placement, &name);
                let body = if grant.kind == CallKind::Custom {
                    EventBody::AgentCustomToolUse(CustomToolUse { name, input })
                } else {
                    if grant.kind == CallKind::Refused {
                        refused.push(EventBody::AgentToolResult(ToolResult {
                            tool_use_id: use_id.clone(),
                            content: vec![ContentBlock::text(refusal_text(&name))],
                            is_error: Some(true),
                        }));
                    }
                    EventBody::AgentToolUse(ToolUse {
                        name,
                        input,
                        evaluated_permission: grant.permission,
                        evaluation: grant.evaluation,
                    })
                };
                draft.push(use_id, body);
            }
            _ => {}
        }
    }
    if let Some((id, content)) = text {
        draft.push(id, EventBody::AgentMessage(ContentOnly { content }));
    }
    detail.content = reply.content;
    let end = ModelRequestEnd {
        model_request_start_id: request.clone(),
        is_error: Some(false),
        model_usage: reply.spent.usage,
    };
    draft.push_with(
        new_id(),
        EventBody::ModelRequestEnd(end),
        Detail::Reply(detail),
    );
    for result in refused {
        draft.push(new_id(), result);
    }
    draft
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The events of a finished compaction request.
pub fn compaction(request: &EventId, reply: &Reply, new_id: &mut dyn FnMut() -> EventId) -> Draft {
    let mut draft = Draft::default();
    let detail = ReplyDetail {
        cache_creation: reply.spent.cache_creation,
        cost: reply.spent.cost,
        ..ReplyDetail::default()
    };
    let end = ModelRequestEnd {
        model_request_start_id: request.clone(),
        is_error: Some(false),
        model_usage: reply.spent.usage,
    };
    draft.push_with(
        new_id(),
        EventBody::ModelRequestEnd(end),
        Detail::Reply(detail),
    );
    let summary = Detail::Compaction {
        summary: reply.text(),
    };
    draft.push_with(new_id(), EventBody::ContextCompacted(Empty {}), summary);
    draft
}

/// The end of a request that gave nothing: interrupted, cut off by a crash, or failed.
pub fn cut_off(
    request: &EventId,
    spent: Spent,
    context_exceeded: bool,
    new_id: &mut dyn FnMut() -> EventId,
) -> Draft {
    let mut draft = Draft::default();
    let end = ModelRequestEnd {
        model_request_start_id: request.clone(),
        is_error: Some(true),
        model_usage: spent.usage,
    };
    let detail = ReplyDetail {
        context_exceeded,
        cache_creation: spent.cache_creation,
        cost: spent.cost,
        ..ReplyDetail::default()
    };
    draft.push_with(
        new_id(),
        EventBody::ModelRequestEnd(end),
        Detail::Reply(detail),
    );
    draft
}

/// How retries are spaced.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Before the second attempt; doubles after it. Milliseconds.
    pub base_ms: u64,
    /// Never longer than this. Milliseconds.
    pub max_ms: u64,
    /// Attempts in all.
    pub attempts: u32,
}

impl Backoff {
    fn delay_ms(self, failed_before: u32, asked: Option<u64>) -> u64 {
        let doubled = self.base_ms.saturating_mul(1 << failed_before.min(20));
        asked.unwrap_or(0).max(doubled).min(self.max_ms)
    }
}

/// The events of a failed request: its end, the error, and either a pause before the next attempt
/// or the end of the turn.
pub fn failed(
    state: &State,
    request: &EventId,
    failure: &Failure,
    purpose: Purpose,
    backoff: Backoff,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) -> Draft {
    let mut draft = cut_off(request, failure.spent, failure.context_exceeded, new_id);
    if failure.context_exceeded && purpose == Purpose::Turn {
        return draft; // A compaction follows.
    }
    let retry = failure.retryable && state.attempts + 1 < backoff.attempts;
    let error = SessionError::new(
        // Nothing is shorter than a compaction: what does not fit it fits nothing.
        if failure.context_exceeded {
            SessionErrorKind::CompactionLimitReached
        } else {
            failure.kind
        },
        failure.message.clone(),
        if retry {
            RetryStatus::Retrying
        } else {
            RetryStatus::Exhausted
        },
    );
    draft.push(new_id(), EventBody::Error(SessionErrorEvent { error }));
    if retry {
        let after_ms = backoff.delay_ms(state.attempts, failure.retry_after_ms);
        draft.push_with(
            new_id(),
            EventBody::StatusRescheduled(Empty {}),
            Detail::Retry { after_ms },
        );
        draft.push(
            new_id(),
            EventBody::ThreadRescheduled(ThreadStatus {
                session_thread_id: state.thread.clone(),
                agent_name: state.agent.name.clone(),
            }),
        );
        draft.status = Some(Status::Rescheduling);
    } else {
        steps::give_up(state, &mut draft, view, new_id);
    }
    draft
}
