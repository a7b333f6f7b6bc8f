//! Session events (contract 40). [`EventBody`] holds what is particular to each type; `id` and
//! `processed_at` are added around it when it is written out.

mod blocks;
mod deltas;
mod outcome;
pub mod params;

pub use outcome::{DefineOutcome, Rubric};
pub use params::{Deltas, EventParams, SendEvents, event_deltas};

use freehold_base::{CredentialId, EventId, ThreadId, Timestamp, VaultId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::agent::{Metadata, SessionAgent};
use crate::content::ContentBlock;
use crate::usage::{Budget, ModelUsage, SessionUsage};

/// A stored event's own fields, tagged by `type`. Types of features that come later are carried as
/// JSON by the store and are not listed here.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type")]
pub enum EventBody {
    /// A user's message.
    #[serde(rename = "user.message")]
    UserMessage(ContentOnly),
    /// Stop the turn.
    #[serde(rename = "user.interrupt")]
    UserInterrupt(UserInterrupt),
    /// Allow or deny a call.
    #[serde(rename = "user.tool_confirmation")]
    UserToolConfirmation(ToolConfirmation),
    /// Result of a custom tool.
    #[serde(rename = "user.custom_tool_result")]
    UserCustomToolResult(CustomToolResult),
    /// Result of a built-in tool run by a self-hosted worker.
    #[serde(rename = "user.tool_result")]
    UserToolResult(ToolResult),
    /// A system-role turn.
    #[serde(rename = "system.message")]
    SystemMessage(ContentOnly),
    /// The agent's text.
    #[serde(rename = "agent.message")]
    AgentMessage(ContentOnly),
    /// The agent is thinking.
    #[serde(rename = "agent.thinking")]
    AgentThinking(Empty),
    /// A call of a built-in tool.
    #[serde(rename = "agent.tool_use")]
    AgentToolUse(ToolUse),
    /// Its result, from the server.
    #[serde(rename = "agent.tool_result")]
    AgentToolResult(ToolResult),
    /// A call of an MCP server's tool.
    #[serde(rename = "agent.mcp_tool_use")]
    AgentMcpToolUse(McpToolUse),
    /// Its result.
    #[serde(rename = "agent.mcp_tool_result")]
    AgentMcpToolResult(McpToolResult),
    /// A call of a custom tool.
    #[serde(rename = "agent.custom_tool_use")]
    AgentCustomToolUse(CustomToolUse),
    /// The context was summarised.
    #[serde(rename = "agent.thread_context_compacted")]
    ContextCompacted(Empty),
    /// A turn starts or resumes.
    #[serde(rename = "session.status_running")]
    StatusRunning(Empty),
    /// A turn ended or waits for a client.
    #[serde(rename = "session.status_idle")]
    StatusIdle(Idle),
    /// A model request will be retried.
    #[serde(rename = "session.status_rescheduled")]
    StatusRescheduled(Empty),
    /// Over for good.
    #[serde(rename = "session.status_terminated")]
    StatusTerminated(Empty),
    /// Something failed.
    #[serde(rename = "session.error")]
    Error(SessionErrorEvent),
    /// A field of the session changed.
    #[serde(rename = "session.updated")]
    Updated(Box<SessionUpdated>),
    /// Usage so far; directly before each idle.
    #[serde(rename = "session.usage")]
    Usage(UsageEvent),
    /// The session was deleted; never stored.
    #[serde(rename = "session.deleted")]
    Deleted(Empty),
    /// A thread runs.
    #[serde(rename = "session.thread_status_running")]
    ThreadRunning(ThreadStatus),
    /// A thread idles.
    #[serde(rename = "session.thread_status_idle")]
    ThreadIdle(ThreadIdle),
    /// A thread retries.
    #[serde(rename = "session.thread_status_rescheduled")]
    ThreadRescheduled(ThreadStatus),
    /// A thread is over.
    #[serde(rename = "session.thread_status_terminated")]
    ThreadTerminated(ThreadStatus),
    /// A model request starts.
    #[serde(rename = "span.model_request_start")]
    ModelRequestStart(Empty),
    /// A model request ended.
    #[serde(rename = "span.model_request_end")]
    ModelRequestEnd(ModelRequestEnd),
}

/// No fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// `content` only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContentOnly {
    /// The blocks.
    pub content: Vec<ContentBlock>,
}

