//! `/v1/memory_stores/{id}/memories` (contract 74 §2).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{MemoryId, MemoryStoreId, limits};
use freehold_store::{
    MemoryChange, MemoryEntry, MemoryQuery, MemoryRemoval, MemoryRow, NewMemory, WriteMemoryError,
};
use freehold_wire::cursor::Position;
use freehold_wire::list::{ListMemories, view};
use freehold_wire::memory::{
    CreateMemory, Memory, MemoryItem, MemoryPrefix, MemoryPrefixTag, MemoryTag, UpdateMemory, View,
    check_path, sha256,
};
use freehold_wire::query::error;
use freehold_wire::{ApiError, Deleted, ErrorKind, Page, parse};

use super::memory_stores::{archived, missing, reach};
use super::query::Asked;
use crate::app::App;
use crate::auth::Principal;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// `POST /v1/memory_stores/{id}/memories`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(store): Path<String>,
    Asked(query): Asked,
    Payload(body): Payload,
) -> Reply {
    let (store, actor) = reach(&app, &principal, &store).await?.writer()?;
    let view = view(&query, View::Basic)?;
    let request: CreateMemory = parse(&body)?;
    let new = NewMemory {
        id: app.ids.next(),
        version_id: app.ids.next(),
        path: request.path.clone(),
        content: request.content,
        actor,
    };
    match app
        .store
        .create_memory(&principal.workspace, &store, new)
        .await
    {
        Ok(row) => json(&shown(row, view)),
        Err(error) => Err(refused(error, &store, "", &request.path)),
    }
}

/// `GET /v1/memory_stores/{id}/memories`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let store = reach(&app, &principal, &id).await?.store.id;
    let asked = ListMemories::read(&query, &store)?;
    let after = asked
        .page
        .map(|page| match page.position {
            Position::Path(path) if check_path(path.trim_end_matches('/')).is_ok() => Ok(path),
            _ => Err(error("page", "not a valid page cursor")),
        })
        .transpose()?;
    let query = MemoryQuery {
        prefix: asked.path_prefix,
        folded: asked.folded,
        content: asked.view == View::Full,
        after,
        limit: asked.limit,
    };
    let found = app.store.list_memories(&principal.workspace, &store, query);
    let mut entries = found.await?.ok_or_else(|| missing(&id))?;
    let more = entries.len() > asked.limit;
    entries.truncate(asked.limit);
    let next_page = entries.last().filter(|_| more).map(|last| {
        let path = match last {
            MemoryEntry::Memory(row) => row.path.clone(),
            MemoryEntry::Prefix(path) => path.clone(),
        };
        ListMemories::scope(&store).next(Position::Path(path))
    });
    let data = entries.into_iter().map(|entry| match entry {
        MemoryEntry::Memory(row) => MemoryItem::Memory(Box::new(shown(*row, asked.view))),
        MemoryEntry::Prefix(path) => MemoryItem::Prefix(MemoryPrefix {
            r#type: MemoryPrefixTag::MemoryPrefix,
            path,
        }),
    });
    json(&Page {
        data: data.collect(),
        next_page,
    })
}

/// `GET /v1/memory_stores/{id}/memories/{memory}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path((store, id)): Path<(String, String)>,
    Asked(query): Asked,
) -> Reply {
    let store = reach(&app, &principal, &store).await?.store.id;
    let view = view(&query, View::Full)?;
    let parsed = path_id("Memory", &id)?;
    let row = app
        .store
        .memory(&principal.workspace, &store, &parsed)
        .await?;
    json(&shown(row.ok_or_else(|| no_memory(&id))?, view))
}

/// `POST` or `PATCH /v1/memory_stores/{id}/memories/{memory}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path((store, id)): Path<(String, String)>,
    Asked(query): Asked,
    Payload(body): Payload,
) -> Reply {
    let (store, actor) = reach(&app, &principal, &store).await?.writer()?;
    let view = view(&query, View::Basic)?;
    let request: UpdateMemory = parse(&body)?;
    let parsed: MemoryId = path_id("Memory", &id)?;
    let wanted = request.path.clone().unwrap_or_default();
    let change = MemoryChange {
        version_id: app.ids.next(),
        path: request.path,
        content: request.content,
        expected_sha256: request.expected_sha256,
        actor,
    };
    match app
        .store
        .update_memory(&principal.workspace, &store, &parsed, change)
        .await
    {
        Ok(row) => json(&shown(row, view)),
        Err(error) => Err(refused(error, &store, &id, &wanted)),
    }
}

/// `DELETE /v1/memory_stores/{id}/memories/{memory}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path((store, id)): Path<(String, String)>,
    Asked(query): Asked,
) -> Reply {
    let (store, actor) = reach(&app, &principal, &store).await?.writer()?;
    let parsed: MemoryId = path_id("Memory", &id)?;
    let expected = query.text("expected_content_sha256")?;
    if let Some(text) = expected {
        sha256(text).map_err(|problem| error("expected_content_sha256", problem))?;
    }
    let removal = MemoryRemoval {
        version_id: app.ids.next(),
        expected_sha256: expected.map(str::to_owned),
        actor,
    };
    match app
        .store
        .delete_memory(&principal.workspace, &store, &parsed, removal)
        .await
    {
        Ok(()) => json(&Deleted {
            id,
            r#type: "memory_deleted",
        }),
        Err(error) => Err(refused(error, &store, &id, "")),
    }
}

fn shown(row: MemoryRow, view: View) -> Memory {
    Memory {
        r#type: MemoryTag::Memory,
        id: row.id,
        memory_store_id: row.store_id,
        memory_version_id: row.version_id,
        path: row.path,
        content: row.content.filter(|_| view == View::Full),
        content_sha256: row.sha256,
        content_size_bytes: row.size,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }
}

fn no_memory(id: &str) -> ApiError {
    ApiError::not_found("Memory", id)
}

/// Why a memory was not written to the path that was wanted.
fn refused(error: WriteMemoryError, store: &MemoryStoreId, id: &str, wanted: &str) -> Fail {
    match error {
        WriteMemoryError::StoreNotFound => missing(store.as_str()).into(),
        WriteMemoryError::NotFound => no_memory(id).into(),
        WriteMemoryError::Archived => archived(store).into(),
        WriteMemoryError::Full => ApiError::invalid(format!(
            "the memory store holds {} memories, as many as it may; delete some first",
            limits::MAX_MEMORIES
        ))
        .with_code("memory_limit_exceeded")
        .into(),
        WriteMemoryError::PathTaken { memory, path } => {
            let message = if path == wanted {
                "path: another memory has this path"
            } else {
                "path: a memory cannot stand above or below another one's path"
            };
            ApiError::new(ErrorKind::MemoryPathConflict, message)
                .with_field("conflicting_memory_id", memory.as_str().into())
                .with_field("conflicting_path", path.into())
                .into()
        }
        WriteMemoryError::Precondition => ApiError::new(
            ErrorKind::MemoryPreconditionFailed,
            "the memory's content does not have the expected SHA-256; read it again",
        )
        .into(),
        WriteMemoryError::Store(error) => error.into(),
    }
}
