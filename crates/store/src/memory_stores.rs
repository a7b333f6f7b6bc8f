//! Memory stores (contract 74 §1). A body is JSON that this crate does not read; id and times stand
//! beside it and are the truth.

use freehold_base::{MemoryStoreId, SessionId, Timestamp, WorkspaceId};

use crate::backend::{Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// A memory store to be made.
#[derive(Debug, Clone)]
pub struct NewMemoryStore {
    /// Its id.
    pub id: MemoryStoreId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The rest, JSON.
    pub body: String,
}

/// A memory store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryStoreRow {
    /// Its id.
    pub id: MemoryStoreId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The rest, JSON.
    pub body: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed; rises strictly. Memories do not count.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Which memory stores to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct MemoryStoreQuery {
    /// Archived ones too.
    pub include_archived: bool,
    /// Made at or after.
    pub from: Option<Timestamp>,
    /// Made at or before.
    pub until: Option<Timestamp>,
    /// Only after this one.
    pub after: Option<(Timestamp, MemoryStoreId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why a memory store was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateMemoryStoreError {
    /// No such store in the workspace.
    #[error("no such memory store")]
    NotFound,
    /// The store is archived.
    #[error("the memory store is archived")]
    Archived,
    /// Somebody changed it since the caller looked.
    #[error("the memory store was changed meanwhile")]
    Conflict,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// A store as it is attached to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedMemoryStore {
    /// Which store; it may be gone.
    pub store: MemoryStoreId,
    /// Where it is mounted.
    pub mount_path: String,
    /// The attachment's body, JSON.
    pub body: String,
}

const COLUMNS: &str = "id, workspace_id, body, created_at, updated_at, archived_at";

fn memory_store(mut row: Row) -> Result<MemoryStoreRow, StoreError> {
    Ok(MemoryStoreRow {
        id: row.id("memory store id")?,
        workspace_id: row.id("memory store workspace")?,
        body: row.text("memory store")?,
        created_at: row.time("memory store time")?,
        updated_at: row.time("memory store time")?,
        archived_at: row.opt_time("memory store time")?,
    })
}

pub(crate) fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &MemoryStoreId,
) -> Result<Option<MemoryStoreRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM memory_store WHERE id = ?1 AND workspace_id = ?2");
    one(tx.query(&sql, params![id, workspace])?)
        .map(memory_store)
        .transpose()
}

impl Store {
    /// Makes a memory store.
    ///
    /// # Errors
    /// The store failed.
    pub async fn create_memory_store(
        &self,
        new: NewMemoryStore,
    ) -> Result<MemoryStoreRow, StoreError> {
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "INSERT INTO memory_store (id, workspace_id, body, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?4)",
                params![&new.id, &new.workspace_id, &new.body, now],
            )?;
            Ok(MemoryStoreRow {
                id: new.id.clone(),
                workspace_id: new.workspace_id.clone(),
                body: new.body.clone(),
                created_at: now,
                updated_at: now,
                archived_at: None,
            })
        })
        .await
    }

    /// Replaces the body, if the row still has the `updated_at` that the caller looked at.
    ///
    /// # Errors
    /// See [`UpdateMemoryStoreError`].
    pub async fn update_memory_store(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
        expected: Timestamp,
        body: String,
    ) -> Result<MemoryStoreRow, UpdateMemoryStoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "UPDATE memory_store SET body = ?3,
                   updated_at = CASE WHEN updated_at < ?4 THEN ?4 ELSE updated_at + 1 END
                 WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL AND updated_at = ?5
                 RETURNING {COLUMNS}"
            );
            match one(tx.query(&sql, params![&id, &workspace, &body, now, expected])?) {
                Some(row) => Ok(memory_store(row)?),
                None => Err(match get(tx, &workspace, &id)? {
                    None => UpdateMemoryStoreError::NotFound,
                    Some(row) if row.archived_at.is_some() => UpdateMemoryStoreError::Archived,
                    Some(_) => UpdateMemoryStoreError::Conflict,
                }),
            }
        })
        .await
    }

    /// Archives a memory store for good; again changes nothing. `None` if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_memory_store(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
    ) -> Result<Option<MemoryStoreRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "UPDATE memory_store SET archived_at = ?3,
                   updated_at = CASE WHEN updated_at < ?3 THEN ?3 ELSE updated_at + 1 END
                 WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL",
                params![&id, &workspace, now],
            )?;
            get(tx, &workspace, &id)
        })
        .await
    }

    /// Deletes a memory store with its memories and their versions; sessions it is attached to go
    /// on without it. Gives whether there was one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_memory_store(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
    ) -> Result<bool, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            if get(tx, &workspace, &id)?.is_none() {
                return Ok(false);
            }
            for table in ["memory", "memory_version"] {
                let sql = format!("DELETE FROM {table} WHERE store_id = ?1");
                tx.execute(&sql, params![&id])?;
            }
            tx.execute("DELETE FROM memory_store WHERE id = ?1", params![&id])?;
            Ok::<_, StoreError>(true)
        })
        .await
    }

    /// One memory store.
    ///
    /// # Errors
    /// The store failed.
    pub async fn memory_store(
        &self,
        workspace: &WorkspaceId,
        id: &MemoryStoreId,
    ) -> Result<Option<MemoryStoreRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| get(tx, &workspace, &id)).await
    }

    /// Lists memory stores; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_memory_stores(
        &self,
        workspace: &WorkspaceId,
        q: MemoryStoreQuery,
    ) -> Result<Vec<MemoryStoreRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            if !q.include_archived {
                f.fixed("archived_at IS NULL");
            }
            f.maybe("created_at >= {}", q.from);
            f.maybe("created_at <= {}", q.until);
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM memory_store {page}");
            tx.query(&sql, &f.params)?
                .into_iter()
                .map(memory_store)
                .collect()
        })
        .await
    }

    /// The memory stores attached to a session, in the order of attachment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_memory_stores(
        &self,
        session: &SessionId,
    ) -> Result<Vec<AttachedMemoryStore>, StoreError> {
        let session = session.clone();
        self.read(move |tx| {
            let sql = "SELECT memory_store_id, mount_path, body FROM session_resource
               WHERE session_id = ?1 AND memory_store_id IS NOT NULL ORDER BY position";
            let rows = tx.query(sql, params![&session])?.into_iter();
            rows.map(|mut row| {
                Ok(AttachedMemoryStore {
                    store: row.id("memory store id")?,
                    mount_path: row.text("mount path")?,
                    body: row.text("resource")?,
                })
            })
            .collect()
        })
        .await
    }
}
