//! Versions of memories (contract 74 §3). They outlive their memory and go with their store.

use freehold_base::{
    ApiKeyId, MemoryId, MemoryStoreId, MemoryVersionId, SessionId, Timestamp, WorkspaceId,
};
use freehold_wire::memory_version::{Actor, Operation};

use crate::backend::{Row, Tx, Value, one, params};
use crate::memory_stores;
use crate::sql::Filter;
use crate::{Store, StoreError};

/// A version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryVersionRow {
    /// Its id.
    pub id: MemoryVersionId,
    /// Its store.
    pub store_id: MemoryStoreId,
    /// Its memory, which may be gone.
    pub memory_id: MemoryId,
    /// What it records.
    pub operation: Operation,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub actor: Option<Actor>,
    /// When it was redacted.
    pub redacted_at: Option<Timestamp>,
    /// By whom.
    pub redactor: Option<Actor>,
    /// Where the memory was, unless redacted.
    pub path: Option<String>,
    /// SHA-256 of the content, unless deleted or redacted.
    pub sha256: Option<String>,
    /// Bytes of the content, unless deleted or redacted.
    pub size: Option<u64>,
    /// The content, where it was asked for, unless deleted or redacted.
    pub content: Option<String>,
}

/// Which versions to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct MemoryVersionQuery {
    /// Of this memory.
    pub memory: Option<MemoryId>,
    /// Of this kind.
    pub operation: Option<Operation>,
    /// Written by this session.
    pub session: Option<SessionId>,
    /// Written with this key.
    pub api_key: Option<ApiKeyId>,
    /// Written by this service account.
    pub service_account: Option<String>,
    /// Made at or after.
    pub from: Option<Timestamp>,
    /// Made at or before.
    pub until: Option<Timestamp>,
    /// With their content.
    pub content: bool,
    /// Only after this one.
    pub after: Option<(Timestamp, MemoryVersionId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why a version was not redacted.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// No such version in the store.
    #[error("no such memory version")]
    NotFound,
    /// A memory is at this version.
    #[error("the version is the current one of its memory")]
    Current,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

pub(crate) struct Content<'a> {
    pub(crate) text: &'a str,
    pub(crate) sha256: &'a str,
}

pub(crate) struct NewVersion<'a> {
    pub(crate) id: &'a MemoryVersionId,
    pub(crate) store: &'a MemoryStoreId,
    pub(crate) memory: &'a MemoryId,
    pub(crate) operation: Operation,
    pub(crate) path: &'a str,
    pub(crate) content: Option<Content<'a>>,
    pub(crate) at: Timestamp,
    pub(crate) actor: &'a Actor,
}

pub(crate) fn write_version(tx: &mut dyn Tx, new: NewVersion<'_>) -> Result<(), StoreError> {
    let (actor, actor_id) = columns(new.actor);
    let content = new.content.as_ref();
    tx.execute(
        "INSERT INTO memory_version (id, store_id, memory_id, operation, created_at, actor,
           actor_id, path, sha256, size, content)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            new.id,
            new.store,
            new.memory,
            new.operation.as_str(),
            new.at,
            actor,
            actor_id,
            new.path,
            content.map(|c| c.sha256),
            content.map(|c| c.text.len()),
            content.map(|c| c.text.as_bytes()),
        ],
    )
    .map(drop)
}

/// An actor's wire type and id.
fn columns(actor: &Actor) -> (&'static str, &str) {
    match actor {
        Actor::SessionActor { session_id } => ("session_actor", session_id.as_str()),
        Actor::ApiActor { api_key_id } => ("api_actor", api_key_id.as_str()),
        Actor::UserActor { user_id } => ("user_actor", user_id),
        Actor::ServiceAccountActor { service_account_id } => {
            ("service_account_actor", service_account_id)
        }
    }
}

fn actor(row: &mut Row) -> Result<Option<Actor>, StoreError> {
    let what = "memory version actor";
    let Some(kind) = row.opt_text(what)? else {
        row.opt_text(what)?;
        return Ok(None);
    };
    let corrupt = || StoreError::Corrupt { what };
    Ok(Some(match kind.as_str() {
        "session_actor" => Actor::SessionActor {
            session_id: row.id(what)?,
        },
        "api_actor" => Actor::ApiActor {
            api_key_id: row.id(what)?,
        },
        "user_actor" => Actor::UserActor {
            user_id: row.text(what)?,
        },
        "service_account_actor" => Actor::ServiceAccountActor {
            service_account_id: row.text(what)?,
        },
        _ => return Err(corrupt()),
    }))
}

const COLUMNS: &str = "id, store_id, memory_id, operation, created_at, actor, actor_id, \
   redacted_at, redactor, redactor_id, path, sha256, size";

