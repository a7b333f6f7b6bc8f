//! `/v1/sessions/{id}/resources` (contract 30): files and memory stores.

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{MemoryStoreId, SessionResourceId, WorkspaceId};
use freehold_store::{FileCopy, NewResource, ResourceError, ResourceRow, SessionRow};
use freehold_wire::cursor::Position;
use freehold_wire::environment::EnvironmentConfig;
use freehold_wire::list::ListPlain;
use freehold_wire::resource::{
    AddResource, FileParam, FileResource, MemoryStoreParam, MemoryStoreResource, Resource,
    UpdateResource, memory_mounts,
};
use freehold_wire::unsupported::self_hosted_resources;
use freehold_wire::{ApiError, Deleted, Page, parse};

use super::memory_stores;
use super::query::{Asked, session, stored, to_json};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// `POST /v1/sessions/{id}/resources`
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    let request: AddResource = parse(&body)?;
    super::events::open(&row)?;
    if matches!(stored(&row.environment)?, EnvironmentConfig::SelfHosted) {
        return Err(self_hosted_resources(&row.environment_id).into());
    }
    let held = all(&app, &row).await?;
    request.check_mount(held.iter().filter_map(|r| r.mount_path.as_deref()))?;
    let new = new_file(&app, &request.0);
    match app
        .store
        .add_resource(&caller.workspace, &row.id, new)
        .await
    {
        Ok(added) => {
            app.runtime.resources_changed(&row.id);
            json(&shown(added)?)
        }
        Err(ResourceError::SessionGone) => Err(ApiError::not_found("Session", &id).into()),
        Err(ResourceError::Closed) => {
            Err(ApiError::invalid("the session is archived or terminated").into())
        }
        Err(ResourceError::FileGone(file)) => {
            Err(ApiError::not_found("File", file.as_str()).into())
        }
        // Only files are added to a session that exists.
        Err(error @ ResourceError::MemoryStoreGone(_)) => Err(Fail::internal(&error)),
        Err(ResourceError::TooMany) => {
            Err(ApiError::invalid("the session has as many resources as it may have").into())
        }
        Err(ResourceError::Store(error)) => Err(error.into()),
    }
}

/// `GET /v1/sessions/{id}/resources`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    let asked = ListPlain::resources(&query, &row.id)?;
    // The order of attachment stands where other lists have a time.
    let after = asked.page.and_then(|page| match page.position {
        Position::Created(position, _) => Some(position),
        _ => None,
    });
    let found = app
        .store
        .list_resources(&caller.workspace, &row.id, after, asked.limit);
    let mut rows = found.await?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let position = Position::Created(last.position, last.id.to_string());
        ListPlain::resources_scope(&row.id).next(position)
    });
    let data = rows.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    json(&Page { data, next_page })
}

/// `GET /v1/sessions/{id}/resources/{resource}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, resource)): Path<(String, String)>,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    json(&shown(find(&app, &row, &resource).await?)?)
}

/// `POST /v1/sessions/{id}/resources/{resource}`: a new token of a repository, of which there are
/// none in this version.
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, resource)): Path<(String, String)>,
    Payload(body): Payload,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    let found = find(&app, &row, &resource).await?;
    parse::<UpdateResource>(&body)?;
    Err(ApiError::invalid(format!(
        "a resource of type {} has no authorization_token; only github_repository resources have",
        found.kind
    ))
    .into())
}

/// `DELETE /v1/sessions/{id}/resources/{resource}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, resource)): Path<(String, String)>,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    let parsed: SessionResourceId = path_id("Resource", &resource)?;
    if find(&app, &row, &resource).await?.kind != "file" {
        return Err(ApiError::invalid(
            "only files can be taken away from a session; other resources stay as long as it does",
        )
        .into());
    }
    if !app
        .store
        .delete_resource(&caller.workspace, &row.id, &parsed)
        .await?
    {
        return Err(ApiError::not_found("Resource", &resource).into());
    }
    app.runtime.resources_changed(&row.id);
    json(&Deleted {
        id: resource,
        r#type: "session_resource_deleted",
    })
}

async fn find(app: &App, row: &SessionRow, id: &str) -> Result<ResourceRow, Fail> {
    let parsed = path_id("Resource", id)?;
    let found = app
        .store
        .resource(&row.workspace_id, &row.id, &parsed)
        .await?;
    found.ok_or_else(|| ApiError::not_found("Resource", id).into())
}

/// All resources of a session; their number is bounded.
pub(super) async fn all(app: &App, row: &SessionRow) -> Result<Vec<ResourceRow>, Fail> {
    Ok(app.store.resources(&row.workspace_id, &row.id).await?)
}

/// A file to attach: a copy of its row with an id of its own.
pub(super) fn new_file(app: &App, param: &FileParam) -> NewResource {
    NewResource {
        id: app.ids.next(),
        kind: "file".into(),
        mount_path: Some(param.mount_path.clone()),
        file: Some(FileCopy {
            source: param.file_id.clone(),
            id: app.ids.next(),
        }),
        memory_store_id: None,
        body: "{}".into(),
    }
}

/// Memory stores to attach, in the order asked for. Name and description are those of now.
///
/// # Errors
/// 404; 400 for an archived one.
pub(super) async fn new_memory_stores(
    app: &App,
    workspace: &WorkspaceId,
    params: &[&MemoryStoreParam],
) -> Result<Vec<NewResource>, Fail> {
    let mut stores = Vec::with_capacity(params.len());
    for param in params {
        let store = memory_stores::find(app, workspace, param.memory_store_id.as_str()).await?;
        if store.archived_at.is_some() {
            return Err(unusable_store(&store.id).into());
        }
        stores.push(store);
    }
    let paths = memory_mounts(stores.iter().map(|store| store.name.as_str()));
    let attached = params.iter().zip(stores).zip(paths);
    attached
        .map(|((param, store), mount_path)| {
            let resource = MemoryStoreResource {
                memory_store_id: store.id.clone(),
                access: param.access,
                instructions: param.instructions.clone(),
                name: Some(store.name),
                description: store.description,
                mount_path: Some(mount_path.clone()),
            };
            Ok(NewResource {
                id: app.ids.next(),
                kind: "memory_store".into(),
                mount_path: Some(mount_path),
                file: None,
                memory_store_id: Some(store.id),
                body: to_json(&resource)?,
            })
        })
        .collect()
}

/// The refusal to attach an archived store.
pub(super) fn unusable_store(id: &MemoryStoreId) -> ApiError {
    ApiError::invalid(format!(
        "resources: Memory store `{id}` is archived and cannot be attached to new sessions."
    ))
    .with_code("memory_store_archived")
}

/// The resource of a row.
pub(super) fn shown(row: ResourceRow) -> Result<Resource, Fail> {
    if row.kind == "memory_store" {
        return Ok(Resource::MemoryStore(stored(&row.body)?));
    }
    match (row.kind.as_str(), row.file_id, row.mount_path) {
        ("file", Some(file_id), Some(mount_path)) => Ok(Resource::File(FileResource {
            id: row.id,
            file_id,
            mount_path,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })),
        // Nothing else is attached by this version.
        _ => Err(Fail::internal(&freehold_store::StoreError::Corrupt {
            what: "resource",
        })),
    }
}
