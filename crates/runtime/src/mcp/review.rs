//! What an operator sees of the catalogue and does to it.

use std::collections::BTreeMap;

use freehold_base::{ApiKeyId, McpServerId, WorkspaceId};
use freehold_mcp::ToolDefinition;
use freehold_mcp::catalogue::{
    Change, Fingerprint, Flag, Standing, ToolState, changes, flags, renames,
};
use freehold_store::{
    DecideError, McpServerRow, McpToolRow, McpToolVersionRow, ServerChange, ToolDecision,
};
use serde_json::{Map, json};

use super::catalogue::{Catalogue, CatalogueError, standing};

/// A tool as an operator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// As it is stored.
    pub row: McpToolRow,
    /// What follows.
    pub standing: Standing,
    /// What the server serves, or served last.
    pub definition: Option<ToolDefinition>,
    /// What is suspicious in that.
    pub flags: Vec<Flag>,
}

/// What has changed in one tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolDiff {
    /// The tool.
    pub name: String,
    /// Where it stands.
    pub state: ToolState,
    /// The definition it is compared with: the approved one, or the one served before.
    pub from: Option<Fingerprint>,
    /// The definition that is served.
    pub to: Option<Fingerprint>,
    /// Field by field.
    pub changes: Vec<Change>,
    /// What is suspicious in the new definition.
    pub flags: Vec<Flag>,
    /// It takes the same input as this tool, which the server no longer lists.
    pub renamed_from: Option<String>,
}

/// A definition with its fingerprint.
type Version = (Fingerprint, ToolDefinition);

impl Catalogue {
    /// A server's tools in the order of their names; `None` if there is no such server.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub async fn tools(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
    ) -> Result<Option<(McpServerRow, Vec<Tool>)>, CatalogueError> {
        let Some((server, rows)) = self.store.list_mcp_tools(workspace, id).await? else {
            return Ok(None);
        };
        let versions = self.store.mcp_tool_versions(id, None).await?;
        let listed: Vec<&str> = rows
            .iter()
            .filter(|row| row.current.is_some())
            .map(|row| row.name.as_str())
            .collect();
        let tools = rows.iter().map(|row| {
            let standing = standing(&server, row)?;
            let shown = match &row.current {
                Some(current) => find(&versions, &row.name, current)?,
                None => newest(&versions, &row.name, None)?,
            };
            let definition = shown.map(|(_, definition)| definition);
            Ok(Tool {
                flags: definition
                    .as_ref()
                    .map(|d| flags(d, &others(&listed, &row.name)))
                    .unwrap_or_default(),
                row: row.clone(),
                standing,
                definition,
            })
        });
        let tools = tools.collect::<Result<Vec<_>, CatalogueError>>()?;
        Ok(Some((server, tools)))
    }

    /// How many of a server's tools are in each state.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub async fn counts(
        &self,
        server: &McpServerRow,
    ) -> Result<BTreeMap<&'static str, u64>, CatalogueError> {
        let mut counts: BTreeMap<_, _> = ToolState::NAMES.map(|(name, _)| (name, 0)).into();
        let found = self.store.list_mcp_tools(&server.workspace_id, &server.id);
        for row in found.await?.map(|(_, rows)| rows).unwrap_or_default() {
            let state = standing(server, &row)?.state();
            *counts.entry(state.as_str()).or_default() += 1;
        }
        Ok(counts)
    }

    /// What a server serves against what was approved, or served before: of all tools that wait for
    /// a decision, or are gone, or of the one of this name whatever its state. `None` if there is
    /// no such server or tool.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub async fn diff(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
        only: Option<&str>,
    ) -> Result<Option<(McpServerRow, Vec<ToolDiff>)>, CatalogueError> {
        let Some((server, tools)) = self.tools(workspace, id).await? else {
            return Ok(None);
        };
        let versions = self.store.mcp_tool_versions(id, None).await?;
        let in_state = |wanted: ToolState| {
            let all = tools.iter().filter(move |t| t.standing.state() == wanted);
            all.filter_map(|t| t.definition.as_ref())
                .collect::<Vec<_>>()
        };
        let renamed = renames(&in_state(ToolState::Removed), &in_state(ToolState::New));
        let mut found = Vec::new();
        for tool in &tools {
            let (name, state) = (tool.row.name.as_str(), tool.standing.state());
            let wanted = match only {
                Some(only) => only == name,
                None => matches!(
                    state,
                    ToolState::New | ToolState::Changed | ToolState::Removed
                ),
            };
            if !wanted {
                continue;
            }
            let (old, new) = sides(tool, &versions)?;
            let side = |version: &Option<Version>| version.as_ref().map(|(f, _)| f.clone());
            found.push(ToolDiff {
                name: name.to_owned(),
                state,
                from: side(&old),
                to: side(&new),
                changes: changes(
                    old.as_ref().map(|(_, definition)| definition),
                    new.as_ref().map(|(_, definition)| definition),
                ),
                flags: tool.flags.clone(),
                renamed_from: renamed
                    .iter()
                    .find(|(_, to)| *to == name)
                    .map(|(from, _)| (*from).to_owned()),
            });
        }
        if only.is_some() && found.is_empty() {
            return Ok(None);
        }
        Ok(Some((server, found)))
    }

    /// Every definition of a tool that is kept, oldest first, to roll back to.
    ///
    /// # Errors
    /// See [`CatalogueError`].
    pub async fn versions(
        &self,
        id: &McpServerId,
        name: &str,
    ) -> Result<Vec<(McpToolVersionRow, ToolDefinition)>, CatalogueError> {
        let rows = self.store.mcp_tool_versions(id, Some(name)).await?;
        let read = rows.into_iter().map(|row| Ok((row.clone(), read(&row)?.1)));
        read.collect()
    }

    /// Decides over a server, and records it.
    ///
    /// # Errors
    /// See [`DecideError`].
    pub async fn change_server(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
        change: ServerChange,
        by: &ApiKeyId,
    ) -> Result<McpServerRow, DecideError> {
        let (action, detail) = match &change {
            ServerChange::Pin => ("pin", json!(null)),
            ServerChange::Unpin => ("unpin", json!(null)),
            ServerChange::Confirm(classes) => ("policy", json!({ "confirm_classes": classes })),
        };
        let row = self.store.change_mcp_server(workspace, id, change).await?;
        let mut body = detail.as_object().cloned().unwrap_or_default();
        body.insert("by".into(), by.as_str().into());
        self.note(workspace, &row.url, action, None, "done", body);
        Ok(row)
    }

    /// Decides over a tool, and records it. `Approve` and `Refuse` name the definition that the
    /// operator has seen.
    ///
    /// # Errors
    /// See [`DecideError`].
    pub async fn decide(
        &self,
        workspace: &WorkspaceId,
        id: &McpServerId,
        name: &str,
        decision: ToolDecision,
        by: &ApiKeyId,
    ) -> Result<(), DecideError> {
        let mut body = Map::new();
        body.insert("by".into(), by.as_str().into());
        let action = match &decision {
            ToolDecision::Approve(fingerprint) => {
                body.insert("fingerprint".into(), fingerprint.as_str().into());
                "approve"
            }
            ToolDecision::Refuse(fingerprint) => {
                body.insert("fingerprint".into(), fingerprint.as_str().into());
                "refuse"
            }
            ToolDecision::Deprecate => "deprecate",
            ToolDecision::Class(class) => {
                body.insert("class".into(), json!(class));
                "class"
            }
        };
        let decided = self.store.decide_mcp_tool(workspace, id, name, decision);
        let (server, _) = decided.await?;
        self.note(workspace, &server.url, action, Some(name), "done", body);
        Ok(())
    }
}

