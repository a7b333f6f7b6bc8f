//! `/v1/freehold/mcp/servers/{id}/tools`: a server's tools, and decisions over them.

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::limits::page;
use freehold_base::{McpServerId, Timestamp};
use freehold_mcp::ToolDefinition;
use freehold_mcp::catalogue::{Fingerprint, Flag, ToolClass, ToolState};
use freehold_runtime::mcp::review::Tool;
use freehold_store::{McpServerRow, ToolDecision};
use freehold_wire::cursor::{List, Order, Position, Scope};
use freehold_wire::decode::{At, Decode, Object, one_of, string};
use freehold_wire::{ApiError, Page, Request, parse};
use serde::Serialize;
use serde_json::Value;

use super::{failed, missing as no_server, refused};
use crate::app::App;
use crate::auth::{Admin, Caller};
use crate::http::{Fail, Payload, Reply, json, path_id};
use crate::routes::query::Asked;

#[derive(Serialize)]
struct Shown {
    r#type: &'static str,
    server_id: McpServerId,
    name: String,
    state: ToolState,
    offered: bool,
    class: ToolClass,
    claimed_class: Option<ToolClass>,
    class_override: Option<ToolClass>,
    confirm: bool,
    fingerprint: Option<Fingerprint>,
    approved_fingerprint: Option<Fingerprint>,
    definition: Option<ToolDefinition>,
    flags: Vec<Flag>,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<Version>>,
}

#[derive(Serialize)]
struct Version {
    fingerprint: String,
    approved: bool,
    refused: bool,
    current: bool,
    definition: ToolDefinition,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
}

/// `POST …/approve`, `POST …/refuse`: of the definition that the operator has seen.
struct Decide {
    fingerprint: Fingerprint,
}

impl Request for Decide {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let read = |value, at: &At<'_>| {
            let text = string(value, at)?;
            text.parse::<Fingerprint>().map_err(|e| at.error(e))
        };
        let fingerprint = o.required("fingerprint", read)?;
        o.finish()?;
        Ok(Self { fingerprint })
    }
}

/// `POST …/class`: null goes back to what the definition claims.
struct SetClass {
    class: Option<ToolClass>,
}

impl Request for SetClass {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let read = |value, at: &At<'_>| match value {
            Value::Null => Ok(None),
            value => one_of(&ToolClass::NAMES)(value, at).map(Some),
        };
        let class = o.required("class", read)?;
        o.finish()?;
        Ok(Self { class })
    }
}

/// `GET …/{id}/tools`: in the order of their names; `state` narrows it.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let limit = query.limit(page::MCP_SERVERS)?;
    let states = query.many_of("state", &ToolState::NAMES)?;
    let parent = format!("{id}/tools");
    let scope = Scope {
        list: List::Admin,
        parent: &parent,
        order: Order::Asc,
    };
    let cursor = query.text("page")?.map(|text| scope.decode(text));
    let after = match cursor.transpose()?.map(|cursor| cursor.position) {
        Some(Position::Created(_, name)) => Some(name),
        _ => None,
    };
    let (server, tools) = all(&app, &caller, &id).await?;
    let after = after.as_deref();
    let mut tools: Vec<Tool> = tools
        .into_iter()
        .filter(|tool| after.is_none_or(|after| after < tool.row.name.as_str()))
        .filter(|tool| states.is_empty() || states.contains(&tool.standing.state()))
        .take(limit + 1)
        .collect();
    let more = tools.len() > limit;
    tools.truncate(limit);
    let next_page = tools.last().filter(|_| more).map(|last| {
        let at = last.row.first_seen_at.as_micros();
        scope.next(Position::Created(at, last.row.name.clone()))
    });
    let data = tools.into_iter().map(|tool| shown(&server, tool, None));
    json(&Page {
        data: data.collect(),
        next_page,
    })
}

