//! What a workspace knows of MCP servers: their tools, each definition that was seen, and what an
//! operator decided over them. Definitions and fingerprints are opaque here; `runtime/mcp` gives
//! them meaning.

mod decide;
mod observe;

use freehold_base::{McpServerId, Timestamp, WorkspaceId};
use freehold_wire::mcp_catalogue::ToolClass;

pub use decide::{DecideError, ServerChange, ToolDecision};
pub use observe::{ObserveError, SeenTool};

use crate::backend::{Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpServerRow {
    /// Its id.
    pub id: McpServerId,
    /// Whose knowledge it is.
    pub workspace_id: WorkspaceId,
    /// Normalised.
    pub url: String,
    /// Only approved definitions are offered.
    pub pinned: bool,
    /// Classes of tools whose calls must be confirmed.
    pub confirm: Vec<ToolClass>,
    /// When it was first seen.
    pub created_at: Timestamp,
    /// About when its tools were last listed; exact to an hour.
    pub last_seen_at: Timestamp,
}

/// A tool of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpToolRow {
    /// Its name.
    pub name: String,
    /// Fingerprint of the definition that the server serves; none if it no longer lists the tool.
    pub current: Option<String>,
    /// Fingerprint of the definition that an operator approved.
    pub approved: Option<String>,
    /// Fingerprints of definitions that an operator refused.
    pub refused: Vec<String>,
    /// The class that the current definition claims.
    pub claimed: Option<ToolClass>,
    /// The class that an operator gave it.
    pub class: Option<ToolClass>,
    /// Taken out of use.
    pub deprecated: bool,
    /// Definitions that are kept.
    pub versions: u64,
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// When it was last listed; exact to an hour.
    pub last_seen_at: Timestamp,
}

/// A definition of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpToolVersionRow {
    /// The tool's name.
    pub name: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// JSON.
    pub definition: String,
    /// An operator refused it.
    pub refused: bool,
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// When it was last served; exact to an hour.
    pub last_seen_at: Timestamp,
}

/// Which servers to list, oldest first.
#[derive(Debug, Clone, Default)]
pub struct McpServerQuery {
    /// Only pinned ones, or only others.
    pub pinned: Option<bool>,
    /// Only the one with this URL, normalised.
    pub url: Option<String>,
    /// After this one.
    pub after: Option<(Timestamp, McpServerId)>,
    /// At most this many; one more is given.
    pub limit: usize,
}

const SERVER: &str = "id, workspace_id, url, pinned, confirm, created_at, last_seen_at";

fn server(mut row: Row) -> Result<McpServerRow, StoreError> {
    let what = "MCP server";
    Ok(McpServerRow {
        id: row.id(what)?,
        workspace_id: row.id(what)?,
        url: row.text(what)?,
        pinned: row.flag(what)?,
        confirm: serde_json::from_str(&row.text(what)?)
            .map_err(|_| StoreError::Corrupt { what: "MCP policy" })?,
        created_at: row.time(what)?,
        last_seen_at: row.time(what)?,
    })
}

fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &McpServerId,
) -> Result<Option<McpServerRow>, StoreError> {
    let sql = format!("SELECT {SERVER} FROM mcp_server WHERE id = ?1 AND workspace_id = ?2");
    one(tx.query(&sql, params![id, workspace])?)
        .map(server)
        .transpose()
}

fn by_url(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    url: &str,
) -> Result<Option<McpServerRow>, StoreError> {
    let sql = format!("SELECT {SERVER} FROM mcp_server WHERE workspace_id = ?1 AND url = ?2");
    one(tx.query(&sql, params![workspace, url])?)
        .map(server)
        .transpose()
}

fn class(text: Option<String>) -> Result<Option<ToolClass>, StoreError> {
    let what = "class of an MCP tool";
    text.map(|text| ToolClass::named(&text).ok_or(StoreError::Corrupt { what }))
        .transpose()
}

