//! What is attached to a session (contract 30, "Resource objects"). Attaching a file makes a copy
//! of its row with the session as scope; the bytes are shared.

use freehold_base::{
    FileId, MemoryStoreId, SessionId, SessionResourceId, Timestamp, WorkspaceId, limits,
};

use crate::backend::{Row, Tx, Value, one, params};
use crate::files::{self, FileRow};
use crate::memory_stores;
use crate::sql::Filter;
use crate::{Store, StoreError};

/// The session's copy of a workspace file.
#[derive(Debug, Clone)]
pub struct FileCopy {
    /// The file to copy; must be in the session's workspace and not expired.
    pub source: FileId,
    /// The copy's id.
    pub id: FileId,
}

/// Something to attach.
#[derive(Debug, Clone)]
pub struct NewResource {
    /// Its id.
    pub id: SessionResourceId,
    /// Its wire `type`.
    pub kind: String,
    /// Where it appears in the sandbox.
    pub mount_path: Option<String>,
    /// For type `file`.
    pub file: Option<FileCopy>,
    /// For type `memory_store`; must be in the session's workspace and not archived.
    pub memory_store_id: Option<MemoryStoreId>,
    /// The rest, JSON.
    pub body: String,
}

/// Something attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRow {
    /// Its id.
    pub id: SessionResourceId,
    /// The session.
    pub session_id: SessionId,
    /// Its place in the order of attachment; the cursor of lists.
    pub position: i64,
    /// Its wire `type`.
    pub kind: String,
    /// Where it appears in the sandbox.
    pub mount_path: Option<String>,
    /// For type `file`: the session's copy.
    pub file_id: Option<FileId>,
    /// The rest, JSON.
    pub body: String,
    /// When it was attached.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Why a resource was not attached.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// No such session in the workspace.
    #[error("no such session")]
    SessionGone,
    /// The session is archived or terminated.
    #[error("the session takes no more resources")]
    Closed,
    /// No such file in the workspace, or it has expired.
    #[error("no such file: {0}")]
    FileGone(FileId),
    /// No such memory store in the workspace, or it is archived.
    #[error("no usable memory store: {0}")]
    MemoryStoreGone(MemoryStoreId),
    /// The session has [`limits::MAX_SESSION_FILES`] resources already, memory stores not counted.
    #[error("the session has too many resources")]
    TooMany,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

const COLUMNS: &str = "r.id, r.session_id, r.position, r.kind, r.mount_path, r.file_id, r.body, \
   r.created_at, r.updated_at";
/// Follows a WHERE on session `?1` and workspace `?2`.
const OWNED: &str = "FROM session_resource r JOIN session s ON s.id = r.session_id
   WHERE r.session_id = ?1 AND s.workspace_id = ?2";

fn resource(mut row: Row) -> Result<ResourceRow, StoreError> {
    Ok(ResourceRow {
        id: row.id("resource id")?,
        session_id: row.id("resource session")?,
        position: row.int("resource position")?,
        kind: row.text("resource type")?,
        mount_path: row.opt_text("resource path")?,
        file_id: row.opt_id("resource file")?,
        body: row.text("resource")?,
        created_at: row.time("resource time")?,
        updated_at: row.time("resource time")?,
    })
}

