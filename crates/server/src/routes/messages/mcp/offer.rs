//! The tools that a request offers the model: each server's, by names the model knows them by.

use std::collections::{BTreeMap, BTreeSet};

use freehold_base::WorkspaceId;
use freehold_mcp::catalogue::Fingerprint;
use freehold_mcp::{Endpoint, McpError, ToolDefinition};
use freehold_model::RawObject;
use freehold_runtime::mcp::Judged;
use freehold_wire::ApiError;
use futures_util::future::join_all;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::fields::wrong;
use super::history::{object_of, raw_of};
use super::request::{Asked, Entry, Server, Toolset};
use super::turn::Clients;

/// MCP tools of one request, all servers together.
const MAX_TOOLS: usize = 512;

/// A tool that the model may call.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    /// The request's name of the server.
    pub(super) server: String,
    /// The server's name of the tool.
    pub(super) tool: String,
    /// Of the definition that the server gave; none if the client gave it.
    pub(super) fingerprint: Option<Fingerprint>,
}

/// What the model is offered.
#[derive(Default)]
pub(super) struct Offer {
    /// `tools` for the provider.
    pub(super) tools: Vec<Box<RawValue>>,
    /// By the names the model knows.
    pub(super) targets: BTreeMap<String, Target>,
    /// A `mcp_tool_listing` of each server that was asked.
    pub(super) listings: Vec<Value>,
}

/// The name a model knows a server's tool by; the same for the same tool, whatever else there is.
pub(super) fn shown_name(server: &str, tool: &str) -> String {
    freehold_engine::mcp::fitted(&format!("{server}_{tool}"), server, tool)
}

/// Where the servers are reached from.
struct Ground<'a> {
    clients: &'a Clients,
    workspace: &'a WorkspaceId,
}

impl Ground<'_> {
    fn endpoint(&self, server: &Server) -> Endpoint {
        Endpoint {
            workspace: self.workspace.clone(),
            owner: self.clients.owner.to_string(),
            url: server.url.clone(),
            bearer: server.token.clone(),
        }
    }
}

/// Asks the servers whose tools the request does not hold already.
///
/// # Errors
/// 400: a server cannot be used, names meet, or there are too many tools.
pub(super) async fn make(
    clients: &Clients,
    workspace: &WorkspaceId,
    asked: &Asked,
    known: &BTreeMap<String, Vec<ToolDefinition>>,
) -> Result<Offer, ApiError> {
    let ground = &Ground { clients, workspace };
    let searches = asked.tools.iter().any(is_tool_search);
    let toolsets = asked.tools.iter().filter_map(|entry| match entry {
        Entry::Mcp(toolset) => Some(toolset),
        Entry::Plain(_) => None,
    });
    let found = toolsets.map(|toolset| list(ground, asked, toolset, known));
    let mut found = join_all(found).await.into_iter();
    let mut names = plain_names(asked);
    let mut offer = Offer::default();
    for entry in &asked.tools {
        let toolset = match entry {
            Entry::Plain(raw) => {
                offer.tools.push(raw.clone());
                continue;
            }
            Entry::Mcp(toolset) => toolset,
        };
        let Some(found) = found.next() else { break };
        let found = found?;
        let server = &asked.servers[toolset.server];
        if found.asked {
            offer.listings.push(listing(&server.name, &found.tools));
        }
        let enabled = found.tools.into_iter().filter(|t| toolset.enabled(&t.name));
        let from = offer.tools.len();
        for tool in enabled {
            let name = shown_name(&server.name, &tool.name);
            if !names.insert(name.clone()) {
                let why = format!("two tools have the name {name} for the model");
                return Err(wrong(&toolset.at, &why).with_code("tool_name_conflict"));
            }
            let deferred = toolset.deferred(&tool.name);
            if deferred && !searches {
                let why = "defer_loading needs a tool search tool in tools";
                return Err(wrong(&toolset.at, why));
            }
            offer.tools.push(raw_of(&shown(&tool, &name, deferred)));
            let target = Target {
                endpoint: ground.endpoint(server),
                server: server.name.clone(),
                fingerprint: Fingerprint::of(&tool).ok().filter(|_| found.asked),
                tool: tool.name,
            };
            offer.targets.insert(name, target);
        }
        mark_last(&mut offer.tools[from..], toolset);
    }
    if offer.targets.len() > MAX_TOOLS {
        let why = "the MCP servers have more than 512 enabled tools together";
        return Err(wrong("tools", why).with_code("available_tools_limit_exceeded"));
    }
    Ok(offer)
}

