//! What an operator decides.

use freehold_base::{McpServerId, WorkspaceId};
use freehold_wire::mcp_catalogue::ToolClass;

use super::{McpServerRow, McpToolRow, get, tools};
use crate::backend::{Tx, one, params};
use crate::{Store, StoreError};

/// A decision over a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerChange {
    /// From now on only approved definitions are offered. What the server serves now and nobody has
    /// decided over becomes approved.
    Pin,
    /// Everything but what was refused or deprecated is offered again. Approvals are kept.
    Unpin,
    /// Calls of these classes must be confirmed.
    Confirm(Vec<ToolClass>),
}

/// A decision over a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolDecision {
    /// This definition may be used, and no other one; the tool is in use again if it was not.
    Approve(String),
    /// This definition may not be used.
    Refuse(String),
    /// The tool is taken out of use, whatever its definition.
    Deprecate,
    /// The tool has this class; none: the one its definition claims.
    Class(Option<ToolClass>),
}

/// Why a decision is not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// There is no such server.
    #[error("no such MCP server")]
    NoServer,
    /// The server has no such tool.
    #[error("no such tool")]
    NoTool,
    /// No such definition of the tool was seen.
    #[error("no such definition")]
    NoDefinition,
    /// Approving what the server does not serve has an effect on pinned servers only.
    #[error("the server is not pinned")]
    NotPinned,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Decides over a server.
    ///
    /// # Errors
    /// [`DecideError::NoServer`]; or the store failed.
    pub async fn change_mcp_server(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
        change: ServerChange,
    ) -> Result<McpServerRow, DecideError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            let before = get(tx, &workspace, &id)?.ok_or(DecideError::NoServer)?;
            match &change {
                ServerChange::Pin => {
                    if !before.pinned {
                        approve_all(tx, &id)?;
                    }
                    let sql = "UPDATE mcp_server SET pinned = 1 WHERE id = ?1";
                    tx.execute(sql, params![&id])?;
                }
                ServerChange::Unpin => {
                    let sql = "UPDATE mcp_server SET pinned = 0 WHERE id = ?1";
                    tx.execute(sql, params![&id])?;
                }
                ServerChange::Confirm(classes) => {
                    let unreadable = StoreError::Corrupt { what: "MCP policy" };
                    let text = serde_json::to_string(classes).map_err(|_| unreadable)?;
                    let sql = "UPDATE mcp_server SET confirm = ?2 WHERE id = ?1";
                    tx.execute(sql, params![&id, &text])?;
                }
            }
            get(tx, &workspace, &id)?.ok_or(DecideError::NoServer)
        })
        .await
    }

    /// Decides over a tool of a server.
    ///
    /// # Errors
    /// See [`DecideError`].
    pub async fn decide_mcp_tool(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
        name: &str,
        decision: ToolDecision,
    ) -> Result<(McpServerRow, McpToolRow), DecideError> {
        let (workspace, id, name) = (workspace.clone(), id.clone(), name.to_owned());
        self.write(move |tx| {
            let server = get(tx, &workspace, &id)?.ok_or(DecideError::NoServer)?;
            let before = tool(tx, &id, &name)?;
            match &decision {
                ToolDecision::Approve(fingerprint) => {
                    seen(tx, &id, &name, fingerprint)?;
                    if !server.pinned && before.current.as_ref() != Some(fingerprint) {
                        return Err(DecideError::NotPinned);
                    }
                    mark_refused(tx, &id, &name, fingerprint, false)?;
                    tx.execute(
                        "UPDATE mcp_tool SET approved = ?3, deprecated = 0
                         WHERE server_id = ?1 AND name = ?2",
                        params![&id, &name, fingerprint],
                    )?;
                }
                ToolDecision::Refuse(fingerprint) => {
                    seen(tx, &id, &name, fingerprint)?;
                    mark_refused(tx, &id, &name, fingerprint, true)?;
                    tx.execute(
                        "UPDATE mcp_tool SET approved = NULL
                         WHERE server_id = ?1 AND name = ?2 AND approved = ?3",
                        params![&id, &name, fingerprint],
                    )?;
                }
                ToolDecision::Deprecate => {
                    let sql =
                        "UPDATE mcp_tool SET deprecated = 1 WHERE server_id = ?1 AND name = ?2";
                    tx.execute(sql, params![&id, &name])?;
                }
                ToolDecision::Class(class) => {
                    let class = class.map(ToolClass::as_str);
                    let sql = "UPDATE mcp_tool SET class = ?3 WHERE server_id = ?1 AND name = ?2";
                    tx.execute(sql, params![&id, &name, class])?;
                }
            }
            Ok((server, tool(tx, &id, &name)?))
        })
        .await
    }
}

fn tool(tx: &mut dyn Tx, id: &McpServerId, name: &str) -> Result<McpToolRow, DecideError> {
    let found = tools(tx, id, Some(name))?.into_iter().next();
    found.ok_or(DecideError::NoTool)
}

fn seen(
    tx: &mut dyn Tx,
    id: &McpServerId,
    name: &str,
    fingerprint: &str,
) -> Result<(), DecideError> {
    let sql = "SELECT 1 FROM mcp_tool_version
      WHERE server_id = ?1 AND name = ?2 AND fingerprint = ?3";
    let found = one(tx.query(sql, params![id, name, fingerprint])?);
    found.map(drop).ok_or(DecideError::NoDefinition)
}

fn mark_refused(
    tx: &mut dyn Tx,
    id: &McpServerId,
    name: &str,
    fingerprint: &str,
    refused: bool,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE mcp_tool_version SET refused = ?4
         WHERE server_id = ?1 AND name = ?2 AND fingerprint = ?3",
        params![id, name, fingerprint, refused],
    )?;
    Ok(())
}

/// Approves what is served now, but for tools of which a definition was refused or approved before.
fn approve_all(tx: &mut dyn Tx, id: &McpServerId) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE mcp_tool SET approved = current
         WHERE server_id = ?1 AND current IS NOT NULL AND approved IS NULL AND deprecated = 0
           AND NOT EXISTS (SELECT 1 FROM mcp_tool_version v WHERE v.server_id = mcp_tool.server_id
             AND v.name = mcp_tool.name AND v.refused <> 0)",
        params![id],
    )?;
    Ok(())
}
