//! Archiving and deleting a session.

use freehold_base::{SessionId, WorkspaceId};
use freehold_wire::session::Status;

use super::row::{SessionRow, get};
use crate::backend::{Announcement, Tx, one, params};
use crate::log::{InsertError, Part, insert};
use crate::{NewEvent, Store, StoreError, sandboxes, skills, work};

/// Why a session was not archived.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No such session in the workspace.
    #[error("no such session")]
    NotFound,
    /// The session is running.
    #[error("the session is running")]
    Running,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl From<InsertError> for ArchiveError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Store(error) => Self::Store(error),
            // Status events answer nothing.
            InsertError::AlreadyAnswered(_) => Self::Store(StoreError::Corrupt { what: "event" }),
        }
    }
}

/// Why a session was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteSessionError {
    /// No such session in the workspace.
    #[error("no such session")]
    NotFound,
    /// The session is running.
    #[error("the session is running")]
    Running,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl Store {
    /// Archives a session that is not running: it becomes `terminated` for good, whoever drives it
    /// is fenced off, and `events` are appended if it was not terminated before. Archiving again
    /// changes nothing.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub async fn archive_session(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
        events: Vec<NewEvent>,
    ) -> Result<SessionRow, ArchiveError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| archive(tx, &workspace, &id, &events))
            .await
    }

    /// Deletes a session that is not running: its row, inbox, resources and files at once, then its
    /// events, and the bytes of its files unless other files share them. Listeners hear of it. Does
    /// not return before all is gone; if the process dies in between, [`Store::gc`] goes on.
    ///
    /// # Errors
    /// See [`DeleteSessionError`].
    pub async fn delete_session(
        &self,
        workspace: &WorkspaceId,
        id: &SessionId,
    ) -> Result<(), DeleteSessionError> {
        let (workspace, session) = (workspace.clone(), id.clone());
        let freed = self
            .write(move |tx| delete(tx, &workspace, &session))
            .await?;
        self.purge(id).await?;
        self.drop_blobs(&freed).await;
        Ok(())
    }
}

const ARCHIVE: &str = "UPDATE session SET
   archived_at = ?3, updated_at = CASE WHEN updated_at < ?3 THEN ?3 ELSE updated_at + 1 END,
   status = 'terminated', blocked = 0, terminated_at = COALESCE(terminated_at, ?3),
   head_seq = head_seq + ?4,
   last_processed_at = CASE WHEN ?4 = 0 THEN last_processed_at
     WHEN last_processed_at >= ?3 THEN last_processed_at + ?4 ELSE ?3 + ?4 - 1 END,
   wake_at = NULL, lease_owner = NULL, lease_epoch = lease_epoch + 1
 WHERE id = ?1 AND workspace_id = ?2 AND status = ?5 AND archived_at IS NULL
 RETURNING head_seq, last_processed_at";

fn archive(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &SessionId,
    events: &[NewEvent],
) -> Result<SessionRow, ArchiveError> {
    let row = get(tx, Some(workspace), id)?.ok_or(ArchiveError::NotFound)?;
    if row.archived_at.is_some() {
        return Ok(row);
    }
    if row.status == Status::Running {
        return Err(ArchiveError::Running);
    }
    let events = if row.status == Status::Terminated {
        &[]
    } else {
        events
    };
    let now = tx.now();
    let status = row.status.as_str();
    let archived = tx.query(ARCHIVE, params![id, workspace, now, events.len(), status])?;
    // Nothing matches only if the status moved since it was read, where that can happen: it runs.
    let mut moved = one(archived).ok_or(ArchiveError::Running)?;
    let (head, last) = (moved.int("head")?, moved.time("time")?);
    insert(tx, &[Part::external(id, head, last, events)])?;
    work::forget_session(tx, id)?;
    get(tx, Some(workspace), id)?.ok_or(ArchiveError::NotFound)
}

/// Deletes all but the events; gives the keys of blobs that lost a reference.
fn delete(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &SessionId,
) -> Result<Vec<String>, DeleteSessionError> {
    let row = get(tx, Some(workspace), id)?.ok_or(DeleteSessionError::NotFound)?;
    if row.status == Status::Running {
        return Err(DeleteSessionError::Running);
    }
    let now = tx.now();
    tx.execute(
        "DELETE FROM session_resource WHERE session_id = ?1",
        params![id],
    )?;
    tx.execute("DELETE FROM inbox WHERE session_id = ?1", params![id])?;
    tx.execute(
        "DELETE FROM session_body WHERE session_id = ?1",
        params![id],
    )?;
    let sql = "DELETE FROM file WHERE scope_session = ?1 RETURNING blob";
    let freed = tx
        .query(sql, params![id])?
        .into_iter()
        .map(|mut row| row.text("file blob"));
    let mut freed = freed.collect::<Result<Vec<_>, _>>()?;
    freed.extend(skills::detach(tx, id)?);
    freed.extend(sandboxes::forget(tx, id)?);
    freed.sort_unstable();
    freed.dedup();
    // Again with the status, for engines where it can have moved since.
    let sql = "DELETE FROM session WHERE id = ?1 AND status <> 'running'";
    if tx.execute(sql, params![id])? == 0 {
        return Err(DeleteSessionError::Running);
    }
    tx.execute(
        "INSERT INTO session_deletion (session_id, requested_at) VALUES (?1, ?2)",
        params![id, now],
    )?;
    work::forget_session(tx, id)?;
    tx.announce(Announcement::Deleted(id.clone()));
    Ok(freed)
}
