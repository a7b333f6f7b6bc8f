//! A server listed its tools.

use std::collections::HashMap;

use freehold_base::limits::{
    MAX_MCP_CATALOGUE_SERVERS, MAX_MCP_CATALOGUE_TOOLS, MAX_MCP_TOOL_VERSIONS,
};
use freehold_base::{IdSource, McpServerId, Timestamp, WorkspaceId};
use freehold_wire::mcp_catalogue::ToolClass;

use super::{McpServerRow, McpToolRow, by_url, tools};
use crate::backend::{Tx, one, params};
use crate::{Store, StoreError};

/// A tool as its server listed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenTool {
    /// Its name; no two of a list have the same.
    pub name: String,
    /// Of the definition.
    pub fingerprint: String,
    /// JSON.
    pub definition: String,
    /// The class that the definition claims.
    pub claimed: ToolClass,
}

/// Why a list is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The workspace knows as many servers as it may, and has decided over all of them.
    #[error("the workspace knows {MAX_MCP_CATALOGUE_SERVERS} MCP servers, and may not know more")]
    TooManyServers,
    /// So many tools of the server were decided over or are served that no more can be kept.
    #[error("more than {MAX_MCP_CATALOGUE_TOOLS} tools of the MCP server are known")]
    TooManyTools,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How old `last_seen_at` may be, milliseconds: what has not changed is written once an hour.
const FRESH_MS: i64 = 60 * 60 * 1000;

impl Store {
    /// Takes in what a server lists, and gives all that is known of it then. Writes only if
    /// something changed, or nothing was written for an hour.
    ///
    /// # Errors
    /// See [`ObserveError`].
    pub async fn observe_mcp_server(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        seen: Vec<SeenTool>,
    ) -> Result<(McpServerRow, Vec<McpToolRow>), ObserveError> {
        let (at, place) = (workspace.clone(), url.to_owned());
        let known = self
            .read(move |tx| -> Result<_, StoreError> {
                let now = tx.now();
                let Some(server) = by_url(tx, &at, &place)? else {
                    return Ok(None);
                };
                let tools = tools(tx, &server.id, None)?;
                Ok(Some((now, server, tools)))
            })
            .await?;
        if let Some((now, server, tools)) = known
            && now.as_micros() - server.last_seen_at.as_micros() < FRESH_MS * 1000
            && same(&tools, &seen)
        {
            return Ok((server, tools));
        }
        let (workspace, url, ids) = (workspace.clone(), url.to_owned(), self.ids().clone());
        self.write(move |tx| take_in(tx, &ids, &workspace, &url, &seen))
            .await
    }
}

/// Whether the server serves just what is known of it.
fn same(known: &[McpToolRow], seen: &[SeenTool]) -> bool {
    let served: HashMap<&str, &str> = known
        .iter()
        .filter_map(|tool| Some((tool.name.as_str(), tool.current.as_deref()?)))
        .collect();
    served.len() == seen.len()
        && seen
            .iter()
            .all(|tool| served.get(tool.name.as_str()) == Some(&tool.fingerprint.as_str()))
}

fn take_in(
    tx: &mut dyn Tx,
    ids: &IdSource,
    workspace: &WorkspaceId,
    url: &str,
    seen: &[SeenTool],
) -> Result<(McpServerRow, Vec<McpToolRow>), ObserveError> {
    let now = tx.now();
    if by_url(tx, workspace, url)?.is_none() {
        make_room(tx, workspace)?;
        let id: McpServerId = ids.next();
        tx.execute(
            "INSERT INTO mcp_server (id, workspace_id, url, pinned, confirm, created_at, last_seen_at)
             VALUES (?1, ?2, ?3, 0, '[]', ?4, ?4)",
            params![&id, workspace, url, now],
        )?;
    }
    let missing = StoreError::Corrupt { what: "MCP server" };
    let id = by_url(tx, workspace, url)?.ok_or(missing)?.id;
    tx.execute(
        "UPDATE mcp_server SET last_seen_at = ?2 WHERE id = ?1",
        params![&id, now],
    )?;
    let known: HashMap<String, McpToolRow> = tools(tx, &id, None)?
        .into_iter()
        .map(|tool| (tool.name.clone(), tool))
        .collect();
    for tool in seen {
        put(tx, &id, tool, now)?;
    }
    for name in known
        .values()
        .filter(|t| t.current.is_some())
        .map(|t| &t.name)
    {
        if !seen.iter().any(|tool| tool.name == *name) {
            tx.execute(
                "UPDATE mcp_tool SET current = NULL WHERE server_id = ?1 AND name = ?2",
                params![&id, name],
            )?;
        }
    }
    forget(tx, &id)?;
    let missing = StoreError::Corrupt { what: "MCP server" };
    let server = by_url(tx, workspace, url)?.ok_or(missing)?;
    Ok((server, tools(tx, &id, None)?))
}