/// `user.interrupt`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserInterrupt {
    /// Only this thread; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_thread_id: Option<ThreadId>,
}

/// `user.tool_confirmation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolConfirmation {
    /// The use event.
    pub tool_use_id: EventId,
    /// Allow or deny.
    pub result: Verdict,
    /// Told to the agent; with deny only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deny_message: Option<String>,
}

/// Allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Run it.
    Allow,
    /// Do not.
    Deny,
}

/// `user.custom_tool_result`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomToolResult {
    /// The use event.
    pub custom_tool_use_id: EventId,
    /// The blocks.
    #[serde(default)]
    pub content: Vec<ContentBlock>,
    /// Whether the tool failed.
    #[serde(default)]
    pub is_error: Option<bool>,
}

/// `user.tool_result` and `agent.tool_result`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The use event.
    pub tool_use_id: EventId,
    /// The blocks.
    #[serde(default)]
    pub content: Vec<ContentBlock>,
    /// Whether the tool failed.
    #[serde(default)]
    pub is_error: Option<bool>,
}

/// What was decided about a call before it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Runs.
    Allow,
    /// Waits for a confirmation.
    Ask,
    /// Never runs.
    Deny,
}

/// Which policy decided; absent when the server refused before any policy applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Evaluation {
    /// Pairs with allow.
    AlwaysAllow,
    /// Pairs with ask.
    AlwaysAsk,
    /// The server judged.
    Auto {
        /// Its judgement.
        evaluated_permission: AutoPermission,
    },
}

/// A judgement of the `auto` policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AutoPermission {
    /// Safe.
    Allow,
    /// No judgement.
    Ask {
        /// Always `indeterminate`.
        reason_code: Reason,
    },
    /// Refused.
    Deny {
        /// Why.
        reason_code: Reason,
    },
}

/// Why `auto` asked or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Judged dangerous.
    HighRisk,
    /// Could not be judged.
    Indeterminate,
}

/// `agent.tool_use`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolUse {
    /// The tool.
    pub name: String,
    /// Its input, as the model wrote it.
    pub input: Box<RawValue>,
    /// The decision.
    pub evaluated_permission: Permission,
    /// The policy behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
}

/// `agent.custom_tool_use`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CustomToolUse {
    /// The tool.
    pub name: String,
    /// Its input, as the model wrote it.
    pub input: Box<RawValue>,
}

/// `agent.mcp_tool_use` (contract 62, "Events").
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct McpToolUse {
    /// The agent's name of the server.
    pub mcp_server_name: String,
    /// The server's name of the tool.
    pub name: String,
    /// Its input, as the model wrote it.
    pub input: Box<RawValue>,
    /// The decision.
    pub evaluated_permission: Permission,
    /// The policy behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
}

/// `agent.mcp_tool_result` (contract 62, "Events").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct McpToolResult {
    /// The use event.
    pub mcp_tool_use_id: EventId,
    /// The blocks.
    #[serde(default)]
    pub content: Vec<ContentBlock>,
    /// Whether the tool failed.
    #[serde(default)]
    pub is_error: Option<bool>,
}

/// Why a session or thread is idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StopReason {
    /// The turn is done.
    EndTurn,
    /// Waits for the named use events.
    RequiresAction {
        /// Ids of the blocking use events.
        event_ids: Vec<EventId>,
    },
    /// The turn failed.
    RetriesExhausted,
    /// The budget is spent.
    BudgetReached,
    /// The model refused.
    Refusal,
}

/// Details of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopDetails {
    /// Always `refusal`.
    pub r#type: RefusalTag,
    /// The provider's category.
    pub category: Option<String>,
    /// The provider's words.
    pub explanation: Option<String>,
}

/// The constant `refusal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalTag {
    /// `refusal`.
    #[default]
    Refusal,
}

/// `session.status_idle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// Why.
    pub stop_reason: StopReason,
    /// Always present, null but for refusals.
    pub stop_details: Option<StopDetails>,
}

/// `session.thread_status_*` but idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStatus {
    /// The thread.
    pub session_thread_id: ThreadId,
    /// Its agent's name.
    pub agent_name: String,
}