/// Attaches resources to a session that exists and is open.
pub(crate) fn attach(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    new: &[NewResource],
) -> Result<Vec<ResourceRow>, ResourceError> {
    let now = tx.now();
    let sql =
        "SELECT COUNT(*) - COUNT(memory_store_id), COALESCE(MAX(position), 0) FROM session_resource
       WHERE session_id = ?1";
    let (held, last) = match one(tx.query(sql, params![session])?) {
        Some(mut row) => (row.count("count")?, row.int("resource position")?),
        None => (0, 0),
    };
    // Memory stores have a limit of their own, which the request was checked against.
    let counted = new
        .iter()
        .filter(|new| new.memory_store_id.is_none())
        .count();
    if held + counted as u64 > limits::MAX_SESSION_FILES as u64 {
        return Err(ResourceError::TooMany);
    }
    let mut rows = Vec::with_capacity(new.len());
    for (new, position) in new.iter().zip(last + 1..) {
        if let Some(copy) = &new.file {
            copy_file(tx, workspace, session, copy)?;
        }
        if let Some(store) = &new.memory_store_id {
            memory_stores::get(tx, workspace, store)?
                .filter(|row| row.archived_at.is_none())
                .ok_or_else(|| ResourceError::MemoryStoreGone(store.clone()))?;
        }
        tx.execute(
            "INSERT INTO session_resource (id, session_id, position, kind, mount_path, file_id,
               memory_store_id, body, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)",
            params![
                &new.id,
                session,
                position,
                &new.kind,
                new.mount_path.as_ref(),
                new.file.as_ref().map(|copy| &copy.id),
                new.memory_store_id.as_ref(),
                &new.body,
                now,
            ],
        )?;
        rows.push(ResourceRow {
            id: new.id.clone(),
            session_id: session.clone(),
            position,
            kind: new.kind.clone(),
            mount_path: new.mount_path.clone(),
            file_id: new.file.as_ref().map(|copy| copy.id.clone()),
            body: new.body.clone(),
            created_at: now,
            updated_at: now,
        });
    }
    Ok(rows)
}

fn copy_file(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    session: &SessionId,
    copy: &FileCopy,
) -> Result<(), ResourceError> {
    let now = tx.now();
    // Read and copied in one transaction, and files are deleted by whoever runs alone: the bytes cannot
    // lose their last reference in between.
    let source = files::get(tx, workspace, &copy.source)?
        .filter(|file| file.expires_at.is_none_or(|at| at > now))
        .ok_or_else(|| ResourceError::FileGone(copy.source.clone()))?;
    files::insert(
        tx,
        &FileRow {
            id: copy.id.clone(),
            scope_session: Some(session.clone()),
            output_path: None,
            source_mtime: None,
            created_at: now,
            expires_at: None,
            ..source
        },
    )?;
    Ok(())
}

impl Store {
    /// Attaches a resource.
    ///
    /// # Errors
    /// See [`ResourceError`].
    pub async fn add_resource(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        new: NewResource,
    ) -> Result<ResourceRow, ResourceError> {
        let (workspace, session, new) = (workspace.clone(), session.clone(), [new]);
        self.write(move |tx| {
            let now = tx.now();
            // Writing the row first locks it where rows are locked.
            let open = tx.execute(
                "UPDATE session SET updated_at = CASE WHEN updated_at < ?3 THEN ?3 ELSE updated_at END
                 WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL
                   AND status <> 'terminated'",
                params![&session, &workspace, now],
            )?;
            if open == 0 {
                let sql = "SELECT 1 FROM session WHERE id = ?1 AND workspace_id = ?2";
                let found = tx.query(sql, params![&session, &workspace])?;
                return Err(match found.is_empty() {
                    true => ResourceError::SessionGone,
                    false => ResourceError::Closed,
                });
            }
            let mut rows = attach(tx, &workspace, &session, &new)?;
            rows.pop().ok_or(ResourceError::SessionGone)
        })
        .await
    }

