//! Memories (contract 74 §2). Every change writes a version; the content stands there.

use freehold_base::{MemoryId, MemoryStoreId, MemoryVersionId, Timestamp, WorkspaceId, limits};
use freehold_wire::memory_version::{Actor, Operation};
use sha2::{Digest, Sha256};

use crate::backend::{Row, Tx, Value, one, params};
use crate::memory_stores;
use crate::memory_versions::{Content, NewVersion, write_version};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// A memory to be made.
#[derive(Debug, Clone)]
pub struct NewMemory {
    /// Its id.
    pub id: MemoryId,
    /// The id of its first version.
    pub version_id: MemoryVersionId,
    /// Where; checked by the caller.
    pub path: String,
    /// What.
    pub content: String,
    /// By whom.
    pub actor: Actor,
}

/// A change of a memory.
#[derive(Debug, Clone)]
pub struct MemoryChange {
    /// The id of the version that records it.
    pub version_id: MemoryVersionId,
    /// The new path; checked by the caller.
    pub path: Option<String>,
    /// The new content.
    pub content: Option<String>,
    /// Only if the content has this SHA-256.
    pub expected_sha256: Option<String>,
    /// By whom.
    pub actor: Actor,
}

/// The end of a memory.
#[derive(Debug, Clone)]
pub struct MemoryRemoval {
    /// The id of the version that records it.
    pub version_id: MemoryVersionId,
    /// Only if the content has this SHA-256.
    pub expected_sha256: Option<String>,
    /// By whom.
    pub actor: Actor,
}

/// A memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryRow {
    /// Its id.
    pub id: MemoryId,
    /// Its store.
    pub store_id: MemoryStoreId,
    /// The version it is at.
    pub version_id: MemoryVersionId,
    /// Where.
    pub path: String,
    /// What, where it was asked for.
    pub content: Option<String>,
    /// SHA-256 of the content.
    pub sha256: String,
    /// Bytes of the content.
    pub size: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed; rises strictly.
    pub updated_at: Timestamp,
}

/// Which memories to list, by path.
#[derive(Debug, Clone)]
pub struct MemoryQuery {
    /// Only below this folder; ends in `/`.
    pub prefix: String,
    /// Deeper memories are folded into prefixes.
    pub folded: bool,
    /// With their content.
    pub content: bool,
    /// Only after this path, or with a `/` at its end after all that is below it.
    pub after: Option<String>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// What a list of memories holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemoryEntry {
    /// A memory.
    Memory(Box<MemoryRow>),
    /// A folder with memories in it; ends in `/`.
    Prefix(String),
}

/// Why a memory was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteMemoryError {
    /// No such store in the workspace.
    #[error("no such memory store")]
    StoreNotFound,
    /// No such memory in the store.
    #[error("no such memory")]
    NotFound,
    /// The store is archived.
    #[error("the memory store is archived")]
    Archived,
    /// The store holds [`limits::MAX_MEMORIES`] memories.
    #[error("the memory store is full")]
    Full,
    /// Another memory has the path, or one above or below it.
    #[error("the path is taken")]
    PathTaken {
        /// Whose.
        memory: MemoryId,
        /// Where that one is.
        path: String,
    },
    /// The content is not what the caller expected.
    #[error("the content was changed meanwhile")]
    Precondition,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// SHA-256 of a content, in hexadecimal digits.
fn sha256(content: &str) -> String {
    freehold_base::hex::encode(Sha256::digest(content))
}

const COLUMNS: &str = "m.id, m.store_id, m.version_id, m.path, m.sha256, m.size, m.created_at, \
   m.updated_at";

fn memory(mut row: Row, content: bool) -> Result<MemoryRow, StoreError> {
    Ok(MemoryRow {
        id: row.id("memory id")?,
        store_id: row.id("memory store id")?,
        version_id: row.id("memory version id")?,
        path: row.text("memory path")?,
        sha256: row.text("memory hash")?,
        size: row.count("memory size")?,
        created_at: row.time("memory time")?,
        updated_at: row.time("memory time")?,
        content: if content {
            row.opt_utf8("memory content")?
        } else {
            None
        },
    })
}

/// A memory with its content.
fn get(
    tx: &mut dyn Tx,
    store: &MemoryStoreId,
    id: &MemoryId,
) -> Result<Option<MemoryRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, v.content FROM memory m JOIN memory_version v ON v.id = m.version_id
         WHERE m.id = ?1 AND m.store_id = ?2"
    );
    one(tx.query(&sql, params![id, store])?)
        .map(|row| memory(row, true))
        .transpose()
}

/// The store is there; `open`: and not archived.
fn check_store(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    store: &MemoryStoreId,
    open: bool,
) -> Result<(), WriteMemoryError> {
    match memory_stores::get(tx, workspace, store)? {
        None => Err(WriteMemoryError::StoreNotFound),
        Some(row) if open && row.archived_at.is_some() => Err(WriteMemoryError::Archived),
        Some(_) => Ok(()),
    }
}

