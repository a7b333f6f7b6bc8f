//! `/v1/freehold/mcp/audit`: what was asked of MCP servers and decided over them, for admin keys.
//! Our own endpoint, not of the contract.

use std::sync::Arc;

use axum::extract::State;
use freehold_base::limits::page;
use freehold_base::{McpAuditId, Timestamp};
use freehold_store::{McpAuditQuery, McpAuditRow};
use freehold_wire::credential::normalise;
use freehold_wire::cursor::{List, Order, Scope};
use serde::Serialize;
use serde_json::{Map, Value};

use super::query::{Asked, created_page, created_position, stored};
use crate::app::App;
use crate::auth::Admin;
use crate::http::{Fail, Reply};

const SCOPE: Scope<'_> = Scope {
    list: List::Admin,
    parent: "mcp_audit",
    order: Order::Desc,
};

#[derive(Serialize)]
struct Entry {
    id: McpAuditId,
    r#type: &'static str,
    created_at: Timestamp,
    server_url: String,
    action: String,
    tool: Option<String>,
    outcome: String,
    /// `owner`, `request_id`, `fingerprint`, `by`, …
    detail: Map<String, Value>,
}

/// `GET /v1/freehold/mcp/audit`: newest first; `server_url`, `tool`, `action` and `outcome` narrow
/// it.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Asked(query): Asked,
) -> Reply {
    let limit = query.limit(page::MCP_AUDIT)?;
    let cursor = query.text("page")?.map(|text| SCOPE.decode(text));
    let asked = McpAuditQuery {
        server: query.text("server_url")?.map(normalise),
        tool: query.text("tool")?.map(str::to_owned),
        action: query.text("action")?.map(str::to_owned),
        outcome: query.text("outcome")?.map(str::to_owned),
        after: cursor.transpose()?.map(created_position).transpose()?,
        limit,
    };
    // What was done before this request is in the answer.
    app.catalogue.audit().flush().await;
    let rows = app.store.list_mcp_audit(&caller.workspace, asked).await?;
    let place = |row: &McpAuditRow| (row.entry.at, row.id.to_string());
    created_page(rows, limit, SCOPE, place, shown)
}

fn shown(row: McpAuditRow) -> Result<Entry, Fail> {
    Ok(Entry {
        id: row.id,
        r#type: "mcp_audit_entry",
        created_at: row.entry.at,
        server_url: row.entry.server,
        action: row.entry.action,
        tool: row.entry.tool,
        outcome: row.entry.outcome,
        detail: stored(&row.entry.body)?,
    })
}
