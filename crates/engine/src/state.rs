//! What the events of a session add up to.

use std::sync::Arc;

use freehold_base::{CredentialId, EventId, ThreadId, Timestamp};
use freehold_wire::agent::SessionAgent;
use freehold_wire::event::{
    EventBody, Permission, RetryStatus, SessionError, StopDetails, StopReason,
};
use freehold_wire::resource::MemoryStoreResource;
use freehold_wire::session::Status;
use freehold_wire::tool::BuiltinTool;
use freehold_wire::usage::Budget;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::{self, Call, CallKind, CallResult, McpTarget};
use crate::conversation::{Conversation, Entry};
use crate::draft::{Detail, ReplyDetail};
use crate::summary::Summary;

/// Who runs the sandbox tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// The server.
    Cloud,
    /// A worker of the customer's.
    SelfHosted,
}

/// A skill the agent may use: what the model is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillNote {
    /// Names its folder.
    pub name: String,
    /// What it is for.
    pub description: String,
}

/// One event as the fold sees it.
#[derive(Debug, Clone, Copy)]
pub struct Folded<'a> {
    /// Lease epoch of its writer, 0 for external ones.
    pub epoch: i64,
    /// Its id.
    pub id: &'a EventId,
    /// Its body.
    pub body: &'a EventBody,
    /// Its server-private part.
    pub detail: Option<&'a Detail>,
    /// When it was processed.
    pub at: Timestamp,
}

/// The fold of a session's events.
#[derive(Debug, Clone)]
pub struct State {
    /// The primary thread.
    pub thread: ThreadId,
    /// The configuration in force.
    pub agent: Arc<SessionAgent>,
    /// Who runs the sandbox tools.
    pub placement: Placement,
    /// The skills the session was made with.
    pub skills: Arc<[SkillNote]>,
    /// The budget in force.
    pub budget: Option<Budget>,
    /// Memory stores that are attached; they stay the same.
    pub memory: Vec<MemoryStoreResource>,
    /// Status by the last `session.status_*` event.
    pub status: Status,
    /// The model's context.
    pub conversation: Conversation,
    /// Calls of the open round, in the model's order; empty between rounds.
    pub calls: Vec<Call>,
    /// A model request without an end.
    pub open_request: Option<EventId>,
    /// The model must speak next.
    pub owes_reply: bool,
    /// Ids the last idle said it waits for.
    pub blocked_on: Vec<EventId>,
    /// The last idle was for the budget.
    pub out_of_budget: bool,
    /// Rounds of calls in this turn.
    pub rounds: u32,
    /// Failed attempts at the request that is owed.
    pub attempts: u32,
    /// When the last event entered the log.
    pub latest: Timestamp,
    /// When the next attempt may start.
    pub retry_at: Option<Timestamp>,
    /// Compactions since the model last answered.
    pub compactions: u32,
    /// The provider said that the context does not fit.
    pub context_exceeded: bool,
    /// Tokens of the context as the model last reported them.
    pub context_tokens: u64,
    /// Credentials whose hosts were reported as out of reach; each is reported once.
    pub unreachable: Vec<CredentialId>,
    /// How the turn ends if the model's last answer ended it.
    pub ending: (StopReason, Option<StopDetails>),
    /// Totals.
    pub summary: Summary,
}

impl State {
    /// The state before any event.
    pub fn new(
        thread: ThreadId,
        agent: SessionAgent,
        placement: Placement,
        budget: Option<Budget>,
    ) -> Self {
        Self {
            thread,
            agent: Arc::new(agent),
            placement,
            skills: Arc::default(),
            budget,
            memory: Vec::new(),
            status: Status::Idle,
            conversation: Conversation::default(),
            calls: Vec::new(),
            open_request: None,
            owes_reply: false,
            blocked_on: Vec::new(),
            out_of_budget: false,
            rounds: 0,
            attempts: 0,
            latest: Timestamp::default(),
            retry_at: None,
            compactions: 0,
            context_exceeded: false,
            context_tokens: 0,
            unreachable: Vec::new(),
            ending: (StopReason::EndTurn, None),
            summary: Summary::default(),
        }
    }

    /// The same with skills.
    pub fn with_skills(self, skills: Vec<SkillNote>) -> Self {
        Self {
            skills: skills.into(),
            ..self
        }
    }

    /// The same with memory stores attached.
    #[must_use]
    pub fn with_memory(mut self, memory: Vec<MemoryStoreResource>) -> Self {
        self.memory = memory;
        self
    }

    /// The call of this use event, if it is in the open round.
    pub fn call(&self, use_id: &EventId) -> Option<&Call> {
        self.calls.iter().find(|c| c.use_id == *use_id)
    }

