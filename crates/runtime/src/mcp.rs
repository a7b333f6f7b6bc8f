//! The MCP servers of a session's agent: their tools at the beginning of a turn, and calls of them
//! (contract 62, "Agents").

pub mod audit;
pub mod catalogue;
mod credentials;
pub mod review;

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_base::{Secret, SessionId, SharedClock, WorkspaceId};
use freehold_engine::call::McpTarget;
use freehold_engine::{Call, Draft, McpTool, State, mcp};
use freehold_mcp::catalogue::binding;
use freehold_mcp::{Connector, Endpoint, Listing, McpError};
use freehold_store::Store;
use freehold_wire::agent::SessionAgent;
use freehold_wire::environment::{EnvironmentConfig, Networking};
use freehold_wire::event::{
    EventBody, RetryStatus, SessionError, SessionErrorEvent, SessionErrorKind,
};
use freehold_wire::tool::{McpServer, McpUrlServer};
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

pub use audit::AuditLog;
pub use catalogue::{Catalogue, CatalogueError, Judged, Verdict};
pub use credentials::{CredentialError, McpCredentials, Validation};

use crate::executor::ToolReply;
use crate::load::{LoadError, unreadable};
use crate::runtime::Shared;

/// What a call that was stopped says (contract 40, "Interrupt").
const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";
/// Tools of all servers of one agent.
const MAX_TOOLS: usize = 512;

/// How sessions reach MCP servers.
#[derive(Clone)]
pub struct Mcp {
    /// The servers.
    pub connector: Connector,
    /// What they are shown.
    pub credentials: Arc<McpCredentials>,
    /// What is known of their tools, and what may be done with them.
    pub catalogue: Catalogue,
}

impl Mcp {
    /// Credentials and catalogue are those of `store`.
    pub fn new(store: Store, connector: Connector, audit: AuditLog, clock: SharedClock) -> Self {
        let credentials = McpCredentials::new(store.clone(), connector.clone(), clock);
        Self {
            connector,
            credentials: Arc::new(credentials),
            catalogue: Catalogue::new(store, audit),
        }
    }
}

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
                let parsed = freehold_mcp::Target::parse(&server.url);
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
    let judged = servers.iter().map(|server| judged(shared, &ground, server));
    let mut found = Vec::new();
    for (server, judged) in servers.iter().zip(join_all(judged).await) {
        match judged {
            Ok(judged) => found.push((server.name.as_str(), judged)),
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

/// A server's tools as the catalogue judges them now.
async fn judged(
    shared: &Shared,
    ground: &Ground,
    server: &McpUrlServer,
) -> Result<Vec<Judged>, McpError> {
    let listing = list(shared, ground, server).await?;
    let catalogue = &shared.mcp.catalogue;
    let observed = catalogue.observe(&ground.workspace, &server.url, &listing);
    observed.await.map_err(|error| not_judged(&error))
}

/// Nothing may be offered or called.
fn not_judged(error: &CatalogueError) -> McpError {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "MCP tools cannot be judged"
    );
    McpError::Connection(format!("its tools cannot be judged: {error}"))
}

/// The tools that the agent has enabled, by the names a model knows them by.
fn offered(agent: &SessionAgent, found: &[(&str, Vec<Judged>)]) -> Vec<McpTool> {
    let enabled: Vec<_> = found
        .iter()
        .flat_map(|(server, tools)| tools.iter().map(move |tool| (*server, tool)))
        .filter(|(_, tool)| tool.offered)
        .filter(|(server, tool)| mcp::policy(agent, server, &tool.definition.name).is_some())
        .take(MAX_TOOLS)
        .collect();
    let pairs = enabled
        .iter()
        .map(|(s, t)| (*s, t.definition.name.as_str()));
    let names = mcp::names(agent, pairs);
    let tools = enabled
        .into_iter()
        .zip(names)
        .map(|((server, tool), shown)| McpTool {
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

async fn list(
    shared: &Shared,
    ground: &Ground,
    server: &McpUrlServer,
) -> Result<Arc<Listing>, McpError> {
    let connector = shared.mcp.connector.clone();
    let act = move |to| {
        let connector = connector.clone();
        async move { connector.list(&to).await }
    };
    authenticated(shared, ground, server, act).await
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
        tracing::error!(%session, error = &error as &dyn std::error::Error, "call not made");
        McpError::Refused("the server has an internal error".to_owned())
    })?;
    let Some(ground) = ground else {
        return Err(McpError::Cancelled);
    };
    let catalogue = &shared.mcp.catalogue;
    tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(McpError::Cancelled),
        judged = judged(shared, &ground, server) => judged?,
    };
    // A definition that nobody knows is none that was shown.
    let Ok(shown) = target.fingerprint.parse() else {
        return refused("it is not known which definition of the tool was shown");
    };
    let (workspace, owner) = (&ground.workspace, ground.session.as_str());
    let checked = catalogue
        .check(workspace, &server.url, owner, &target.tool, &shown)
        .await;
    match checked.map_err(|error| not_judged(&error))? {
        Verdict::Stop(why) => return refused(why.text()),
        Verdict::Go { ask: true, .. } if call.verdict.is_none() => {
            return refused("calls of this tool must be confirmed since it was shown");
        }
        Verdict::Go { .. } => {}
    }
    if let (Some(_), Ok(binding)) = (&call.verdict, binding(&shown, &call.input)) {
        catalogue.confirmed(workspace, &server.url, owner, &target.tool, &binding, true);
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