/// No other memory is at the path, above it or below it.
fn check_free(
    tx: &mut dyn Tx,
    store: &MemoryStoreId,
    path: &str,
    except: &MemoryId,
) -> Result<(), WriteMemoryError> {
    let mut f = Filter::default();
    f.and("store_id = {}", [Value::from(store)]);
    f.and("id <> {}", [Value::from(except)]);
    let above = path.match_indices('/').skip(1).map(|(end, _)| &path[..end]);
    f.one_of("path", above.chain([path]).map(Value::from));
    let sql = format!("SELECT id, path FROM memory WHERE {} LIMIT 1", f.text());
    let mut taken = one(tx.query(&sql, &f.params)?);
    if taken.is_none() {
        let (from, until) = range(&format!("{path}/"));
        let sql = "SELECT id, path FROM memory
           WHERE store_id = ?1 AND path > ?2 AND path < ?3 AND id <> ?4 ORDER BY path LIMIT 1";
        taken = one(tx.query(sql, params![store, &from, &until, except])?);
    }
    match taken {
        None => Ok(()),
        Some(mut row) => Err(WriteMemoryError::PathTaken {
            memory: row.id("memory id")?,
            path: row.text("memory path")?,
        }),
    }
}

/// Paths below a folder are greater than the first and less than the second: `0` follows `/`.
fn range(folder: &str) -> (String, String) {
    let end = folder.strip_suffix('/').unwrap_or(folder);
    (folder.to_owned(), format!("{end}0"))
}

impl Store {
    /// Makes a memory.
    ///
    /// # Errors
    /// See [`WriteMemoryError`].
    pub async fn create_memory(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        new: NewMemory,
    ) -> Result<MemoryRow, WriteMemoryError> {
        let (workspace, store) = (workspace.clone(), store.clone());
        self.write(move |tx| {
            check_store(tx, &workspace, &store, true)?;
            check_free(tx, &store, &new.path, &new.id)?;
            let sql = "SELECT COUNT(*) FROM memory WHERE store_id = ?1";
            let held =
                one(tx.query(sql, params![&store])?).map_or(Ok(0), |mut r| r.count("count"))?;
            if limits::MAX_MEMORIES as u64 <= held {
                return Err(WriteMemoryError::Full);
            }
            let now = tx.now();
            let row = MemoryRow {
                id: new.id.clone(),
                store_id: store.clone(),
                version_id: new.version_id.clone(),
                path: new.path.clone(),
                sha256: sha256(&new.content),
                size: new.content.len() as u64,
                content: Some(new.content.clone()),
                created_at: now,
                updated_at: now,
            };
            tx.execute(
                "INSERT INTO memory (id, store_id, path, version_id, sha256, size, created_at,
                   updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
                params![
                    &row.id,
                    &store,
                    &row.path,
                    &row.version_id,
                    &row.sha256,
                    row.size,
                    now
                ],
            )?;
            version(tx, &row, Operation::Created, &new.actor)?;
            Ok(row)
        })
        .await
    }

    /// Changes a memory's path, content or both. Nothing is written if it is as asked for already,
    /// and then the precondition does not matter either.
    ///
    /// # Errors
    /// See [`WriteMemoryError`].
    pub async fn update_memory(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        id: &MemoryId,
        change: MemoryChange,
    ) -> Result<MemoryRow, WriteMemoryError> {
        let (workspace, store, id) = (workspace.clone(), store.clone(), id.clone());
        self.write(move |tx| {
            check_store(tx, &workspace, &store, true)?;
            let before = get(tx, &store, &id)?.ok_or(WriteMemoryError::NotFound)?;
            let mut after = before.clone();
            if let Some(path) = &change.path {
                after.path = path.clone();
            }
            if let Some(content) = &change.content {
                after.sha256 = sha256(content);
                after.size = content.len() as u64;
                after.content = Some(content.clone());
            }
            let expected = change.expected_sha256.as_ref();
            let met = expected.is_none_or(|sha| *sha == before.sha256);
            // A repeated request whose first answer was lost finds its own work.
            let done = after == before && (met || change.content.is_some());
            if done {
                return Ok(before);
            }
            if !met {
                return Err(WriteMemoryError::Precondition);
            }
            if after.path != before.path {
                check_free(tx, &store, &after.path, &id)?;
            }
            after.version_id = change.version_id.clone();
            after.updated_at = later(tx.now(), before.updated_at);
            tx.execute(
                "UPDATE memory SET path = ?2, version_id = ?3, sha256 = ?4, size = ?5,
                   updated_at = ?6 WHERE id = ?1",
                params![
                    &id,
                    &after.path,
                    &after.version_id,
                    &after.sha256,
                    after.size,
                    after.updated_at
                ],
            )?;
            version(tx, &after, Operation::Modified, &change.actor)?;
            Ok(after)
        })
        .await
    }