    /// Takes in one event. A pure left fold: the same events give the same state, whoever wrote
    /// them and in however many appends.
    pub fn fold(&mut self, event: Folded<'_>) {
        self.latest = self.latest.max(event.at);
        match event.body {
            EventBody::UserMessage(m) => {
                self.conversation.push(Entry::User(m.content.clone()));
                self.start_turn();
            }
            EventBody::SystemMessage(m) => {
                self.conversation.push(Entry::System(m.content.clone()));
            }
            EventBody::AgentToolUse(u) => {
                let grant = call::grant(&self.agent, self.placement, &u.name);
                // The event is the truth about permission; the configuration may have changed.
                let kind = match (u.evaluated_permission, grant.kind) {
                    (Permission::Deny, _) => CallKind::Refused,
                    (_, CallKind::Refused | CallKind::Custom) => {
                        match BuiltinTool::from_name(&u.name) {
                            Some(t) if self.is_worker_tool(t) => CallKind::Worker(t),
                            Some(t) => CallKind::Server(t),
                            None => CallKind::Refused,
                        }
                    }
                    (_, kind) => kind,
                };
                self.calls.push(Call {
                    use_id: event.id.clone(),
                    model_id: String::new(),
                    name: u.name.clone(),
                    input: u.input.clone(),
                    mcp: None,
                    kind,
                    permission: u.evaluated_permission,
                    verdict: None,
                    runnable_epoch: event.epoch,
                    result: None,
                });
            }
            EventBody::AgentMcpToolUse(u) => {
                let fingerprint = match event.detail {
                    Some(Detail::Mcp { fingerprint }) => fingerprint.clone(),
                    _ => String::new(),
                };
                self.calls.push(Call {
                    use_id: event.id.clone(),
                    model_id: String::new(),
                    name: u.name.clone(),
                    input: u.input.clone(),
                    mcp: Some(McpTarget {
                        server: u.mcp_server_name.clone(),
                        tool: u.name.clone(),
                        fingerprint,
                    }),
                    kind: match u.evaluated_permission {
                        Permission::Deny => CallKind::Refused,
                        _ => CallKind::Mcp,
                    },
                    permission: u.evaluated_permission,
                    verdict: None,
                    runnable_epoch: event.epoch,
                    result: None,
                });
            }
            EventBody::AgentCustomToolUse(u) => self.calls.push(Call {
                use_id: event.id.clone(),
                model_id: String::new(),
                name: u.name.clone(),
                input: u.input.clone(),
                mcp: None,
                kind: CallKind::Custom,
                permission: Permission::Allow,
                verdict: None,
                runnable_epoch: event.epoch,
                result: None,
            }),
            EventBody::UserToolConfirmation(c) => {
                let epoch = event.epoch;
                if let Some(call) = self.call_mut(&c.tool_use_id)
                    && call.verdict.is_none()
                {
                    call.verdict = Some((c.result, c.deny_message.clone()));
                    call.runnable_epoch = epoch;
                }
            }
            EventBody::AgentToolResult(r) | EventBody::UserToolResult(r) => {
                let is_error = r.is_error.unwrap_or(false);
                if let Some(call) = self.call(&r.tool_use_id)
                    && call.kind == CallKind::Server(BuiltinTool::WebSearch)
                    && !is_error
                {
                    self.summary.web_searches += 1;
                }
                self.answer(
                    &r.tool_use_id,
                    CallResult {
                        content: r.content.clone(),
                        is_error,
                    },
                );
            }
            EventBody::AgentMcpToolResult(r) => {
                let is_error = r.is_error.unwrap_or(false);
                let result = CallResult {
                    content: r.content.clone(),
                    is_error,
                };
                self.answer(&r.mcp_tool_use_id, result);
            }
            EventBody::UserCustomToolResult(r) => {
                let is_error = r.is_error.unwrap_or(false);
                let result = CallResult {
                    content: r.content.clone(),
                    is_error,
                };
                self.answer(&r.custom_tool_use_id, result);
            }
            EventBody::ModelRequestStart(_) => self.open_request = Some(event.id.clone()),
            EventBody::ModelRequestEnd(end) => {
                self.open_request = None;
                if let Some(Detail::Reply(reply)) = event.detail {
                    self.summary
                        .add_request(end.model_usage, reply.cache_creation, reply.cost);
                    self.take_reply(reply, end.is_error == Some(true));
                }
            }
            EventBody::ContextCompacted(_) => {
                if let Some(Detail::Compaction { summary }) = event.detail {
                    self.conversation.compact(summary.clone());
                    self.compactions += 1;
                    self.context_tokens = 0;
                    self.context_exceeded = false;
                }
            }
            EventBody::StatusRunning(_) => {
                self.status = Status::Running;
                self.blocked_on.clear();
                self.out_of_budget = false;
                self.retry_at = None;
                self.summary.start(event.at);
            }
            EventBody::StatusIdle(idle) => self.fold_idle(&idle.stop_reason, event.at),
            EventBody::StatusRescheduled(_) => {
                self.status = Status::Rescheduling;
                self.summary.stop(event.at);
                if let Some(Detail::Retry { after_ms }) = event.detail {
                    self.retry_at = Some(
                        event
                            .at
                            .plus_millis(i64::try_from(*after_ms).unwrap_or(i64::MAX)),
                    );
                }
            }
            EventBody::StatusTerminated(_) => {
                self.status = Status::Terminated;
                self.owes_reply = false;
                self.summary.stop(event.at);
            }
            EventBody::Error(e) => self.fold_error(&e.error),
            EventBody::Updated(u) => {
                if let Some(agent) = &u.agent {
                    self.agent = Arc::new(agent.clone());
                }
                if let Some(budget) = &u.budget {
                    self.budget.clone_from(budget);
                    self.out_of_budget = false;
                }
            }
            EventBody::UserInterrupt(_)
            | EventBody::AgentMessage(_)
            | EventBody::AgentThinking(_)
            | EventBody::Usage(_)
            | EventBody::Deleted(_)
            | EventBody::ThreadRunning(_)
            | EventBody::ThreadIdle(_)
            | EventBody::ThreadRescheduled(_)
            | EventBody::ThreadTerminated(_) => {}
        }
    }