/// `session.thread_status_idle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadIdle {
    /// The thread.
    pub session_thread_id: ThreadId,
    /// Its agent's name.
    pub agent_name: String,
    /// Why.
    pub stop_reason: StopReason,
    /// Always present.
    pub stop_details: Option<StopDetails>,
}

/// `session.error`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionErrorEvent {
    /// The error.
    pub error: SessionError,
}

/// What failed and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionError {
    /// The kind.
    pub r#type: SessionErrorKind,
    /// For people.
    pub message: String,
    /// What follows.
    pub retry_status: RetryStatus,
    /// The credential of a `credential_host_unreachable_error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_id: Option<CredentialId>,
    /// Its vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_id: Option<VaultId>,
    /// The server of an `mcp_…_error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_server_name: Option<String>,
}

impl SessionError {
    /// An error that is about nothing but itself.
    pub const fn new(r#type: SessionErrorKind, message: String, retry_status: RetryStatus) -> Self {
        Self {
            r#type,
            message,
            retry_status,
            credential_id: None,
            vault_id: None,
            mcp_server_name: None,
        }
    }
}

/// Kinds of session errors this version raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionErrorKind {
    /// Fallback.
    #[serde(rename = "unknown_error")]
    Unknown,
    /// The model provider is overloaded.
    #[serde(rename = "model_overloaded_error")]
    ModelOverloaded,
    /// The model provider limits us.
    #[serde(rename = "model_rate_limited_error")]
    ModelRateLimited,
    /// Any other model failure.
    #[serde(rename = "model_request_failed_error")]
    ModelRequestFailed,
    /// No credit at the provider.
    #[serde(rename = "billing_error")]
    Billing,
    /// A credential is for a host that the environment does not let the sandbox reach.
    #[serde(rename = "credential_host_unreachable_error")]
    CredentialHostUnreachable,
    /// An MCP server cannot be reached, or does not speak MCP.
    #[serde(rename = "mcp_connection_failed_error")]
    McpConnectionFailed,
    /// An MCP server does not take the credential, or wants one and there is none.
    #[serde(rename = "mcp_authentication_failed_error")]
    McpAuthenticationFailed,
    /// Too many rounds of tool calls in one turn.
    #[serde(rename = "tool_use_limit_reached_error")]
    ToolUseLimitReached,
    /// Too many compactions in a row.
    #[serde(rename = "compaction_limit_reached_error")]
    CompactionLimitReached,
}

/// What follows an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RetryStatus {
    /// The server tries again.
    Retrying,
    /// The turn is dead, the session idle.
    Exhausted,
    /// The session is terminated.
    Terminal,
}

/// `session.updated`: only the fields that changed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SessionUpdated {
    /// The full snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<SessionAgent>,
    /// The full bag; absent if unchanged or emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    /// The title; `Some(None)` writes null, for a cleared one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_or_null"
    )]
    pub title: Option<Option<String>>,
    /// The budget; `Some(None)` writes null, for a removed one.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present_or_null"
    )]
    pub budget: Option<Option<Budget>>,
}

fn present_or_null<'de, T: Deserialize<'de>, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(d).map(Some)
}

/// `session.usage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageEvent {
    /// Cumulative snapshot.
    pub usage: SessionUsage,
    /// The budget, or null.
    pub budget: Option<Budget>,
}

/// `span.model_request_end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRequestEnd {
    /// The start event.
    pub model_request_start_id: EventId,
    /// Whether the request failed or was cut off.
    pub is_error: Option<bool>,
    /// What it used; zeros when unknown.
    pub model_usage: ModelUsage,
}