    /// Lists a session's resources in the order of attachment, only those after a position; up to
    /// `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_resources(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        after: Option<i64>,
        limit: usize,
    ) -> Result<Vec<ResourceRow>, StoreError> {
        let (workspace, session) = (workspace.clone(), session.clone());
        self.read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} {OWNED} AND r.position > ?3 ORDER BY r.position LIMIT ?4"
            );
            let (after, limit) = (after.unwrap_or(0), limit.saturating_add(1));
            let rows = tx.query(&sql, params![&session, &workspace, after, limit])?;
            rows.into_iter().map(resource).collect()
        })
        .await
    }

    /// All resources of a session in the order of attachment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resources(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
    ) -> Result<Vec<ResourceRow>, StoreError> {
        let (workspace, session) = (workspace.clone(), session.clone());
        self.look_up(move |tx| {
            let sql = format!("SELECT {COLUMNS} {OWNED} ORDER BY r.position");
            let rows = tx.query(&sql, params![&session, &workspace])?;
            rows.into_iter().map(resource).collect()
        })
        .await
    }

    /// All resources of several sessions of one workspace (a page of them), each session's in the
    /// order of attachment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resources_of(
        &self,
        workspace: &WorkspaceId,
        sessions: Vec<SessionId>,
    ) -> Result<Vec<ResourceRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut rows = Vec::new();
            for sessions in sessions.chunks(100) {
                let mut f = Filter::default();
                f.one_of("r.session_id", sessions.iter().map(Value::from));
                f.and("s.workspace_id = {}", [Value::from(&workspace)]);
                let sql = format!(
                    "SELECT {COLUMNS} FROM session_resource r JOIN session s ON s.id = r.session_id
                     WHERE {} ORDER BY r.session_id, r.position",
                    f.text()
                );
                for row in tx.query(&sql, &f.params)? {
                    rows.push(resource(row)?);
                }
            }
            Ok(rows)
        })
        .await
    }

    /// One resource.
    ///
    /// # Errors
    /// The store failed.
    pub async fn resource(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        id: &SessionResourceId,
    ) -> Result<Option<ResourceRow>, StoreError> {
        let (workspace, session, id) = (workspace.clone(), session.clone(), id.clone());
        self.read(move |tx| {
            let sql = format!("SELECT {COLUMNS} {OWNED} AND r.id = ?3");
            let row = one(tx.query(&sql, params![&session, &workspace, &id])?);
            row.map(resource).transpose()
        })
        .await
    }

    /// Replaces a resource's body. `None` if there is no such resource.
    ///
    /// # Errors
    /// The store failed.
    pub async fn update_resource(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        id: &SessionResourceId,
        body: String,
    ) -> Result<Option<ResourceRow>, StoreError> {
        let (workspace, session, id) = (workspace.clone(), session.clone(), id.clone());
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "UPDATE session_resource SET body = ?4, updated_at = ?5
                 WHERE session_id = ?1 AND id = ?3
                   AND EXISTS (SELECT 1 FROM session s WHERE s.id = ?1 AND s.workspace_id = ?2)
                 RETURNING {}",
                COLUMNS.replace("r.", "")
            );
            let row = one(tx.query(&sql, params![&session, &workspace, &id, &body, now])?);
            row.map(resource).transpose()
        })
        .await
    }

    /// Detaches a resource and deletes the session's copy of its file. Gives whether there was one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_resource(
        &self,
        workspace: &WorkspaceId,
        session: &SessionId,
        id: &SessionResourceId,
    ) -> Result<bool, StoreError> {
        let (workspace, session, id) = (workspace.clone(), session.clone(), id.clone());
        let (found, freed) = self
            .write(move |tx| {
                let deleted = tx.query(
                    "DELETE FROM session_resource WHERE session_id = ?1 AND id = ?3
                       AND EXISTS (SELECT 1 FROM session s WHERE s.id = ?1 AND s.workspace_id = ?2)
                     RETURNING file_id",
                    params![&session, &workspace, &id],
                )?;
                let Some(mut row) = one(deleted) else {
                    return Ok((false, Vec::new()));
                };
                let copy: Option<FileId> = row.opt_id("resource file")?;
                let sql = "DELETE FROM file WHERE id = ?1 AND scope_session = ?2 RETURNING blob";
                let freed = tx.query(sql, params![copy.as_ref(), &session])?;
                let freed = freed.into_iter().map(|mut row| row.text("file blob"));
                Ok::<_, StoreError>((true, freed.collect::<Result<Vec<_>, _>>()?))
            })
            .await?;
        self.drop_blobs(&freed).await;
        Ok(found)
    }

    /// The files a session's sandbox shows, as mount path and blob key, in the order of attachment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_uploads(
        &self,
        session: &SessionId,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let session = session.clone();
        self.read(move |tx| {
            let sql = "SELECT r.mount_path, f.blob FROM session_resource r
               JOIN file f ON f.id = r.file_id
               WHERE r.session_id = ?1 AND r.mount_path IS NOT NULL ORDER BY r.position";
            let rows = tx.query(sql, params![&session])?.into_iter();
            rows.map(|mut row| Ok((row.text("mount path")?, row.text("file blob")?)))
                .collect()
        })
        .await
    }
}
