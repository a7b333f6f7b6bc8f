//! A tool call of the open round, from the model's request to its one result.

use freehold_base::EventId;
use freehold_wire::agent::SessionAgent;
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{
    AutoPermission, Evaluation, EventBody, McpToolResult, Permission, Reason, ToolResult, Verdict,
};
use freehold_wire::tool::{BuiltinTool, PermissionPolicy, Tool};
use serde_json::value::RawValue;

use crate::mcp::{self, McpTool};
use crate::state::Placement;

/// Who answers a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// The server, in the session's sandbox or with its web tools.
    Server(BuiltinTool),
    /// A self-hosted worker, with `user.tool_result`.
    Worker(BuiltinTool),
    /// An MCP server, called by the server; which and what is in [`Call::mcp`].
    Mcp,
    /// The client, with `user.custom_tool_result`.
    Custom,
    /// Nobody: the tool is not enabled, or does not exist.
    Refused,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Id of the use event.
    pub use_id: EventId,
    /// Id of the model's `tool_use` block.
    pub model_id: String,
    /// Tool name as the model wrote it.
    pub name: String,
    /// Input as the model wrote it.
    pub input: Box<RawValue>,
    /// Of a call of an MCP tool: which.
    pub mcp: Option<McpTarget>,
    /// Who answers.
    pub kind: CallKind,
    /// Decided when the model asked.
    pub permission: Permission,
    /// The confirmation, once given.
    pub verdict: Option<(Verdict, Option<String>)>,
    /// Lease epoch in which the call became free to run. A call found unanswered in a later epoch
    /// may have been running when its driver died.
    pub runnable_epoch: i64,
    /// The result, once known.
    pub result: Option<CallResult>,
}

/// What a call of an MCP tool is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpTarget {
    /// The agent's name of the server.
    pub server: String,
    /// The server's name of the tool.
    pub tool: String,
    /// Of the definition the model saw; empty if that is not known, which no definition has.
    pub fingerprint: String,
}

/// A call's result.
#[derive(Debug, Clone)]
pub struct CallResult {
    /// Its blocks.
    pub content: Vec<ContentBlock>,
    /// Whether it failed.
    pub is_error: bool,
}

impl Call {
    /// Whether nothing holds the call back any more.
    pub fn is_released(&self) -> bool {
        match self.permission {
            Permission::Allow => true,
            Permission::Ask => matches!(self.verdict, Some((Verdict::Allow, _))),
            Permission::Deny => false,
        }
    }
    /// Whether the server must run it now.
    pub fn is_runnable(&self) -> bool {
        self.result.is_none()
            && self.is_released()
            && matches!(self.kind, CallKind::Server(_) | CallKind::Mcp)
    }
    /// The server's answer, as the event of its kind.
    pub fn answer(&self, content: Vec<ContentBlock>, is_error: bool) -> EventBody {
        let (id, is_error) = (self.use_id.clone(), Some(is_error));
        match self.mcp {
            Some(_) => EventBody::AgentMcpToolResult(McpToolResult {
                mcp_tool_use_id: id,
                content,
                is_error,
            }),
            None => EventBody::AgentToolResult(ToolResult {
                tool_use_id: id,
                content,
                is_error,
            }),
        }
    }
    /// Whether a confirmation refused it and the agent has not been told yet.
    pub fn is_denied(&self) -> bool {
        self.result.is_none() && matches!(self.verdict, Some((Verdict::Deny, _)))
    }
    /// Whether the session waits for a client because of it.
    pub fn awaits_client(&self) -> bool {
        if self.result.is_some() || self.is_denied() {
            return false;
        }
        !self.is_released() || matches!(self.kind, CallKind::Worker(_) | CallKind::Custom)
    }
}

/// What an agent's configuration says of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Who answers.
    pub kind: CallKind,
    /// Whether it may run.
    pub permission: Permission,
    /// The policy behind it; absent when none applied.
    pub evaluation: Option<Evaluation>,
}

/// Judges a call by name against the agent's tools (contract 45, "Permission flow").
pub fn grant(agent: &SessionAgent, placement: Placement, name: &str) -> Grant {
    let refused = Grant {
        kind: CallKind::Refused,
        permission: Permission::Deny,
        evaluation: None,
    };
    if agent
        .tools
        .iter()
        .any(|t| matches!(t, Tool::Custom(c) if c.name == name))
    {
        return Grant {
            kind: CallKind::Custom,
            permission: Permission::Allow,
            evaluation: None,
        };
    }
    let Some(tool) = BuiltinTool::from_name(name) else {
        return refused;
    };
    let Some(policy) = policy(agent, tool) else {
        return refused;
    };
    let kind = match placement {
        Placement::SelfHosted if !tool.is_server_side() => CallKind::Worker(tool),
        _ => CallKind::Server(tool),
    };
    judged(kind, policy)
}

/// What the agent's policy says of a call of an MCP tool that the model was shown.
pub(crate) fn mcp_grant(agent: &SessionAgent, tool: &McpTool) -> Grant {
    match mcp::policy(agent, &tool.server, &tool.name) {
        None => Grant {
            kind: CallKind::Refused,
            permission: Permission::Deny,
            evaluation: None,
        },
        Some(PermissionPolicy::AlwaysAllow) if tool.ask => {
            judged(CallKind::Mcp, PermissionPolicy::AlwaysAsk)
        }
        Some(policy) => judged(CallKind::Mcp, policy),
    }
}

fn judged(kind: CallKind, policy: PermissionPolicy) -> Grant {
    let (permission, evaluation) = match policy {
        PermissionPolicy::AlwaysAllow => (Permission::Allow, Evaluation::AlwaysAllow),
        PermissionPolicy::AlwaysAsk => (Permission::Ask, Evaluation::AlwaysAsk),
        // There is no judge yet, so nothing can be found safe: the contract's `indeterminate`.
        PermissionPolicy::Auto => (
            Permission::Ask,
            Evaluation::Auto {
                evaluated_permission: AutoPermission::Ask {
                    reason_code: Reason::Indeterminate,
                },
            },
        ),
    };
    Grant {
        kind,
        permission,
        evaluation: Some(evaluation),
    }
}

/// The policy of a built-in tool, or `None` if the agent has it not enabled.
pub fn policy(agent: &SessionAgent, tool: BuiltinTool) -> Option<PermissionPolicy> {
    agent.tools.iter().find_map(|t| match t {
        Tool::AgentToolset(set) => set.policy(tool),
        _ => None,
    })
}