/// The server's tools in the order of their names, or the one of this name.
fn tools(
    tx: &mut dyn Tx,
    id: &McpServerId,
    name: Option<&str>,
) -> Result<Vec<McpToolRow>, StoreError> {
    let what = "MCP tool";
    let mut f = Filter::default();
    f.and("t.server_id = {}", [id.into()]);
    f.maybe("t.name = {}", name);
    let sql = format!(
        "SELECT t.name, t.current, t.approved, v.claimed, t.class, t.deprecated,
           (SELECT COUNT(*) FROM mcp_tool_version n
            WHERE n.server_id = t.server_id AND n.name = t.name),
           t.first_seen_at, t.last_seen_at
         FROM mcp_tool t LEFT JOIN mcp_tool_version v
           ON v.server_id = t.server_id AND v.name = t.name AND v.fingerprint = t.current
         WHERE {} ORDER BY t.name",
        f.text()
    );
    let rows = tx.query(&sql, &f.params)?.into_iter().map(|mut row| {
        Ok(McpToolRow {
            name: row.text(what)?,
            current: row.opt_text(what)?,
            approved: row.opt_text(what)?,
            refused: Vec::new(),
            claimed: class(row.opt_text(what)?)?,
            class: class(row.opt_text(what)?)?,
            deprecated: row.flag(what)?,
            versions: row.count(what)?,
            first_seen_at: row.time(what)?,
            last_seen_at: row.time(what)?,
        })
    });
    let mut rows = rows.collect::<Result<Vec<McpToolRow>, StoreError>>()?;
    let refused = "SELECT name, fingerprint FROM mcp_tool_version
      WHERE server_id = ?1 AND refused <> 0 ORDER BY name, fingerprint";
    for mut row in tx.query(refused, params![id])? {
        let (name, fingerprint) = (row.text(what)?, row.text(what)?);
        if let Ok(at) = rows.binary_search_by(|r| r.name.as_str().cmp(&name)) {
            rows[at].refused.push(fingerprint);
        }
    }
    Ok(rows)
}

impl Store {
    /// A server of a workspace.
    ///
    /// # Errors
    /// The store failed.
    pub async fn mcp_server(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
    ) -> Result<Option<McpServerRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| get(tx, &workspace, &id)).await
    }

    /// Lists servers, oldest first; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_mcp_servers(
        &self,
        workspace: &WorkspaceId,
        q: McpServerQuery,
    ) -> Result<Vec<McpServerRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            f.maybe("pinned = {}", q.pinned);
            f.maybe("url = {}", q.url.as_ref());
            if let Some((at, id)) = &q.after {
                f.and("(created_at, id) > ({}, {})", [(*at).into(), id.into()]);
            }
            let limit = f.param(q.limit.saturating_add(1).into());
            let sql = format!(
                "SELECT {SERVER} FROM mcp_server WHERE {} ORDER BY created_at, id LIMIT {limit}",
                f.text()
            );
            tx.query(&sql, &f.params)?.into_iter().map(server).collect()
        })
        .await
    }

    /// All tools of a server in the order of their names; `None` if there is no such server.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_mcp_tools(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
    ) -> Result<Option<(McpServerRow, Vec<McpToolRow>)>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| {
            let Some(server) = get(tx, &workspace, &id)? else {
                return Ok(None);
            };
            Ok(Some((server, tools(tx, &id, None)?)))
        })
        .await
    }

    /// What is known of one tool, by its server's URL: what a dispatch asks.
    ///
    /// # Errors
    /// The store failed.
    pub async fn mcp_tool_at(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        name: &str,
    ) -> Result<Option<(McpServerRow, McpToolRow)>, StoreError> {
        let (workspace, url, name) = (workspace.clone(), url.to_owned(), name.to_owned());
        self.read(move |tx| {
            let Some(server) = by_url(tx, &workspace, &url)? else {
                return Ok(None);
            };
            let tool = tools(tx, &server.id, Some(&name))?.into_iter().next();
            Ok(tool.map(|tool| (server, tool)))
        })
        .await
    }

    /// Definitions of a server's tools, or of one tool, oldest first. The caller has found the
    /// server before.
    ///
    /// # Errors
    /// The store failed.
    pub async fn mcp_tool_versions(
        &self,
        id: &McpServerId,
        name: Option<&str>,
    ) -> Result<Vec<McpToolVersionRow>, StoreError> {
        let (id, name) = (id.clone(), name.map(str::to_owned));
        self.read(move |tx| {
            let what = "MCP tool definition";
            let mut f = Filter::default();
            f.and("server_id = {}", [Value::from(&id)]);
            f.maybe("name = {}", name.as_ref());
            let sql = format!(
                "SELECT name, fingerprint, definition, refused, first_seen_at, last_seen_at
                 FROM mcp_tool_version WHERE {} ORDER BY name, first_seen_at, fingerprint",
                f.text()
            );
            let rows = tx.query(&sql, &f.params)?.into_iter().map(|mut row| {
                Ok(McpToolVersionRow {
                    name: row.text(what)?,
                    fingerprint: row.text(what)?,
                    definition: row.text(what)?,
                    refused: row.flag(what)?,
                    first_seen_at: row.time(what)?,
                    last_seen_at: row.time(what)?,
                })
            });
            rows.collect()
        })
        .await
    }
}
