//! The MCP servers of a session's agent: their tools at the beginning of a turn, and calls of them
//! (contract 62, "Agents").

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_base::{Secret, SessionId, WorkspaceId};
use freehold_engine::call::McpTarget;
use freehold_engine::{Call, Draft, McpTool, State, mcp};
use freehold_mcp::catalogue::{Fingerprint, Why, binding};
use freehold_mcp::{Endpoint, McpError};
use freehold_wire::agent::SessionAgent;
use freehold_wire::environment::{EnvironmentConfig, Networking};
use freehold_wire::event::{
    EventBody, RetryStatus, SessionError, SessionErrorEvent, SessionErrorKind,
};
use freehold_wire::tool::{McpServer, McpUrlServer};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{Judged, Verdict};
use crate::executor::ToolReply;
use crate::load::{LoadError, chain, unreadable};
use crate::runtime::Shared;

/// What a call that was stopped says (contract 40, "Interrupt").
const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";
/// Tools of all servers of one agent.
const MAX_TOOLS: usize = 512;

/// Where a session's servers are reached from.
pub(crate) struct Ground {
    session: SessionId,
    workspace: WorkspaceId,
    networking: Networking,
}

impl Ground {
    /// That of a session; `None` if it is gone.
    pub(crate) async fn of(
        shared: &Shared,
        session: &SessionId,
    ) -> Result<Option<Self>, LoadError> {
        let Some(row) = shared.store.session_any(session).await? else {
            return Ok(None);
        };
        let config: EnvironmentConfig =
            serde_json::from_str(&row.environment).map_err(unreadable("environment"))?;
        Ok(Some(Self {
            session: row.id,
            workspace: row.workspace_id,
            networking: match config {
                EnvironmentConfig::Cloud(cloud) => cloud.networking,
                // The customer's own network is no matter of ours.
                EnvironmentConfig::SelfHosted => Networking::Unrestricted,
            },
        }))
    }

    fn permits(&self, server: &McpUrlServer) -> bool {
        match &self.networking {
            Networking::Limited(limited) if !limited.allow_mcp_servers => {
                let parsed = freehold_mcp::url::Server::parse(&server.url);
                // What cannot be read fails when it is dialled, with a reason.
                parsed.is_ok_and(|url| self.networking.permits(&url.host))
            }
            _ => true,
        }
    }

    fn endpoint(&self, server: &McpUrlServer, bearer: Option<Secret<String>>) -> Endpoint {
        Endpoint {
            workspace: self.workspace.clone(),
            owner: self.session.to_string(),
            url: server.url.clone(),
            bearer,
        }
    }
}

/// What the servers said.
pub(crate) struct Asked {
    /// The tools of those that answered.
    pub(crate) tools: Arc<[McpTool]>,
    /// Servers that failed now.
    pub(crate) failed: BTreeSet<String>,
    /// What is to be said of them.
    pub(crate) draft: Draft,
}

/// Asks every server but those in `skip` for its tools, all at once.
pub(crate) async fn ask(
    shared: &Shared,
    session: &SessionId,
    state: &State,
    skip: &BTreeSet<String>,
) -> Result<Asked, LoadError> {
    let mut asked = Asked {
        tools: Arc::from([]),
        failed: BTreeSet::new(),
        draft: Draft::default(),
    };
    let Some(ground) = Ground::of(shared, session).await? else {
        return Ok(asked);
    };
    let servers: Vec<_> = servers(&state.agent)
        .filter(|server| !skip.contains(&server.name))
        .collect();
    let listed = servers.iter().map(|server| list(shared, &ground, server));
    let mut found = Vec::new();
    for (server, listed) in servers.iter().zip(join_all(listed).await) {
        match listed {
            Ok(listing) => found.push((server.name.as_str(), listing)),
            Err(error) => {
                asked.failed.insert(server.name.clone());
                let error = SessionError {
                    mcp_server_name: Some(server.name.clone()),
                    ..SessionError::new(kind(&error), error.to_string(), RetryStatus::Exhausted)
                };
                let event = EventBody::Error(SessionErrorEvent { error });
                asked.draft.push(shared.ids.next(), event);
            }
        }
    }
    asked.tools = offered(&state.agent, &found).into();
    Ok(asked)
}