struct Found {
    tools: Vec<ToolDefinition>,
    /// The server was asked for them.
    asked: bool,
}

async fn list(
    ground: &Ground<'_>,
    asked: &Asked,
    toolset: &Toolset,
    known: &BTreeMap<String, Vec<ToolDefinition>>,
) -> Result<Found, ApiError> {
    let server = &asked.servers[toolset.server];
    if let Some(tools) = toolset.pinned.as_ref().or_else(|| known.get(&server.name)) {
        let tools = tools.clone();
        return Ok(Found {
            tools,
            asked: false,
        });
    }
    let tools = offered(ground.clients, &ground.endpoint(server)).await;
    let tools = tools.map_err(|error| failed(&server.name, &error))?;
    let tools = tools.into_iter().map(|tool| tool.definition).collect();
    Ok(Found { tools, asked: true })
}

/// The tools of a server that the workspace's catalogue lets be called without a person's word:
/// nobody here could give it.
async fn offered(clients: &Clients, to: &Endpoint) -> Result<Vec<Judged>, McpError> {
    let judged = clients.catalogue.list(&clients.connector, to).await?;
    let may = |tool: &Judged| tool.offered && !tool.ask;
    Ok(judged.into_iter().filter(may).collect())
}

fn failed(server: &str, error: &McpError) -> ApiError {
    let what = match error {
        McpError::Authentication(_) => "Authentication error",
        _ => "Connection error",
    };
    let shown: String = server.chars().filter(|c| !c.is_control()).collect();
    ApiError::invalid(format!(
        "{what} while communicating with MCP server '{shown}': {error}"
    ))
}

fn listing(server: &str, tools: &[ToolDefinition]) -> Value {
    let tools = tools.iter().map(|tool| {
        json!({"name": tool.name, "description": tool.description,
            "input_schema": tool.input_schema})
    });
    json!({"type": "mcp_tool_listing", "mcp_server_name": server,
        "tools": tools.collect::<Vec<_>>()})
}

fn shown(tool: &ToolDefinition, name: &str, deferred: bool) -> RawObject {
    let mut shown = object_of(json!({"name": name, "input_schema": tool.input_schema}));
    if let Some(description) = &tool.description {
        shown.set("description", description.as_str());
    }
    if deferred {
        shown.set("defer_loading", true);
    }
    shown
}

/// A toolset's cache breakpoint is on its last tool that is not deferred.
fn mark_last(tools: &mut [Box<RawValue>], toolset: &Toolset) {
    let Some(mark) = &toolset.cache_control else {
        return;
    };
    for raw in tools.iter_mut().rev() {
        let mut tool = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
        if tool.get("defer_loading").is_none() {
            tool.set_raw("cache_control", mark.clone());
            *raw = tool.to_raw();
            return;
        }
    }
}

fn is_tool_search(entry: &Entry) -> bool {
    let Entry::Plain(raw) = entry else {
        return false;
    };
    let tool = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
    let kind: Option<String> = tool.read("type");
    kind.is_some_and(|k| k.starts_with("tool_search_tool_"))
}

fn plain_names(asked: &Asked) -> BTreeSet<String> {
    let name = |entry: &Entry| match entry {
        Entry::Plain(raw) => RawObject::parse(raw.get().as_bytes()).ok()?.read("name"),
        Entry::Mcp(_) => None,
    };
    asked.tools.iter().filter_map(name).collect()
}