/// What to compare: before and now.
fn sides(
    tool: &Tool,
    versions: &[McpToolVersionRow],
) -> Result<(Option<Version>, Option<Version>), CatalogueError> {
    let name = tool.row.name.as_str();
    let current = tool.row.current.as_deref();
    let new = match current {
        Some(current) => find(versions, name, current)?,
        None => None,
    };
    let old = match tool.row.approved.as_deref() {
        Some(approved) => find(versions, name, approved)?,
        None => newest(versions, name, current)?,
    };
    Ok((old, new))
}

fn others<'a>(listed: &[&'a str], name: &str) -> Vec<&'a str> {
    listed
        .iter()
        .copied()
        .filter(|other| *other != name)
        .collect()
}

fn find(
    versions: &[McpToolVersionRow],
    name: &str,
    fingerprint: &str,
) -> Result<Option<Version>, CatalogueError> {
    let row = versions
        .iter()
        .find(|v| v.name == name && v.fingerprint == fingerprint);
    row.map(read).transpose()
}

/// The definition that was served last, but for one.
fn newest(
    versions: &[McpToolVersionRow],
    name: &str,
    but: Option<&str>,
) -> Result<Option<Version>, CatalogueError> {
    let of_tool = versions.iter().filter(|v| v.name == name);
    let others = of_tool.filter(|v| Some(v.fingerprint.as_str()) != but);
    others.max_by_key(|v| v.last_seen_at).map(read).transpose()
}

/// What an operator is shown must be what the fingerprint stands for.
fn read(row: &McpToolVersionRow) -> Result<Version, CatalogueError> {
    let damaged = || CatalogueError::Damaged(row.name.clone());
    let definition: ToolDefinition =
        serde_json::from_str(&row.definition).map_err(|_| damaged())?;
    let fingerprint = Fingerprint::of(&definition).map_err(|_| damaged())?;
    if fingerprint.as_str() == row.fingerprint {
        Ok((fingerprint, definition))
    } else {
        Err(damaged())
    }
}
