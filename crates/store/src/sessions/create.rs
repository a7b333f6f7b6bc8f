//! Making a session, with its resources and first input, in one transaction.

use freehold_base::{
    AgentId, EnvironmentId, FileId, IdSource, MemoryStoreId, SessionId, SkillVersionId, ThreadId,
    VaultId, WorkspaceId,
};
use freehold_wire::agent::Metadata;

use super::row::{SessionRow, get, metadata_json};
use crate::backend::{Tx, one, params};
use crate::log::{self, Put};
use crate::resources::attach;
use crate::{
    AcceptError, Input, NewResource, ResourceError, Store, StoreError, skills, vaults, work,
};

/// A session to be made.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// Its primary thread.
    pub thread_id: ThreadId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// The environment's resolved `config`, JSON.
    pub environment: String,
    /// Whether its tools run on workers: then it is queued for one.
    pub self_hosted: bool,
    /// The agent it is made from.
    pub agent_id: AgentId,
    /// That agent's version.
    pub agent_version: u64,
    /// Effective `SessionAgent`, JSON.
    pub agent: String,
    /// The deployment that makes it.
    pub deployment_id: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its budget, JSON.
    pub budget: Option<String>,
    /// Its vaults, a JSON array of ids.
    pub vault_ids: String,
    /// First input; the session is made `running` if some of it starts a turn.
    pub initial: Vec<Input>,
    /// What is attached.
    pub resources: Vec<NewResource>,
    /// The skills it keeps, in its agent's order.
    pub skills: Vec<SkillVersionId>,
}

/// Why a session was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateSessionError {
    /// No such environment in the workspace, or it is archived.
    #[error("no usable environment")]
    EnvironmentGone,
    /// No such agent in the workspace, or it is archived.
    #[error("no usable agent")]
    AgentGone,
    /// No such file in the workspace, or it has expired.
    #[error("no such file: {0}")]
    FileGone(FileId),
    /// No such version of a skill in the workspace.
    #[error("no such skill version: {0}")]
    SkillGone(SkillVersionId),
    /// No such memory store in the workspace, or it is archived.
    #[error("no usable memory store: {0}")]
    MemoryStoreGone(MemoryStoreId),
    /// More resources than a session may have.
    #[error("too many resources")]
    TooManyResources,
    /// No such vault in the workspace, or it is archived.
    #[error("no usable vault: {0}")]
    VaultGone(VaultId),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl From<ResourceError> for CreateSessionError {
    fn from(error: ResourceError) -> Self {
        match error {
            ResourceError::FileGone(id) => Self::FileGone(id),
            ResourceError::MemoryStoreGone(id) => Self::MemoryStoreGone(id),
            ResourceError::TooMany => Self::TooManyResources,
            ResourceError::Store(error) => Self::Store(error),
            // The session was made open in this very transaction.
            ResourceError::SessionGone | ResourceError::Closed => {
                Self::Store(StoreError::Corrupt { what: "session" })
            }
        }
    }
}

impl From<AcceptError> for CreateSessionError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Store(error) => Self::Store(error),
            // A new session is open and has nothing that could be answered.
            _ => Self::Store(StoreError::Corrupt { what: "session" }),
        }
    }
}

impl Store {
    /// Makes a session: `idle`, or `running` and wanting a driver if its input starts a turn.
    ///
    /// # Errors
    /// See [`CreateSessionError`]; nothing was made then.
    pub async fn create_session(&self, new: NewSession) -> Result<SessionRow, CreateSessionError> {
        let (ids, home) = (self.ids().clone(), self.home());
        let id = new.id.clone();
        self.write_session(&id, move |tx| create(tx, &ids, home.as_deref(), &new))
            .await
    }
}

fn create(
    tx: &mut dyn Tx,
    ids: &IdSource,
    home: Option<&str>,
    new: &NewSession,
) -> Result<SessionRow, CreateSessionError> {
    let usable = |tx: &mut dyn Tx, table: &str, id: &str| {
        let sql = format!(
            "SELECT 1 FROM {table} WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL"
        );
        Ok::<_, StoreError>(one(tx.query(&sql, params![id, &new.workspace_id])?).is_some())
    };
    if !usable(tx, "environment", new.environment_id.as_str())? {
        return Err(CreateSessionError::EnvironmentGone);
    }
    if !usable(tx, "agent", new.agent_id.as_str())? {
        return Err(CreateSessionError::AgentGone);
    }
    if let Some(vault) = vaults::unusable(tx, &new.workspace_id, &new.vault_ids)? {
        return Err(CreateSessionError::VaultGone(vault));
    }
    let now = tx.now();
    tx.execute(
        "INSERT INTO session (id, workspace_id, thread_id, environment_id, agent_id, agent_version,
           deployment_id, status, blocked, head_seq, inbox_head, last_processed_at, lease_epoch,
           self_hosted, created_at, updated_at, home)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'idle', 0, 0, 0, 0, 0, ?8, ?9, ?9, ?10)",
        params![
            &new.id,
            &new.workspace_id,
            &new.thread_id,
            &new.environment_id,
            &new.agent_id,
            new.agent_version,
            new.deployment_id.as_ref(),
            new.self_hosted,
            now,
            // The sandbox is made here, unless a worker has it.
            home.filter(|_| !new.self_hosted),
        ],
    )?;
    tx.execute(
        "INSERT INTO session_body (session_id, title, metadata, budget, vault_ids, environment,
           agent) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            &new.id,
            new.title.as_ref(),
            metadata_json(&new.metadata),
            new.budget.as_ref(),
            &new.vault_ids,
            &new.environment,
            &new.agent,
        ],
    )?;
    if !new.resources.is_empty() {
        attach(tx, &new.workspace_id, &new.id, &new.resources)?;
    }
    skills::attach(tx, &new.workspace_id, &new.id, &new.skills)?
        .map_err(CreateSessionError::SkillGone)?;
    if !new.initial.is_empty() {
        let put = Put {
            session: &new.id,
            inputs: &new.initial,
            ids,
        };
        log::put(tx, &[put])?
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
    } else if new.self_hosted {
        work::ensure(tx, ids, &new.id)?;
    }
    let row = get(tx, Some(&new.workspace_id), &new.id)?;
    Ok(row.ok_or(StoreError::Corrupt { what: "session" })?)
}