/// The tools that the agent has enabled and the catalogue lets be shown, by the names a model knows
/// them by.
fn offered(agent: &SessionAgent, found: &[(&str, Vec<Judged>)]) -> Vec<McpTool> {
    let enabled: Vec<_> = found
        .iter()
        .flat_map(|(server, tools)| tools.iter().map(move |tool| (*server, tool)))
        .filter(|(_, tool)| tool.offered)
        .filter(|(server, tool)| mcp::policy(agent, server, &tool.definition.name).is_some())
        .take(MAX_TOOLS)
        .collect();
    let names = mcp::names(
        agent,
        enabled
            .iter()
            .map(|(s, t)| (*s, t.definition.name.as_str())),
    );
    let tools = enabled.into_iter().zip(names);
    let tools = tools.map(|((server, tool), shown)| McpTool {
        server: server.to_owned(),
        name: tool.definition.name.clone(),
        shown,
        description: tool.definition.description.clone().unwrap_or_default(),
        input_schema: tool.definition.input_schema.clone(),
        fingerprint: tool.fingerprint.to_string(),
        ask: tool.ask,
    });
    tools.collect()
}

fn servers(agent: &SessionAgent) -> impl Iterator<Item = &McpUrlServer> {
    agent
        .mcp_servers
        .iter()
        .map(|McpServer::Url(server)| server)
}

const fn kind(error: &McpError) -> SessionErrorKind {
    match error {
        McpError::Authentication(_) => SessionErrorKind::McpAuthenticationFailed,
        _ => SessionErrorKind::McpConnectionFailed,
    }
}

/// The server's tools now, as the catalogue judges them.
async fn list(
    shared: &Shared,
    ground: &Ground,
    server: &McpUrlServer,
) -> Result<Vec<Judged>, McpError> {
    let connector = shared.mcp.connector.clone();
    let act = move |to| {
        let connector = connector.clone();
        async move { connector.list(&to).await }
    };
    let listing = authenticated(shared, ground, server, act).await?;
    let catalogue = &shared.mcp.catalogue;
    let judged = catalogue.observe(&ground.workspace, &server.url, &listing);
    judged.await.map_err(|error| {
        tracing::error!(session = %ground.session, error = %chain(&error), "MCP tools not recorded");
        McpError::Connection("the server's tools cannot be recorded".to_owned())
    })
}

/// Does something with the session's credential, and again with a fresh one if a server does not
/// take the first. Only what a server refuses for its credential has had no effect.
async fn authenticated<T, F>(
    shared: &Shared,
    ground: &Ground,
    server: &McpUrlServer,
    act: impl Fn(Endpoint) -> F,
) -> Result<T, McpError>
where
    F: Future<Output = Result<T, McpError>>,
{
    if !ground.permits(server) {
        let why = "the environment's networking does not permit this server";
        return Err(McpError::Connection(why.to_owned()));
    }
    let credentials = &shared.mcp.credentials;
    let bearer = |rejected| credentials.bearer(&ground.session, &server.url, rejected);
    let first = bearer(None).await?;
    match act(ground.endpoint(server, first.clone())).await {
        Err(McpError::Authentication(why)) => {
            let Some(rejected) = first else {
                return Err(McpError::Authentication(why));
            };
            match bearer(Some(&rejected)).await? {
                Some(fresh) if fresh != rejected => act(ground.endpoint(server, Some(fresh))).await,
                _ => Err(McpError::Authentication(why)),
            }
        }
        done => done,
    }
}

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
    if let Some(why) = objection(shared, &ground, server, target, call, &tools).await {
        return refused(&why);
    }
    let request = freehold_mcp::ToolCall {
        name: target.tool.clone(),
        arguments: call.input.clone(),
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
    tools: &[Judged],
) -> Option<String> {
    const AGAIN: &str = "look at the tool again before calling it";
    let Some(now) = tools.iter().find(|t| t.definition.name == target.tool) else {
        return Some("the server has no such tool any more".to_owned());
    };
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