impl EventBody {
    /// The `type` on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UserMessage(_) => "user.message",
            Self::UserInterrupt(_) => "user.interrupt",
            Self::UserToolConfirmation(_) => "user.tool_confirmation",
            Self::UserCustomToolResult(_) => "user.custom_tool_result",
            Self::UserToolResult(_) => "user.tool_result",
            Self::SystemMessage(_) => "system.message",
            Self::AgentMessage(_) => "agent.message",
            Self::AgentThinking(_) => "agent.thinking",
            Self::AgentToolUse(_) => "agent.tool_use",
            Self::AgentToolResult(_) => "agent.tool_result",
            Self::AgentMcpToolUse(_) => "agent.mcp_tool_use",
            Self::AgentMcpToolResult(_) => "agent.mcp_tool_result",
            Self::AgentCustomToolUse(_) => "agent.custom_tool_use",
            Self::ContextCompacted(_) => "agent.thread_context_compacted",
            Self::StatusRunning(_) => "session.status_running",
            Self::StatusIdle(_) => "session.status_idle",
            Self::StatusRescheduled(_) => "session.status_rescheduled",
            Self::StatusTerminated(_) => "session.status_terminated",
            Self::Error(_) => "session.error",
            Self::Updated(_) => "session.updated",
            Self::Usage(_) => "session.usage",
            Self::Deleted(_) => "session.deleted",
            Self::ThreadRunning(_) => "session.thread_status_running",
            Self::ThreadIdle(_) => "session.thread_status_idle",
            Self::ThreadRescheduled(_) => "session.thread_status_rescheduled",
            Self::ThreadTerminated(_) => "session.thread_status_terminated",
            Self::ModelRequestStart(_) => "span.model_request_start",
            Self::ModelRequestEnd(_) => "span.model_request_end",
        }
    }

    /// Reads a stored payload of the given `type`; `None` for a type this version does not know.
    ///
    /// # Errors
    /// The payload is not what its type says.
    pub fn parse(kind: &str, payload: &str) -> serde_json::Result<Option<Self>> {
        // By hand rather than by serde's tag, which would buffer the event and lose raw input.
        fn from<'a, T: Deserialize<'a>>(payload: &'a str) -> serde_json::Result<T> {
            serde_json::from_str(payload)
        }
        Ok(Some(match kind {
            "user.message" => Self::UserMessage(from(payload)?),
            "user.interrupt" => Self::UserInterrupt(from(payload)?),
            "user.tool_confirmation" => Self::UserToolConfirmation(from(payload)?),
            "user.custom_tool_result" => Self::UserCustomToolResult(from(payload)?),
            "user.tool_result" => Self::UserToolResult(from(payload)?),
            "system.message" => Self::SystemMessage(from(payload)?),
            "agent.message" => Self::AgentMessage(from(payload)?),
            "agent.thinking" => Self::AgentThinking(from(payload)?),
            "agent.tool_use" => Self::AgentToolUse(from(payload)?),
            "agent.tool_result" => Self::AgentToolResult(from(payload)?),
            "agent.mcp_tool_use" => Self::AgentMcpToolUse(from(payload)?),
            "agent.mcp_tool_result" => Self::AgentMcpToolResult(from(payload)?),
            "agent.custom_tool_use" => Self::AgentCustomToolUse(from(payload)?),
            "agent.thread_context_compacted" => Self::ContextCompacted(from(payload)?),
            "session.status_running" => Self::StatusRunning(from(payload)?),
            "session.status_idle" => Self::StatusIdle(from(payload)?),
            "session.status_rescheduled" => Self::StatusRescheduled(from(payload)?),
            "session.status_terminated" => Self::StatusTerminated(from(payload)?),
            "session.error" => Self::Error(from(payload)?),
            "session.updated" => Self::Updated(Box::new(from(payload)?)),
            "session.usage" => Self::Usage(from(payload)?),
            "session.deleted" => Self::Deleted(from(payload)?),
            "session.thread_status_running" => Self::ThreadRunning(from(payload)?),
            "session.thread_status_idle" => Self::ThreadIdle(from(payload)?),
            "session.thread_status_rescheduled" => Self::ThreadRescheduled(from(payload)?),
            "session.thread_status_terminated" => Self::ThreadTerminated(from(payload)?),
            "span.model_request_start" => Self::ModelRequestStart(from(payload)?),
            "span.model_request_end" => Self::ModelRequestEnd(from(payload)?),
            _ => return Ok(None),
        }))
    }

    /// The event this one answers or refers to, as the store indexes it.
    pub fn ref_id(&self) -> Option<&EventId> {
        match self {
            Self::UserToolConfirmation(c) => Some(&c.tool_use_id),
            Self::UserCustomToolResult(r) => Some(&r.custom_tool_use_id),
            Self::UserToolResult(r) | Self::AgentToolResult(r) => Some(&r.tool_use_id),
            Self::AgentMcpToolResult(r) => Some(&r.mcp_tool_use_id),
            Self::ModelRequestEnd(e) => Some(&e.model_request_start_id),
            _ => None,
        }
    }

    /// The stored form: `{"id":…,"type":…,…}`, without `processed_at`.
    pub fn payload(&self, id: &EventId) -> String {
        // Serialising our own closed types to a string cannot fail.
        let body = serde_json::to_string(self).unwrap_or_default();
        let rest = body.strip_prefix('{').unwrap_or_default();
        format!("{{\"id\":\"{id}\",{rest}")
    }
}