fn put(
    tx: &mut dyn Tx,
    id: &McpServerId,
    tool: &SeenTool,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO mcp_tool (server_id, name, current, deprecated, first_seen_at, last_seen_at)
         VALUES (?1, ?2, ?3, 0, ?4, ?4)
         ON CONFLICT (server_id, name) DO UPDATE SET current = ?3, last_seen_at = ?4",
        params![id, &tool.name, &tool.fingerprint, now],
    )?;
    tx.execute(
        "INSERT INTO mcp_tool_version (server_id, name, fingerprint, definition, claimed, refused,
           first_seen_at, last_seen_at)
         VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, ?6)
         ON CONFLICT (server_id, name, fingerprint) DO UPDATE SET last_seen_at = ?6",
        params![
            id,
            &tool.name,
            &tool.fingerprint,
            &tool.definition,
            tool.claimed.as_str(),
            now
        ],
    )?;
    // The oldest go that nothing refers to and nobody decided over.
    tx.execute(
        "DELETE FROM mcp_tool_version WHERE server_id = ?1 AND name = ?2 AND refused = 0
           AND fingerprint NOT IN (SELECT current FROM mcp_tool
             WHERE server_id = ?1 AND name = ?2 AND current IS NOT NULL)
           AND fingerprint NOT IN (SELECT approved FROM mcp_tool
             WHERE server_id = ?1 AND name = ?2 AND approved IS NOT NULL)
           AND fingerprint NOT IN (SELECT fingerprint FROM mcp_tool_version
             WHERE server_id = ?1 AND name = ?2
             ORDER BY last_seen_at DESC, fingerprint LIMIT ?3)",
        params![id, &tool.name, MAX_MCP_TOOL_VERSIONS],
    )?;
    Ok(())
}

/// A server that gives its tools new names with each list fills nothing: the oldest of those that
/// are gone and were never decided over are forgotten.
fn forget(tx: &mut dyn Tx, id: &McpServerId) -> Result<(), ObserveError> {
    let count = "SELECT COUNT(*) FROM mcp_tool WHERE server_id = ?1";
    let what = "number of MCP tools";
    let n_tools = one(tx.query(count, params![id])?).map_or(Ok(0), |mut r| r.count(what))?;
    let excess = n_tools.saturating_sub(MAX_MCP_CATALOGUE_TOOLS as u64);
    if excess == 0 {
        return Ok(());
    }
    let gone = tx.query(
        "SELECT name FROM mcp_tool t WHERE server_id = ?1 AND current IS NULL
           AND approved IS NULL AND deprecated = 0 AND class IS NULL
           AND NOT EXISTS (SELECT 1 FROM mcp_tool_version v
             WHERE v.server_id = t.server_id AND v.name = t.name AND v.refused <> 0)
         ORDER BY last_seen_at, name LIMIT ?2",
        params![id, excess],
    )?;
    if (gone.len() as u64) < excess {
        return Err(ObserveError::TooManyTools);
    }
    for mut row in gone {
        let name = row.text("MCP tool")?;
        for table in ["mcp_tool_version", "mcp_tool"] {
            let sql = format!("DELETE FROM {table} WHERE server_id = ?1 AND name = ?2");
            tx.execute(&sql, params![id, &name])?;
        }
    }
    Ok(())
}

/// The server that was not seen for longest goes, of those nobody decided anything over.
fn make_room(tx: &mut dyn Tx, workspace: &WorkspaceId) -> Result<(), ObserveError> {
    let count = "SELECT COUNT(*) FROM mcp_server WHERE workspace_id = ?1";
    let what = "number of MCP servers";
    let n_servers =
        one(tx.query(count, params![workspace])?).map_or(Ok(0), |mut r| r.count(what))?;
    if n_servers < MAX_MCP_CATALOGUE_SERVERS as u64 {
        return Ok(());
    }
    let oldest = tx.query(
        "SELECT id FROM mcp_server s WHERE workspace_id = ?1 AND pinned = 0 AND confirm = '[]'
           AND NOT EXISTS (SELECT 1 FROM mcp_tool t WHERE t.server_id = s.id
             AND (t.approved IS NOT NULL OR t.deprecated <> 0 OR t.class IS NOT NULL))
           AND NOT EXISTS (SELECT 1 FROM mcp_tool_version v
             WHERE v.server_id = s.id AND v.refused <> 0)
         ORDER BY last_seen_at, id LIMIT 1",
        params![workspace],
    )?;
    let mut row = one(oldest).ok_or(ObserveError::TooManyServers)?;
    let id: McpServerId = row.id("MCP server")?;
    for sql in [
        "DELETE FROM mcp_tool_version WHERE server_id = ?1",
        "DELETE FROM mcp_tool WHERE server_id = ?1",
        "DELETE FROM mcp_server WHERE id = ?1",
    ] {
        tx.execute(sql, params![&id])?;
    }
    Ok(())
}
