//! A session's row.

use freehold_base::{AgentId, EnvironmentId, SessionId, ThreadId, Timestamp, WorkspaceId};
use freehold_wire::agent::Metadata;
use freehold_wire::session::Status;

use crate::backend::{Row, Tx, one, params};
use crate::{Store, StoreError};

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its primary thread.
    pub thread_id: ThreadId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// The environment's resolved `config` when the session was made, JSON.
    pub environment: String,
    /// The agent it was made from.
    pub agent_id: AgentId,
    /// That agent's version.
    pub agent_version: u64,
    /// Effective `SessionAgent`, JSON.
    pub agent: String,
    /// The deployment that made it.
    pub deployment_id: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its status.
    pub status: Status,
    /// Whether it is idle with `requires_action`.
    pub blocked: bool,
    /// Its budget, JSON.
    pub budget: Option<String>,
    /// Its vaults, a JSON array of ids.
    pub vault_ids: String,
    /// The engine's summary, opaque JSON.
    pub summary: Option<String>,
    /// The log's last `seq`.
    pub head_seq: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its fields or its status last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// When it became `terminated`.
    pub terminated_at: Option<Timestamp>,
}

/// Column order of [`session`].
pub(super) const COLUMNS: &str = "s.id, s.workspace_id, s.thread_id, s.environment_id, \
   b.environment, s.agent_id, s.agent_version, b.agent, s.deployment_id, b.title, b.metadata, \
   s.status, s.blocked, b.budget, b.vault_ids, s.summary, s.head_seq, s.created_at, s.updated_at, \
   s.archived_at, s.terminated_at";

pub(super) fn session(mut row: Row) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: row.id("session id")?,
        workspace_id: row.id("session workspace")?,
        thread_id: row.id("session thread")?,
        environment_id: row.id("session environment")?,
        environment: row.text("session environment")?,
        agent_id: row.id("session agent")?,
        agent_version: row.count("session agent")?,
        agent: row.text("session agent")?,
        deployment_id: row.opt_text("session deployment")?,
        title: row.opt_text("session title")?,
        metadata: serde_json::from_str(&row.text("session metadata")?).map_err(|_| {
            StoreError::Corrupt {
                what: "session metadata",
            }
        })?,
        status: Status::from_name(&row.text("session status")?).ok_or(StoreError::Corrupt {
            what: "session status",
        })?,
        blocked: row.flag("session flag")?,
        budget: row.opt_text("session budget")?,
        vault_ids: row.text("session vaults")?,
        summary: row.opt_text("session summary")?,
        head_seq: row.int("session head")?,
        created_at: row.time("session time")?,
        updated_at: row.time("session time")?,
        archived_at: row.opt_time("session time")?,
        terminated_at: row.opt_time("session time")?,
    })
}

/// A map of strings as JSON.
pub(super) fn metadata_json(metadata: &Metadata) -> String {
    // A map of strings always has a JSON form.
    serde_json::to_string(metadata).unwrap_or_else(|_| "{}".to_owned())
}

/// Reads a session; `None` as workspace is any.
pub(super) fn get(
    tx: &mut dyn Tx,
    workspace: Option<&WorkspaceId>,
    id: &SessionId,
) -> Result<Option<SessionRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM session s JOIN session_body b ON b.session_id = s.id
         WHERE s.id = ?1 AND (?2 IS NULL OR s.workspace_id = ?2)"
    );
    one(tx.query(&sql, params![id, workspace])?)
        .map(session)
        .transpose()
}

impl Store {
    /// One session of a workspace.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
    ) -> Result<Option<SessionRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.look_up(move |tx| get(tx, Some(&workspace), &id)).await
    }

    /// One session of any workspace: for drivers, never for a client's request.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_any(&self, id: &SessionId) -> Result<Option<SessionRow>, StoreError> {
        let id = id.clone();
        self.look_up(move |tx| get(tx, None, &id)).await
    }
}
