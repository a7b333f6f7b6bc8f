//! Calls of MCP tools: what is asked once more before one goes out (contract 62, "Agents").

use freehold_base::{SessionId, chain};
use freehold_engine::call::McpTarget;
use freehold_engine::{Call, State, mcp};
use freehold_mcp::McpError;
use freehold_mcp::catalogue::{Fingerprint, Why, binding};
use freehold_wire::agent::SessionAgent;
use freehold_wire::event::EventBody;
use freehold_wire::tool::McpUrlServer;
use tokio_util::sync::CancellationToken;

use super::session::{Ground, authenticated, list, servers};
use super::{Judged, Verdict};
use crate::executor::ToolReply;
use crate::load::LoadError;
use crate::runtime::Shared;

/// What a call that was stopped says (contract 40, "Interrupt").
const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";

/// Makes a call. Every failure is a reply that the model can read.
pub(crate) async fn call(
    shared: &Shared,
    session: &SessionId,
    agent: &SessionAgent,
    call: &Call,
    cancel: CancellationToken,
) -> ToolReply {
    let Some(target) = &call.mcp else {
        return ToolReply::error("The call names no MCP server.");
    };
    match attempt(shared, session, agent, target, call, &cancel).await {
        Ok(reply) => reply,
        Err(McpError::Cancelled) => ToolReply::error(INTERRUPTED),
        Err(error) => ToolReply::error(format!("The MCP server's tool failed: {error}.")),
    }
}

async fn attempt(
    shared: &Shared,
    session: &SessionId,
    agent: &SessionAgent,
    target: &McpTarget,
    call: &Call,
    cancel: &CancellationToken,
) -> Result<ToolReply, McpError> {
    let refused = |why: &str| Err(McpError::Refused(why.to_owned()));
    // The configuration may have changed since the model asked, or since somebody allowed it.
    let Some(server) = servers(agent).find(|s| s.name == target.server) else {
        return refused("the agent has no such server any more");
    };
    if mcp::policy(agent, &target.server, &target.tool).is_none() {
        return refused("the agent has the tool not enabled any more");
    }
    let ground = Ground::of(shared, session).await.map_err(|error| {
        tracing::error!(%session, error = %chain(&error), "MCP call not made");
        McpError::Refused("the server has an internal error".to_owned())
    })?;
    let Some(ground) = ground else {
        return Err(McpError::Cancelled);
    };
    let tools = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(McpError::Cancelled),
        tools = list(shared, &ground, server) => tools?,
    };
    let now = tools.iter().find(|t| t.definition.name == target.tool);
    let Some(now) = now else {
        return refused("the server has no such tool any more");
    };
    if let Some(why) = objection(shared, &ground, server, target, call, now).await {
        return refused(&why);
    }
    let request = freehold_mcp::ToolCall {
        name: target.tool.clone(),
        arguments: call.input.clone(),
        input_schema: Some(now.definition.input_schema.clone()),
        request_id: shared.ids.next(),
    };
    let (connector, cancel) = (shared.mcp.connector.clone(), cancel.clone());
    let act = move |to| {
        let (connector, request, cancel) = (connector.clone(), request.clone(), cancel.clone());
        async move { connector.call(&to, &request, &cancel).await }
    };
    let outcome = authenticated(shared, &ground, server, act);
    let outcome = outcome.await?;
    Ok(ToolReply {
        content: outcome.content,
        is_error: outcome.is_error,
    })
}

/// Why the call may not go out: what was shown, and perhaps confirmed, was one definition.
async fn objection(
    shared: &Shared,
    ground: &Ground,
    server: &McpUrlServer,
    target: &McpTarget,
    call: &Call,
    now: &Judged,
) -> Option<String> {
    const AGAIN: &str = "look at the tool again before calling it";
    let changed = || Some(format!("{}; {AGAIN}", Why::Changed.text()));
    let Ok(shown) = target.fingerprint.parse::<Fingerprint>() else {
        return changed();
    };
    let owner = ground.session.as_str();
    let catalogue = &shared.mcp.catalogue;
    let verdict = catalogue.check(&ground.workspace, &server.url, owner, &target.tool, &shown);
    match verdict.await {
        Ok(Verdict::Stop(Why::Changed)) => changed(),
        Ok(Verdict::Stop(why)) => Some(why.text().to_owned()),
        // Somebody else's list may be newer than ours, or other.
        Ok(Verdict::Go { .. }) if now.fingerprint != shown => changed(),
        Ok(Verdict::Go { ask: true, .. }) if call.verdict.is_none() => Some(format!(
            "calls of the tool must be confirmed since it was shown; {AGAIN}"
        )),
        Ok(Verdict::Go { .. }) => None,
        Err(error) => {
            tracing::error!(session = %ground.session, error = %chain(&error), "MCP call not made");
            Some("the server's tools cannot be looked up".to_owned())
        }
    }
}

/// Somebody's decision over one call.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    target: McpTarget,
    binding: String,
    allowed: bool,
}

impl Decision {
    /// The decision that an event holds over an open call of an MCP tool, if it does.
    pub(crate) fn of(state: &State, event: &EventBody) -> Option<Self> {
        let EventBody::UserToolConfirmation(confirmation) = event else {
            return None;
        };
        let call = state.call(&confirmation.tool_use_id)?;
        let target = call.mcp.clone().filter(|_| call.verdict.is_none())?;
        let shown = target.fingerprint.parse::<Fingerprint>().ok()?;
        Some(Self {
            binding: binding(&shown, &call.input).ok()?,
            allowed: confirmation.result == freehold_wire::event::Verdict::Allow,
            target,
        })
    }
}

/// Records decisions that are in the log now.
pub(crate) async fn decided(
    shared: &Shared,
    session: &SessionId,
    agent: &SessionAgent,
    decisions: Vec<Decision>,
) -> Result<(), LoadError> {
    if decisions.is_empty() {
        return Ok(());
    }
    let Some(ground) = Ground::of(shared, session).await? else {
        return Ok(());
    };
    for decision in decisions {
        let Decision {
            target,
            binding,
            allowed,
        } = decision;
        if let Some(server) = servers(agent).find(|s| s.name == target.server) {
            shared.mcp.catalogue.confirmed(
                &ground.workspace,
                &server.url,
                session.as_str(),
                &target.tool,
                &binding,
                allowed,
            );
        }
    }
    Ok(())
}