/// Every `type` the list endpoint can filter by (contract 40, "`types[]` filter enum").
pub const FILTERABLE: [&str; 41] = [
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "user.tool_result",
    "user.define_outcome",
    "system.message",
    "agent.message",
    "agent.thinking",
    "agent.tool_use",
    "agent.tool_result",
    "agent.mcp_tool_use",
    "agent.mcp_tool_result",
    "agent.custom_tool_use",
    "agent.thread_message_received",
    "agent.thread_message_sent",
    "agent.thread_context_compacted",
    "session.error",
    "session.status_running",
    "session.status_idle",
    "session.status_rescheduled",
    "session.status_terminated",
    "session.thread_created",
    "session.thread_status_running",
    "session.thread_status_idle",
    "session.thread_status_rescheduled",
    "session.thread_status_terminated",
    "session.updated",
    "session.usage",
    "span.model_request_start",
    "span.model_request_end",
    "span.outcome_evaluation_start",
    "span.outcome_evaluation_ongoing",
    "span.outcome_evaluation_end",
    "workflow_run.created",
    "workflow_run.status_running",
    "workflow_run.status_idle",
    "workflow_run.status_ended",
    "workflow_run.error",
    "workflow_run.phase_started",
    "workflow_run.phase_ended",
];

/// A stored payload with `processed_at` put in: the event as clients see it. `None` is null, for
/// input that waits in the inbox.
pub fn with_processed_at(payload: &str, processed_at: Option<Timestamp>) -> String {
    let head = payload.strip_suffix('}').unwrap_or(payload);
    match processed_at {
        Some(t) => format!("{head},\"processed_at\":\"{t}\"}}"),
        None => format!("{head},\"processed_at\":null}}"),
    }
}

/// `session.deleted` as sent on streams; it has an id of its own and is stored nowhere.
pub fn session_deleted(id: &EventId, at: Timestamp) -> String {
    with_processed_at(&EventBody::Deleted(Empty {}).payload(id), Some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_carries_id_type_and_time() {
        let id: EventId = "sevt_1".parse().unwrap();
        let body = EventBody::AgentMessage(ContentOnly {
            content: vec![ContentBlock::text("hi")],
        });
        let json = with_processed_at(&body.payload(&id), Some(Timestamp::from_micros(0)));
        assert_eq!(
            json,
            r#"{"id":"sevt_1","type":"agent.message","content":[{"type":"text","text":"hi"}],"processed_at":"1970-01-01T00:00:00.000000Z"}"#
        );
        let empty = EventBody::StatusRunning(Empty {});
        assert_eq!(
            with_processed_at(&empty.payload(&id), None),
            r#"{"id":"sevt_1","type":"session.status_running","processed_at":null}"#
        );
        let back = EventBody::parse("agent.message", &json).unwrap().unwrap();
        assert_eq!(back.kind(), "agent.message");
        assert!(EventBody::parse("future.event", &json).unwrap().is_none());
    }

    #[test]
    fn input_keeps_its_text() {
        let id: EventId = "sevt_1".parse().unwrap();
        let raw = r#"{"b":1.0,"a":[1e2]}"#;
        let body = EventBody::AgentToolUse(ToolUse {
            name: "bash".into(),
            input: RawValue::from_string(raw.into()).unwrap(),
            evaluated_permission: Permission::Allow,
            evaluation: Some(Evaluation::AlwaysAllow),
        });
        let payload = body.payload(&id);
        assert!(payload.contains(raw));
        let Some(EventBody::AgentToolUse(back)) =
            EventBody::parse("agent.tool_use", &payload).unwrap()
        else {
            panic!("not a tool use")
        };
        assert_eq!(back.input.get(), raw);
    }
}
