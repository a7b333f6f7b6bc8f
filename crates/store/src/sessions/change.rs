//! Changing a session's fields.

use freehold_base::{SessionId, Timestamp, VaultId, WorkspaceId};
use freehold_wire::agent::Metadata;

use super::row::{SessionRow, get, metadata_json};
use crate::backend::{Tx, one, params};
use crate::log::{InsertError, Part, insert};
use crate::{NewEvent, Store, StoreError, vaults};

/// A change; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct SessionChange {
    /// The new title; inner `None` is null.
    pub title: Option<Option<String>>,
    /// The whole new metadata.
    pub metadata: Option<Metadata>,
    /// The new effective `SessionAgent`, JSON.
    pub agent: Option<String>,
    /// The new budget, JSON; inner `None` removes it. Asks for a driver, because work may have been
    /// paused.
    pub budget: Option<Option<String>>,
    /// All its vaults, a JSON array of ids.
    pub vault_ids: Option<String>,
    /// `session.updated`, appended as an external write.
    pub event: Option<NewEvent>,
    /// Only if the session is not `running`.
    pub require_not_running: bool,
    /// Only if the row still has this `updated_at`: the one the caller merged into. A status change
    /// moves it too, so try again on [`UpdateSessionError::Conflict`].
    pub expected: Option<Timestamp>,
}

/// Why a session was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateSessionError {
    /// No such session in the workspace.
    #[error("no such session")]
    NotFound,
    /// The session is running.
    #[error("the session is running")]
    Running,
    /// Somebody changed it since the caller looked.
    #[error("the session was changed meanwhile")]
    Conflict,
    /// No such vault in the workspace, or it is archived.
    #[error("no usable vault: {0}")]
    VaultGone(VaultId),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl From<InsertError> for UpdateSessionError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Store(error) => Self::Store(error),
            // `session.updated` answers nothing.
            InsertError::AlreadyAnswered(_) => Self::Conflict,
        }
    }
}

impl Store {
    /// Changes a session, and appends its event in the same transaction.
    ///
    /// # Errors
    /// See [`UpdateSessionError`].
    pub async fn update_session(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        change: SessionChange,
    ) -> Result<SessionRow, UpdateSessionError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| update(tx, &workspace, &id, &change))
            .await
    }
}

/// `?4` events are appended; `?5` asks for a driver.
const TOUCH: &str = "UPDATE session SET
   updated_at = CASE WHEN updated_at < ?3 THEN ?3 ELSE updated_at + 1 END,
   head_seq = head_seq + ?4,
   last_processed_at = CASE WHEN ?4 = 0 THEN last_processed_at
     WHEN last_processed_at >= ?3 THEN last_processed_at + ?4 ELSE ?3 + ?4 - 1 END,
   wake_at = CASE WHEN ?5 = 1 AND status <> 'terminated' AND (wake_at IS NULL OR wake_at > ?3)
     THEN ?3 ELSE wake_at END
 WHERE id = ?1 AND workspace_id = ?2 AND (?6 = 0 OR status <> 'running')
   AND (?7 IS NULL OR updated_at = ?7)
 RETURNING head_seq, last_processed_at";

fn update(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &SessionId,
    change: &SessionChange,
) -> Result<SessionRow, UpdateSessionError> {
    if let Some(vaults) = &change.vault_ids
        && let Some(vault) = vaults::unusable(tx, workspace, vaults)?
    {
        return Err(UpdateSessionError::VaultGone(vault));
    }
    let now = tx.now();
    let touched = tx.query(
        TOUCH,
        params![
            id,
            workspace,
            now,
            i64::from(change.event.is_some()),
            change.budget.is_some(),
            change.require_not_running,
            change.expected,
        ],
    )?;
    let Some(mut row) = one(touched) else {
        let found = get(tx, Some(workspace), id)?.ok_or(UpdateSessionError::NotFound)?;
        let running = found.status == freehold_wire::session::Status::Running;
        return Err(if change.require_not_running && running {
            UpdateSessionError::Running
        } else {
            UpdateSessionError::Conflict
        });
    };
    let (head, last) = (row.int("head")?, row.time("time")?);
    tx.execute(
        "UPDATE session_body SET
           title = CASE WHEN ?2 = 1 THEN ?3 ELSE title END,
           budget = CASE WHEN ?4 = 1 THEN ?5 ELSE budget END,
           metadata = COALESCE(?6, metadata), agent = COALESCE(?7, agent),
           vault_ids = COALESCE(?8, vault_ids)
         WHERE session_id = ?1",
        params![
            id,
            change.title.is_some(),
            change.title.as_ref().and_then(Option::as_ref),
            change.budget.is_some(),
            change.budget.as_ref().and_then(Option::as_ref),
            change.metadata.as_ref().map(metadata_json),
            change.agent.as_ref(),
            change.vault_ids.as_ref(),
        ],
    )?;
    insert(
        tx,
        &[Part::external(id, head, last, change.event.as_slice())],
    )?;
    get(tx, Some(workspace), id)?.ok_or(UpdateSessionError::NotFound)
}