/// `GET …/{id}/tools/{name}`: with every definition that is kept.
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path((id, name)): Path<(String, String)>,
) -> Reply {
    one(&app, &caller, &id, &name).await
}

/// `POST …/approve`: this definition may be used and no other one; an earlier one is a rollback, and
/// offered while the server really serves it.
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path((id, name)): Path<(String, String)>,
    Payload(body): Payload,
) -> Reply {
    let decision = ToolDecision::Approve(named(&body)?);
    decide(&app, &caller, &id, &name, decision).await
}

/// `POST …/refuse`: this definition may not be used, nor any later one that was not approved.
pub(crate) async fn refuse(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path((id, name)): Path<(String, String)>,
    Payload(body): Payload,
) -> Reply {
    let decision = ToolDecision::Refuse(named(&body)?);
    decide(&app, &caller, &id, &name, decision).await
}

/// `POST …/deprecate`: out of use until a definition is approved again.
pub(crate) async fn deprecate(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path((id, name)): Path<(String, String)>,
) -> Reply {
    decide(&app, &caller, &id, &name, ToolDecision::Deprecate).await
}

/// `POST …/class`
pub(crate) async fn class(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path((id, name)): Path<(String, String)>,
    Payload(body): Payload,
) -> Reply {
    let request: SetClass = parse(&body)?;
    decide(
        &app,
        &caller,
        &id,
        &name,
        ToolDecision::Class(request.class),
    )
    .await
}

/// The fingerprint that a body names.
fn named(body: &[u8]) -> Result<String, ApiError> {
    parse::<Decide>(body).map(|request| request.fingerprint.into())
}

async fn decide(app: &App, caller: &Caller, id: &str, name: &str, decision: ToolDecision) -> Reply {
    let parsed = path_id("MCP server", id)?;
    let decided = app
        .catalogue
        .decide(&caller.workspace, &parsed, name, decision, &caller.key);
    decided.await.map_err(|e| refused(e, id, name))?;
    one(app, caller, id, name).await
}

async fn all(app: &App, caller: &Caller, id: &str) -> Result<(McpServerRow, Vec<Tool>), Fail> {
    let parsed = path_id("MCP server", id)?;
    let found = app.catalogue.tools(&caller.workspace, &parsed).await;
    found.map_err(failed)?.ok_or_else(|| no_server(id).into())
}

async fn one(app: &App, caller: &Caller, id: &str, name: &str) -> Reply {
    let (server, tools) = all(app, caller, id).await?;
    let tool = tools.into_iter().find(|tool| tool.row.name == name);
    let tool = tool.ok_or_else(|| missing(name))?;
    let versions = app.catalogue.versions(&server.id, name).await;
    let versions = versions.map_err(failed)?.into_iter();
    let versions = versions.map(|(row, definition)| Version {
        approved: tool.row.approved.as_ref() == Some(&row.fingerprint),
        current: tool.row.current.as_ref() == Some(&row.fingerprint),
        fingerprint: row.fingerprint,
        refused: row.refused,
        definition,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
    });
    let versions = versions.collect();
    json(&shown(&server, tool, Some(versions)))
}

fn shown(server: &McpServerRow, tool: Tool, versions: Option<Vec<Version>>) -> Shown {
    let standing = tool.standing;
    Shown {
        r#type: "mcp_tool",
        server_id: server.id.clone(),
        state: standing.state(),
        offered: standing.offered(),
        class: standing.effective_class(),
        claimed_class: tool.row.claimed,
        class_override: standing.class,
        confirm: standing.ask(),
        name: tool.row.name,
        fingerprint: standing.current,
        approved_fingerprint: standing.approved,
        definition: tool.definition,
        flags: tool.flags,
        first_seen_at: tool.row.first_seen_at,
        last_seen_at: tool.row.last_seen_at,
        versions,
    }
}

pub(super) fn missing(name: &str) -> ApiError {
    ApiError::not_found("MCP tool", name)
}
