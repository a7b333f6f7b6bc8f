//! Agents and their versions (contract 10). A body is JSON that this crate does not read; id,
//! version and times stand beside it and are the truth.

use freehold_base::{AgentId, Timestamp, WorkspaceId};

use crate::backend::{Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// An agent to be made.
#[derive(Debug, Clone)]
pub struct NewAgent {
    /// Its id.
    pub id: AgentId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its configuration, JSON.
    pub body: String,
}

/// An agent at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// Its id.
    pub id: AgentId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The version, from 1.
    pub version: u64,
    /// Its configuration, JSON.
    pub body: String,
    /// When the agent was made.
    pub created_at: Timestamp,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// When the agent was archived.
    pub archived_at: Option<Timestamp>,
}

/// Which agents to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct AgentQuery {
    /// Only made at or after.
    pub created_gte: Option<Timestamp>,
    /// Only made at or before.
    pub created_lte: Option<Timestamp>,
    /// Archived ones too.
    pub include_archived: bool,
    /// Only after this one.
    pub after: Option<(Timestamp, AgentId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why an agent was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateAgentError {
    /// No such agent in the workspace.
    #[error("no such agent")]
    NotFound,
    /// The agent is archived.
    #[error("the agent is archived")]
    Archived,
    /// The newest version is not the expected one.
    #[error("the agent is at version {current}")]
    Conflict {
        /// The newest version.
        current: u64,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

const COLUMNS: &str =
    "a.id, a.workspace_id, v.version, v.body, a.created_at, v.created_at, a.archived_at";

fn agent(mut row: Row) -> Result<AgentRow, StoreError> {
    Ok(AgentRow {
        id: row.id("agent id")?,
        workspace_id: row.id("agent workspace")?,
        version: row.count("agent version")?,
        body: row.text("agent")?,
        created_at: row.time("agent time")?,
        updated_at: row.time("agent time")?,
        archived_at: row.opt_time("agent time")?,
    })
}

fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &AgentId,
    version: Option<u64>,
) -> Result<Option<AgentRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM agent a
         JOIN agent_version v ON v.agent_id = a.id AND v.version = COALESCE(?3, a.version)
         WHERE a.id = ?1 AND a.workspace_id = ?2"
    );
    one(tx.query(&sql, params![id, workspace, version])?)
        .map(agent)
        .transpose()
}

fn add_version(tx: &mut dyn Tx, id: &AgentId, version: u64, body: &str) -> Result<(), StoreError> {
    let now = tx.now();
    tx.execute(
        "INSERT INTO agent_version (agent_id, version, created_at, body) VALUES (?1, ?2, ?3, ?4)",
        params![id, version, now, body],
    )
    .map(drop)
}

impl Store {
    /// Makes an agent at version 1.
    ///
    /// # Errors
    /// The store failed.
    pub async fn create_agent(&self, new: NewAgent) -> Result<AgentRow, StoreError> {
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "INSERT INTO agent (id, workspace_id, version, created_at) VALUES (?1, ?2, 1, ?3)",
                params![&new.id, &new.workspace_id, now],
            )?;
            add_version(tx, &new.id, 1, &new.body)?;
            Ok(AgentRow {
                id: new.id.clone(),
                workspace_id: new.workspace_id.clone(),
                version: 1,
                body: new.body.clone(),
                created_at: now,
                updated_at: now,
                archived_at: None,
            })
        })
        .await
    }

    /// Adds a version, if the newest is still `expected`: the one the caller made `body` from.
    ///
    /// # Errors
    /// See [`UpdateAgentError`].
    pub async fn update_agent(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        expected: u64,
        body: String,
    ) -> Result<AgentRow, UpdateAgentError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            // The guarded update locks the row where rows are locked; the rest explains.
            let moved = tx.execute(
                "UPDATE agent SET version = version + 1
                 WHERE id = ?1 AND workspace_id = ?2 AND version = ?3 AND archived_at IS NULL",
                params![&id, &workspace, expected],
            )?;
            if moved == 0 {
                return Err(match get(tx, &workspace, &id, None)? {
                    None => UpdateAgentError::NotFound,
                    Some(AgentRow {
                        archived_at: Some(_),
                        ..
                    }) => UpdateAgentError::Archived,
                    Some(row) => UpdateAgentError::Conflict {
                        current: row.version,
                    },
                });
            }
            add_version(tx, &id, expected + 1, &body)?;
            get(tx, &workspace, &id, None)?.ok_or(UpdateAgentError::NotFound)
        })
        .await
    }

    /// Archives an agent for good; again changes nothing. `None` if there is no such agent.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_agent(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
    ) -> Result<Option<AgentRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "UPDATE agent SET archived_at = ?3
                 WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL",
                params![&id, &workspace, now],
            )?;
            get(tx, &workspace, &id, None)
        })
        .await
    }

    /// An agent at a version, or at its newest.
    ///
    /// # Errors
    /// The store failed.
    pub async fn agent(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        version: Option<u64>,
    ) -> Result<Option<AgentRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.look_up(move |tx| get(tx, &workspace, &id, version))
            .await
    }

    /// Lists agents at their newest versions; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_agents(
        &self,
        workspace: &WorkspaceId,
        q: AgentQuery,
    ) -> Result<Vec<AgentRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("a.workspace_id = {}", [Value::from(&workspace)]);
            f.maybe("a.created_at >= {}", q.created_gte);
            f.maybe("a.created_at <= {}", q.created_lte);
            if !q.include_archived {
                f.fixed("a.archived_at IS NULL");
            }
            let page = f.newest(["a.created_at", "a.id"], q.after.as_ref(), q.limit);
            let sql = format!(
                "SELECT {COLUMNS} FROM agent a
                 JOIN agent_version v ON v.agent_id = a.id AND v.version = a.version {page}"
            );
            tx.query(&sql, &f.params)?.into_iter().map(agent).collect()
        })
        .await
    }

    /// Lists an agent's versions, newest first, only those below `before`; up to `limit + 1`.
    /// Empty if there is no such agent.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_agent_versions(
        &self,
        workspace: &WorkspaceId,
        id: &AgentId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AgentRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM agent a JOIN agent_version v ON v.agent_id = a.id
                 WHERE a.id = ?1 AND a.workspace_id = ?2 AND v.version < ?3
                 ORDER BY v.version DESC LIMIT ?4"
            );
            let before = before.unwrap_or(i64::MAX as u64);
            let limit = limit.saturating_add(1);
            let rows = tx.query(&sql, params![&id, &workspace, before, limit])?;
            rows.into_iter().map(agent).collect()
        })
        .await
    }
}
