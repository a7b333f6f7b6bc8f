//! `/v1/memory_stores` (contract 74 §1), and who may do what with the stores.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use freehold_base::{MemoryStoreId, WorkspaceId};
use freehold_store::{MemoryStoreQuery, MemoryStoreRow, NewMemoryStore, UpdateMemoryStoreError};
use freehold_wire::cursor::Position;
use freehold_wire::list::ListMemoryStores;
use freehold_wire::memory_store::{self, CreateMemoryStore, MemoryStore, UpdateMemoryStore};
use freehold_wire::memory_version::Actor;
use freehold_wire::resource::{Access, MemoryStoreResource};
use freehold_wire::{ApiError, Deleted, ErrorKind, Page, parse};

use super::query::{Asked, created_position, stored, to_json};
use crate::app::App;
use crate::auth::{Caller, Principal, Reach};
use crate::http::{Fail, Payload, Reply, json, path_id};

/// Times an update is made again on what somebody else left before it gives up.
const TRIES: usize = 8;
/// The two betas that these endpoints belong to: either may be named, not both (contract 74).
const BETAS: [&str; 2] = ["agent-memory-2026-07-22", "managed-agents-2026-04-01"];

/// Refuses a request that names both betas.
pub(crate) async fn check_betas(request: Request, next: Next) -> Result<Response, Fail> {
    let headers = request.headers().get_all("anthropic-beta");
    let named: Vec<&str> = headers
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    if BETAS.iter().all(|beta| named.contains(beta)) {
        return Err(ApiError::invalid(format!(
            "anthropic-beta: `{}` and `{}` cannot be combined; send the first alone",
            BETAS[0], BETAS[1]
        ))
        .into());
    }
    Ok(next.run(request).await)
}

/// `POST /v1/memory_stores`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Payload(body): Payload,
) -> Reply {
    let request: CreateMemoryStore = parse(&body)?;
    let id: MemoryStoreId = app.ids.next();
    let body = to_json(&request.into_store(id.clone(), app.now()))?;
    let new = NewMemoryStore {
        id,
        workspace_id: caller.workspace,
        body,
    };
    json(&shown(app.store.create_memory_store(new).await?)?)
}

/// `GET /v1/memory_stores`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(query): Asked,
) -> Reply {
    let asked = ListMemoryStores::read(&query)?;
    let query = MemoryStoreQuery {
        include_archived: asked.include_archived,
        from: asked.created_at.gte,
        until: asked.created_at.lte,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let mut rows = app
        .store
        .list_memory_stores(&caller.workspace, query)
        .await?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let id = last.id.to_string();
        ListMemoryStores::SCOPE.next(Position::Created(last.created_at.as_micros(), id))
    });
    let data = rows.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    json(&Page { data, next_page })
}

/// `GET /v1/memory_stores/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
) -> Reply {
    json(&reach(&app, &principal, &id).await?.store)
}

/// `POST /v1/memory_stores/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let request: UpdateMemoryStore = parse(&body)?;
    for _ in 0..TRIES {
        let now = find(&app, &caller.workspace, &id).await?;
        let Some(changed) = request.clone().resolve(&now)? else {
            return json(&now);
        };
        let body = to_json(&changed)?;
        match app
            .store
            .update_memory_store(&caller.workspace, &now.id, now.updated_at, body)
            .await
        {
            Ok(row) => return json(&shown(row)?),
            Err(UpdateMemoryStoreError::NotFound) => return Err(missing(&id).into()),
            // Changed or archived since we looked: look again.
            Err(UpdateMemoryStoreError::Conflict | UpdateMemoryStoreError::Archived) => {}
            Err(UpdateMemoryStoreError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("the memory store is being changed by others; try again").into())
}

/// `POST /v1/memory_stores/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("Memory store", &id)?;
    let row = app
        .store
        .archive_memory_store(&caller.workspace, &parsed)
        .await?;
    json(&shown(row.ok_or_else(|| missing(&id))?)?)
}

/// `DELETE /v1/memory_stores/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("Memory store", &id)?;
    if !app
        .store
        .delete_memory_store(&caller.workspace, &parsed)
        .await?
    {
        return Err(missing(&id).into());
    }
    json(&Deleted {
        id,
        r#type: "memory_store_deleted",
    })
}

/// A store within reach, and what may be done with it.
pub(super) struct Reached {
    pub(super) store: MemoryStore,
    /// Whoever writes.
    pub(super) actor: Actor,
    access: Access,
}

impl Reached {
    /// Whoever writes, if they may.
    ///
    /// # Errors
    /// 403: the store is attached to their session to be read only.
    pub(super) fn writer(self) -> Result<(MemoryStoreId, Actor), ApiError> {
        match self.access {
            Access::ReadWrite => Ok((self.store.id, self.actor)),
            Access::ReadOnly => Err(ApiError::new(
                ErrorKind::Permission,
                "the memory store is attached to this session with access `read_only`",
            )),
        }
    }
}

/// The store a path names, if the principal reaches it: an API key every store of its workspace, a
/// session token those attached to its session.
///
/// # Errors
/// 403 for environment keys, which no session stands behind; 404.
pub(super) async fn reach(app: &App, principal: &Principal, id: &str) -> Result<Reached, Fail> {
    let (actor, access) = match &principal.reach {
        Reach::Workspace { key, .. } => {
            let api_key_id = key.clone();
            (Actor::ApiActor { api_key_id }, Access::ReadWrite)
        }
        Reach::Session { session, .. } => {
            let attached = app.store.session_memory_stores(session).await?;
            let attached = attached.into_iter().find(|a| a.store.as_str() == id);
            let resource: MemoryStoreResource = stored(&attached.ok_or_else(|| missing(id))?.body)?;
            let session_id = session.clone();
            (Actor::SessionActor { session_id }, resource.access)
        }
        Reach::Environment { .. } => {
            return Err(ApiError::new(
                ErrorKind::Permission,
                "an environment key opens no memory store: use the session token in the work \
                 item's `secret`, which opens those attached to its session",
            )
            .into());
        }
    };
    Ok(Reached {
        store: find(app, &principal.workspace, id).await?,
        actor,
        access,
    })
}

/// The store of this id.
///
/// # Errors
/// 404.
pub(super) async fn find(
    app: &App,
    workspace: &WorkspaceId,
    id: &str,
) -> Result<MemoryStore, Fail> {
    let parsed = path_id("Memory store", id)?;
    let row = app.store.memory_store(workspace, &parsed).await?;
    shown(row.ok_or_else(|| missing(id))?)
}

/// The refusal of a change to an archived store.
pub(super) fn archived(id: &MemoryStoreId) -> ApiError {
    memory_store::archived(id)
}

/// The store of a row: its columns are the truth about what they hold.
fn shown(row: MemoryStoreRow) -> Result<MemoryStore, Fail> {
    let store: MemoryStore = stored(&row.body)?;
    Ok(MemoryStore {
        id: row.id,
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
        ..store
    })
}

pub(super) fn missing(id: &str) -> ApiError {
    ApiError::not_found("Memory store", id)
}
