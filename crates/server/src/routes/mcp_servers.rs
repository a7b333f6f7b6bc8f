//! `/v1/freehold/mcp/servers`: what the workspace knows of MCP servers' tools, for admin keys. Our
//! own endpoints, not of the contract.

pub(super) mod tools;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::limits::page;
use freehold_base::{McpServerId, Timestamp};
use freehold_mcp::catalogue::{Change, Fingerprint, Flag, ToolClass, ToolState};
use freehold_runtime::mcp::CatalogueError;
use freehold_runtime::mcp::review::ToolDiff;
use freehold_store::{DecideError, McpServerQuery, McpServerRow, ServerChange};
use freehold_wire::credential::normalise;
use freehold_wire::cursor::{List, Order, Position, Scope};
use freehold_wire::decode::{At, Decode, Object, list as many, one_of};
use freehold_wire::{ApiError, Page, Request, parse};
use serde::Serialize;
use serde_json::Value;

use super::query::{Asked, created_position};
use crate::app::App;
use crate::auth::{Admin, Caller};
use crate::http::{Fail, Payload, Reply, json, path_id};

const SCOPE: Scope<'_> = Scope {
    list: List::Admin,
    parent: "mcp_servers",
    order: Order::Asc,
};

#[derive(Serialize)]
struct Server {
    id: McpServerId,
    r#type: &'static str,
    url: String,
    pinned: bool,
    policy: Policy,
    /// How many tools are in each state.
    tools: BTreeMap<&'static str, u64>,
    created_at: Timestamp,
    last_seen_at: Timestamp,
}

#[derive(Serialize)]
struct Policy {
    confirm_classes: Vec<ToolClass>,
}

/// `POST …/{id}/policy`
struct SetPolicy {
    confirm_classes: Vec<ToolClass>,
}

impl Request for SetPolicy {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let read = many(0, ToolClass::NAMES.len(), one_of(&ToolClass::NAMES));
        let mut confirm_classes = o.required("confirm_classes", read)?;
        o.finish()?;
        confirm_classes.sort();
        confirm_classes.dedup();
        Ok(Self { confirm_classes })
    }
}

/// `GET /v1/freehold/mcp/servers`: oldest first; `pinned` and `url` narrow it.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Asked(query): Asked,
) -> Reply {
    let limit = query.limit(page::MCP_SERVERS)?;
    let cursor = query.text("page")?.map(|text| SCOPE.decode(text));
    let asked = McpServerQuery {
        pinned: query.one_of("pinned", &[("true", true), ("false", false)])?,
        url: query.text("url")?.map(normalise),
        after: cursor.transpose()?.map(created_position).transpose()?,
        limit,
    };
    let mut rows = app.store.list_mcp_servers(&caller.workspace, asked).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let id = last.id.to_string();
        SCOPE.next(Position::Created(last.created_at.as_micros(), id))
    });
    let mut data = Vec::new();
    for row in rows {
        data.push(shown(&app, row).await?);
    }
    json(&Page { data, next_page })
}

/// `GET /v1/freehold/mcp/servers/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("MCP server", &id)?;
    let row = app.store.mcp_server(&caller.workspace, &parsed).await?;
    json(&shown(&app, row.ok_or_else(|| missing(&id))?).await?)
}

/// `POST …/{id}/pin`: what is served now is approved, and from now on nothing else is offered.
pub(crate) async fn pin(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Reply {
    change(&app, &caller, &id, ServerChange::Pin).await
}

/// `POST …/{id}/unpin`: what is new or changed is offered again.
pub(crate) async fn unpin(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Reply {
    change(&app, &caller, &id, ServerChange::Unpin).await
}

/// `POST …/{id}/policy`: which classes of tools must be confirmed, whatever agents say.
pub(crate) async fn policy(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let request: SetPolicy = parse(&body)?;
    let change_to = ServerChange::Confirm(request.confirm_classes);
    change(&app, &caller, &id, change_to).await
}

async fn change(app: &App, caller: &Caller, id: &str, change: ServerChange) -> Reply {
    let parsed = path_id("MCP server", id)?;
    let changed = app
        .catalogue
        .change_server(&caller.workspace, &parsed, change, &caller.key);
    let row = changed.await.map_err(|e| refused(e, id, ""))?;
    json(&shown(app, row).await?)
}

#[derive(Serialize)]
struct Diff {
    r#type: &'static str,
    server_id: McpServerId,
    pinned: bool,
    tools: Vec<DiffOfTool>,
}

#[derive(Serialize)]
struct DiffOfTool {
    name: String,
    state: ToolState,
    from_fingerprint: Option<Fingerprint>,
    to_fingerprint: Option<Fingerprint>,
    renamed_from: Option<String>,
    changes: Vec<Change>,
    flags: Vec<Flag>,
}

/// `GET …/{id}/diff`: what waits for a decision or is gone; with `tool`, that tool.
pub(crate) async fn diff(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let parsed = path_id("MCP server", &id)?;
    let only = query.text("tool")?;
    let found = app.catalogue.diff(&caller.workspace, &parsed, only);
    let (server, tools) = match found.await.map_err(failed)? {
        Some(found) => found,
        None => {
            let server = app.store.mcp_server(&caller.workspace, &parsed).await?;
            return Err(match (server, only) {
                (Some(_), Some(tool)) => tools::missing(tool),
                _ => missing(&id),
            }
            .into());
        }
    };
    json(&Diff {
        r#type: "mcp_diff",
        server_id: server.id,
        pinned: server.pinned,
        tools: tools.into_iter().map(diff_shown).collect(),
    })
}

fn diff_shown(diff: ToolDiff) -> DiffOfTool {
    DiffOfTool {
        name: diff.name,
        state: diff.state,
        from_fingerprint: diff.from,
        to_fingerprint: diff.to,
        renamed_from: diff.renamed_from,
        changes: diff.changes,
        flags: diff.flags,
    }
}

async fn shown(app: &App, row: McpServerRow) -> Result<Server, Fail> {
    let tools = app.catalogue.counts(&row).await.map_err(failed)?;
    Ok(Server {
        id: row.id,
        r#type: "mcp_server",
        url: row.url,
        pinned: row.pinned,
        policy: Policy {
            confirm_classes: row.confirm,
        },
        tools,
        created_at: row.created_at,
        last_seen_at: row.last_seen_at,
    })
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("MCP server", id)
}

/// A decision that was not taken.
fn refused(error: DecideError, server: &str, tool: &str) -> Fail {
    match error {
        DecideError::NoServer => missing(server).into(),
        DecideError::NoTool => tools::missing(tool).into(),
        DecideError::NoDefinition => ApiError::invalid(
            "fingerprint: no definition of this tool with this fingerprint is known",
        )
        .into(),
        DecideError::NotPinned => ApiError::invalid(
            "fingerprint: the server serves another definition; an earlier one can be approved \
             once the server is pinned",
        )
        .into(),
        DecideError::Store(error) => error.into(),
    }
}

fn failed(error: CatalogueError) -> Fail {
    match error {
        CatalogueError::Store(error) => error.into(),
        other => Fail::internal(&other),
    }
}
