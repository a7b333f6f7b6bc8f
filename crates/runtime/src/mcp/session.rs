//! The MCP servers of a session's agent, and their tools at the beginning of a turn (contract 62,
//! "Agents").

use std::collections::BTreeSet;
use std::sync::Arc;

use freehold_base::{Secret, SessionId, WorkspaceId};
use freehold_engine::{Draft, McpTool, State, mcp};
use freehold_mcp::{Endpoint, McpError};
use freehold_wire::agent::SessionAgent;
use freehold_wire::environment::{EnvironmentConfig, Networking};
use freehold_wire::event::{
    EventBody, RetryStatus, SessionError, SessionErrorEvent, SessionErrorKind,
};
use freehold_wire::tool::{McpServer, McpUrlServer};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Judged;
use crate::load::{LoadError, unreadable};
use crate::runtime::Shared;

/// Tools of all servers of one agent.
const MAX_TOOLS: usize = 512;

/// Where a session's servers are reached from.
pub(crate) struct Ground {
    pub(super) session: SessionId,
    pub(super) workspace: WorkspaceId,
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

pub(super) fn servers(agent: &SessionAgent) -> impl Iterator<Item = &McpUrlServer> {
    agent
        .mcp_servers
        .iter()
        .map(|McpServer::Url(server)| server)
}

/// Adds the hosts of the agent's MCP servers to those that an environment allows, if it says so: its
/// sandbox may reach them as well.
pub(crate) fn allow_servers(config: &mut Value, servers: &[McpServer]) {
    let networking = &mut config["networking"];
    if networking["type"] != "limited" || networking["allow_mcp_servers"] != true {
        return;
    }
    let urls = servers.iter().map(|McpServer::Url(server)| &server.url);
    let urls = urls.filter_map(|url| freehold_mcp::Target::parse(url).ok());
    let hosts = urls.map(|url| json!(format!("{}:{}", url.host, url.port)));
    let allowed = networking["allowed_hosts"].as_array_mut();
    let mut all = allowed.map(std::mem::take).unwrap_or_default();
    all.extend(hosts);
    networking["allowed_hosts"] = all.into();
}

const fn kind(error: &McpError) -> SessionErrorKind {
    match error {
        McpError::Authentication(_) => SessionErrorKind::McpAuthenticationFailed,
        _ => SessionErrorKind::McpConnectionFailed,
    }
}

/// The server's tools now, as the catalogue judges them.
pub(super) async fn list(
    shared: &Shared,
    ground: &Ground,
    server: &McpUrlServer,
) -> Result<Vec<Judged>, McpError> {
    let mcp = &shared.mcp;
    let act = |from| async move { mcp.catalogue.list(&mcp.connector, &from).await };
    authenticated(shared, ground, server, act).await
}

/// Does something with the session's credential, and again with a fresh one if a server does not
/// take the first. Only what a server refuses for its credential has had no effect.
pub(super) async fn authenticated<T, F>(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_may_be_reached_from_a_sandbox_only_where_the_environment_says_so() {
        let server = json!([{"type": "url", "name": "a", "url": "https://Mcp.example.com:8443/mcp"},
            {"type": "url", "name": "b", "url": "https://b.example.com/mcp"}]);
        let servers: Vec<McpServer> = serde_json::from_value(server).unwrap();
        let after = |networking: Value| {
            let mut config = json!({"type": "cloud", "networking": networking});
            allow_servers(&mut config, &servers);
            config["networking"]["allowed_hosts"].clone()
        };
        let limited = |allow: bool| {
            json!({"type": "limited", "allowed_hosts": ["x.example.com"],
            "allow_mcp_servers": allow})
        };
        let all = json!(["x.example.com", "mcp.example.com:8443", "b.example.com:443"]);
        assert_eq!(after(limited(true)), all);
        assert_eq!(after(limited(false)), json!(["x.example.com"]));
        assert_eq!(after(json!({"type": "unrestricted"})), Value::Null);
    }
}