    fn fold_error(&mut self, error: &SessionError) {
        match &error.credential_id {
            // Says nothing of the model: the session goes on.
            Some(credential) => self.unreachable.push(credential.clone()),
            None if error.mcp_server_name.is_some() => {}
            None if error.retry_status == RetryStatus::Retrying => self.attempts += 1,
            None => {}
        }
    }

    /// Whether a worker outside runs this tool.
    fn is_worker_tool(&self, tool: BuiltinTool) -> bool {
        self.placement == Placement::SelfHosted && !tool.is_server_side()
    }

    fn start_turn(&mut self) {
        self.owes_reply = true;
        self.rounds = 0;
        self.attempts = 0;
        self.ending = (StopReason::EndTurn, None);
    }

    fn fold_idle(&mut self, reason: &StopReason, at: Timestamp) {
        self.status = Status::Idle;
        self.summary.stop(at);
        self.retry_at = None;
        self.blocked_on.clear();
        match reason {
            StopReason::RequiresAction { event_ids } => self.blocked_on.clone_from(event_ids),
            StopReason::BudgetReached => self.out_of_budget = true,
            StopReason::EndTurn | StopReason::RetriesExhausted | StopReason::Refusal => {
                self.owes_reply = false;
                self.rounds = 0;
                self.attempts = 0;
                self.compactions = 0;
                self.context_exceeded = false;
            }
        }
    }

    fn take_reply(&mut self, reply: &ReplyDetail, is_error: bool) {
        if is_error {
            self.context_exceeded |= reply.context_exceeded;
            return;
        }
        if reply.content.is_empty() && reply.stop_reason.is_none() {
            return; // A compaction: its own event follows.
        }
        for (call, id) in self.calls.iter_mut().zip(&reply.tool_ids) {
            call.model_id.clone_from(id);
        }
        let kept = reply.content.iter().filter(|block| !is_blank_text(block));
        let kept: Vec<_> = kept.cloned().collect();
        if !kept.is_empty() {
            self.conversation.push(Entry::Assistant(kept));
        }
        self.conversation.measured();
        self.context_tokens = reply.context_tokens;
        self.attempts = 0;
        self.compactions = 0;
        // A paused turn is continued by asking again with the same context.
        self.owes_reply = reply.stop_reason.as_deref() == Some("pause_turn");
        if !self.calls.is_empty() {
            self.rounds += 1;
        }
        if let Some((category, explanation)) = &reply.refusal {
            self.ending = (
                StopReason::Refusal,
                Some(StopDetails {
                    r#type: Default::default(),
                    category: category.clone(),
                    explanation: explanation.clone(),
                }),
            );
        }
        self.close_round();
    }

    fn call_mut(&mut self, use_id: &EventId) -> Option<&mut Call> {
        self.calls.iter_mut().find(|c| c.use_id == *use_id)
    }

    fn answer(&mut self, use_id: &EventId, result: CallResult) {
        if let Some(call) = self.call_mut(use_id)
            && call.result.is_none()
        {
            call.result = Some(result);
        }
        self.close_round();
    }

    /// Moves a fully answered round into the context. Not before the request's end has been
    /// folded: a refused call is answered in the same append, ahead of it.
    fn close_round(&mut self) {
        if self.open_request.is_none()
            && !self.calls.is_empty()
            && self.calls.iter().all(|c| c.result.is_some())
        {
            self.conversation
                .push(Entry::Results(std::mem::take(&mut self.calls)));
            self.owes_reply = true;
        }
    }

    /// Ids of the use events that a client must answer, in order.
    pub fn awaited(&self) -> Vec<EventId> {
        self.calls
            .iter()
            .filter(|c| c.awaits_client())
            .map(|c| c.use_id.clone())
            .collect()
    }
}

/// Providers send blank text blocks but refuse to get them back.
fn is_blank_text(block: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Text {
        r#type: String,
        text: String,
    }
    serde_json::from_str::<Text>(block.get())
        .is_ok_and(|b| b.r#type == "text" && b.text.trim().is_empty())
}
