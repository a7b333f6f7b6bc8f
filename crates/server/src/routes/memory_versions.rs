//! `/v1/memory_stores/{id}/memory_versions` (contract 74 §3).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_store::{MemoryVersionQuery, MemoryVersionRow, RedactError};
use freehold_wire::cursor::Position;
use freehold_wire::list::{ListMemoryVersions, view};
use freehold_wire::memory::View;
use freehold_wire::memory_version::{Actor, MemoryVersion, MemoryVersionTag};
use freehold_wire::{ApiError, Page};

use super::memory_stores::{find, missing, reach};
use super::query::{Asked, created_position};
use crate::app::App;
use crate::auth::{Caller, Principal};
use crate::http::{Reply, json, path_id};

/// `GET /v1/memory_stores/{id}/memory_versions`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let store = reach(&app, &principal, &id).await?.store.id;
    let asked = ListMemoryVersions::read(&query, &store)?;
    let query = MemoryVersionQuery {
        memory: asked.memory_id,
        operation: asked.operation,
        session: asked.session_id,
        api_key: asked.api_key_id,
        service_account: asked.service_account_id,
        from: asked.created_at.gte,
        until: asked.created_at.lte,
        content: asked.view == View::Full,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let found = app
        .store
        .list_memory_versions(&principal.workspace, &store, query);
    let mut rows = found.await?.ok_or_else(|| missing(&id))?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let position = Position::Created(last.created_at.as_micros(), last.id.to_string());
        ListMemoryVersions::scope(&store).next(position)
    });
    let data = rows.into_iter().map(|row| shown(row, asked.view)).collect();
    json(&Page { data, next_page })
}

/// `GET /v1/memory_stores/{id}/memory_versions/{version}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path((store, id)): Path<(String, String)>,
    Asked(query): Asked,
) -> Reply {
    let store = reach(&app, &principal, &store).await?.store.id;
    let view = view(&query, View::Full)?;
    let parsed = path_id("Memory version", &id)?;
    let row = app
        .store
        .memory_version(&principal.workspace, &store, &parsed)
        .await?;
    json(&shown(row.ok_or_else(|| no_version(&id))?, view))
}

/// `POST /v1/memory_stores/{id}/memory_versions/{version}/redact`: by API key only, so that no agent
/// clears the record of what it wrote.
pub(crate) async fn redact(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((store, id)): Path<(String, String)>,
) -> Reply {
    let store = find(&app, &caller.workspace, &store).await?.id;
    let parsed = path_id("Memory version", &id)?;
    let by = Actor::ApiActor {
        api_key_id: caller.key,
    };
    match app
        .store
        .redact_memory_version(&caller.workspace, &store, &parsed, by)
        .await
    {
        Ok(row) => json(&shown(row, View::Full)),
        Err(RedactError::NotFound) => Err(no_version(&id).into()),
        Err(RedactError::Current) => Err(ApiError::invalid(
            "a memory is at this version; change or delete the memory first",
        )
        .into()),
        Err(RedactError::Store(error)) => Err(error.into()),
    }
}

fn shown(row: MemoryVersionRow, view: View) -> MemoryVersion {
    MemoryVersion {
        r#type: MemoryVersionTag::MemoryVersion,
        id: row.id,
        memory_store_id: row.store_id,
        memory_id: row.memory_id,
        operation: row.operation,
        path: row.path,
        content: row.content.filter(|_| view == View::Full),
        content_sha256: row.sha256,
        content_size_bytes: row.size,
        created_at: row.created_at,
        created_by: row.actor,
        redacted_at: row.redacted_at,
        redacted_by: row.redactor,
    }
}

fn no_version(id: &str) -> ApiError {
    ApiError::not_found("Memory version", id)
}