fn version(mut row: Row, content: bool) -> Result<MemoryVersionRow, StoreError> {
    let what = "memory version";
    Ok(MemoryVersionRow {
        id: row.id(what)?,
        store_id: row.id(what)?,
        memory_id: row.id(what)?,
        operation: match row.text(what)?.as_str() {
            "created" => Operation::Created,
            "modified" => Operation::Modified,
            "deleted" => Operation::Deleted,
            _ => return Err(StoreError::Corrupt { what }),
        },
        created_at: row.time(what)?,
        actor: actor(&mut row)?,
        redacted_at: row.opt_time(what)?,
        redactor: actor(&mut row)?,
        path: row.opt_text(what)?,
        sha256: row.opt_text(what)?,
        size: row
            .opt_int(what)?
            .map(u64::try_from)
            .transpose()
            .map_err(|_| StoreError::Corrupt { what })?,
        content: if content { row.opt_utf8(what)? } else { None },
    })
}

fn get(
    tx: &mut dyn Tx,
    store: &MemoryStoreId,
    id: &MemoryVersionId,
) -> Result<Option<MemoryVersionRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS}, content FROM memory_version WHERE id = ?1 AND store_id = ?2");
    one(tx.query(&sql, params![id, store])?)
        .map(|row| version(row, true))
        .transpose()
}

impl Store {
    /// One version with its content.
    ///
    /// # Errors
    /// The store failed.
    pub async fn memory_version(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        id: &MemoryVersionId,
    ) -> Result<Option<MemoryVersionRow>, StoreError> {
        let (workspace, store, id) = (workspace.clone(), store.clone(), id.clone());
        self.read(
            move |tx| match memory_stores::get(tx, &workspace, &store)? {
                Some(_) => get(tx, &store, &id),
                None => Ok(None),
            },
        )
        .await
    }

    /// Lists versions; up to `limit + 1`. `None` if there is no such store.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_memory_versions(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        q: MemoryVersionQuery,
    ) -> Result<Option<Vec<MemoryVersionRow>>, StoreError> {
        let (workspace, store) = (workspace.clone(), store.clone());
        self.read(move |tx| {
            if memory_stores::get(tx, &workspace, &store)?.is_none() {
                return Ok(None);
            }
            let mut f = Filter::default();
            f.and("store_id = {}", [Value::from(&store)]);
            f.maybe("memory_id = {}", q.memory.as_ref());
            f.maybe("operation = {}", q.operation.map(Operation::as_str));
            let by = [
                ("session_actor", q.session.as_ref().map(Value::from)),
                ("api_actor", q.api_key.as_ref().map(Value::from)),
                (
                    "service_account_actor",
                    q.service_account.as_ref().map(Value::from),
                ),
            ];
            for (kind, id) in by {
                if let Some(id) = id {
                    f.and("actor = {} AND actor_id = {}", [kind.into(), id]);
                }
            }
            f.maybe("created_at >= {}", q.from);
            f.maybe("created_at <= {}", q.until);
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let content = if q.content { ", content" } else { "" };
            let sql = format!("SELECT {COLUMNS}{content} FROM memory_version {page}");
            let rows = tx.query(&sql, &f.params)?.into_iter();
            rows.map(|row| version(row, q.content))
                .collect::<Result<Vec<_>, _>>()
                .map(Some)
        })
        .await
    }

    /// Takes path and content out of a version for good; again changes nothing.
    ///
    /// # Errors
    /// See [`RedactError`].
    pub async fn redact_memory_version(
        &self,
        workspace: &WorkspaceId,
        store: &MemoryStoreId,
        id: &MemoryVersionId,
        by: Actor,
    ) -> Result<MemoryVersionRow, RedactError> {
        let (workspace, store, id) = (workspace.clone(), store.clone(), id.clone());
        self.write(move |tx| {
            if memory_stores::get(tx, &workspace, &store)?.is_none() {
                return Err(RedactError::NotFound);
            }
            let head = "SELECT 1 FROM memory_version v JOIN memory m ON m.id = v.memory_id
               WHERE v.id = ?1 AND m.version_id = ?1";
            if !tx.query(head, params![&id])?.is_empty() {
                return Err(RedactError::Current);
            }
            let now = tx.now();
            let (actor, actor_id) = columns(&by);
            tx.execute(
                "UPDATE memory_version SET path = NULL, content = NULL, sha256 = NULL,
                   size = NULL, redacted_at = ?3, redactor = ?4, redactor_id = ?5
                 WHERE id = ?1 AND store_id = ?2 AND redacted_at IS NULL",
                params![&id, &store, now, actor, actor_id],
            )?;
            get(tx, &store, &id)?.ok_or(RedactError::NotFound)
        })
        .await
    }
}