    /// Deletes a memory, also from an archived store; its versions stay.
    ///
    /// # Errors
    /// See [`WriteMemoryError`].
    pub async fn delete_memory(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        id: &MemoryId,
        removal: MemoryRemoval,
    ) -> Result<(), WriteMemoryError> {
        let (workspace, store, id) = (workspace.clone(), store.clone(), id.clone());
        self.write(move |tx| {
            check_store(tx, &workspace, &store, false)?;
            let before = get(tx, &store, &id)?.ok_or(WriteMemoryError::NotFound)?;
            let expected = removal.expected_sha256.as_ref();
            if expected.is_some_and(|sha| *sha != before.sha256) {
                return Err(WriteMemoryError::Precondition);
            }
            tx.execute("DELETE FROM memory WHERE id = ?1", params![&id])?;
            let end = MemoryRow {
                version_id: removal.version_id.clone(),
                updated_at: later(tx.now(), before.updated_at),
                content: None,
                ..before
            };
            version(tx, &end, Operation::Deleted, &removal.actor)?;
            Ok(())
        })
        .await
    }

    /// One memory with its content.
    ///
    /// # Errors
    /// The store failed.
    pub async fn memory(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        id: &MemoryId,
    ) -> Result<Option<MemoryRow>, StoreError> {
        let (workspace, store, id) = (workspace.clone(), store.clone(), id.clone());
        self.read(
            move |tx| match memory_stores::get(tx, &workspace, &store)? {
                Some(_) => get(tx, &store, &id),
                None => Ok(None),
            },
        )
        .await
    }

    /// Lists memories by path; up to `limit + 1` entries. `None` if there is no such store.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_memories(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        q: MemoryQuery,
    ) -> Result<Option<Vec<MemoryEntry>>, StoreError> {
        let (workspace, store) = (workspace.clone(), store.clone());
        self.read(move |tx| {
            if memory_stores::get(tx, &workspace, &store)?.is_none() {
                return Ok(None);
            }
            let wanted = q.limit.saturating_add(1);
            let mut entries = Vec::new();
            let mut after = q.after.clone();
            while entries.len() < wanted {
                // Without folding one statement gives them all.
                let limit = if q.folded { 1 } else { wanted };
                let rows = page(tx, &store, &q, after.as_deref(), limit)?;
                if rows.is_empty() {
                    break;
                }
                for row in rows {
                    let below = row.path.get(q.prefix.len()..).unwrap_or_default();
                    let entry = match below.split_once('/') {
                        Some((folder, _)) if q.folded => {
                            let prefix = format!("{}{folder}/", q.prefix);
                            after = Some(prefix.clone());
                            MemoryEntry::Prefix(prefix)
                        }
                        _ => {
                            after = Some(row.path.clone());
                            MemoryEntry::Memory(Box::new(row))
                        }
                    };
                    entries.push(entry);
                }
                if !q.folded {
                    break;
                }
            }
            Ok(Some(entries))
        })
        .await
    }
}

/// The next memories below the prefix.
fn page(
    tx: &mut dyn Tx,
    store: &MemoryStoreId,
    q: &MemoryQuery,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<MemoryRow>, StoreError> {
    let (mut from, until) = range(&q.prefix);
    let mut greater = ">";
    if let Some(after) = after {
        let start = if after.ends_with('/') {
            range(after).1
        } else {
            after.to_owned()
        };
        if from < start {
            // Past a folder nothing is to be left out: `/a0` may itself be a memory.
            greater = if after.ends_with('/') { ">=" } else { ">" };
            from = start;
        }
    }
    let (content, join) = if q.content {
        (
            ", v.content",
            "JOIN memory_version v ON v.id = m.version_id",
        )
    } else {
        ("", "")
    };
    let sql = format!(
        "SELECT {COLUMNS}{content} FROM memory m {join}
         WHERE m.store_id = ?1 AND m.path {greater} ?2 AND m.path < ?3 ORDER BY m.path LIMIT ?4"
    );
    let rows = tx.query(&sql, params![store, &from, &until, limit])?;
    rows.into_iter().map(|row| memory(row, q.content)).collect()
}

fn version(
    tx: &mut dyn Tx,
    row: &MemoryRow,
    operation: Operation,
    actor: &Actor,
) -> Result<(), StoreError> {
    let content = match (operation, &row.content) {
        (Operation::Deleted, _) | (_, None) => None,
        (_, Some(text)) => Some(Content {
            text,
            sha256: &row.sha256,
        }),
    };
    write_version(
        tx,
        NewVersion {
            id: &row.version_id,
            store: &row.store_id,
            memory: &row.id,
            operation,
            path: &row.path,
            content,
            at: row.updated_at,
            actor,
        },
    )
}

/// A time after the last one, though clocks may stand or go back.
fn later(now: Timestamp, last: Timestamp) -> Timestamp {
    now.max(Timestamp::from_micros(last.as_micros() + 1))
}
