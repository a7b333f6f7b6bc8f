//! `/v1/environments` (contract 20).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{EnvironmentId, WorkspaceId};
use freehold_store::{
    DeleteEnvironmentError, EnvironmentChange, EnvironmentQuery, EnvironmentRow, NewEnvironment,
    UpdateEnvironmentError,
};
use freehold_wire::cursor::Position;
use freehold_wire::environment::{CreateEnvironment, Environment, UpdateEnvironment};
use freehold_wire::list::ListEnvironments;
use freehold_wire::{ApiError, Deleted, Page, parse};

use super::query::{Asked, created_position, stored, to_json};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// Times an update is made again on what somebody else left before it gives up.
const TRIES: usize = 8;

/// `POST /v1/environments`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Payload(body): Payload,
) -> Reply {
    let data = parse::<CreateEnvironment>(&body)?.resolve()?;
    let (id, now): (EnvironmentId, _) = (app.ids.next(), app.now());
    let name = data.name.clone();
    let body = to_json(&data.into_environment(id.clone(), now, now))?;
    let new = NewEnvironment {
        id,
        workspace_id: caller.workspace,
        name,
        body,
    };
    match app.store.create_environment(new).await {
        Ok(row) => json(&shown(row)?),
        Err(UpdateEnvironmentError::NameTaken) => Err(name_taken().into()),
        Err(UpdateEnvironmentError::Store(error)) => Err(error.into()),
        Err(other) => Err(Fail::internal(&other)),
    }
}

/// `GET /v1/environments`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(query): Asked,
) -> Reply {
    let asked = ListEnvironments::read(&query)?;
    let query = EnvironmentQuery {
        include_archived: asked.include_archived,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let mut rows = app
        .store
        .list_environments(&caller.workspace, query)
        .await?;
    let more = rows.len() > asked.limit;
    rows.truncate(asked.limit);
    let next_page = rows.last().filter(|_| more).map(|last| {
        let id = last.id.to_string();
        ListEnvironments::SCOPE.next(Position::Created(last.created_at.as_micros(), id))
    });
    let data = rows.into_iter().map(shown).collect::<Result<Vec<_>, _>>()?;
    json(&Page { data, next_page })
}

/// `GET /v1/environments/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    json(&find(&app, &caller.workspace, &id).await?)
}

/// `POST /v1/environments/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let request: UpdateEnvironment = parse(&body)?;
    for _ in 0..TRIES {
        let now = find(&app, &caller.workspace, &id).await?;
        let Some(data) = request.clone().resolve(&now)? else {
            return json(&now);
        };
        let name = data.name.clone();
        let environment = data.into_environment(now.id.clone(), now.created_at, app.now());
        let body = to_json(&environment)?;
        let change = EnvironmentChange {
            expected: Some(now.updated_at),
            name,
            body,
        };
        match app
            .store
            .update_environment(&caller.workspace, &now.id, change)
            .await
        {
            Ok(row) => return json(&shown(row)?),
            Err(UpdateEnvironmentError::NameTaken) => return Err(name_taken().into()),
            Err(UpdateEnvironmentError::NotFound) => return Err(missing(&id).into()),
            // Changed or archived since we looked: look again.
            Err(UpdateEnvironmentError::Conflict | UpdateEnvironmentError::Archived) => {}
            Err(UpdateEnvironmentError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("the environment is being changed by others; try again").into())
}

/// `POST /v1/environments/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("Environment", &id)?;
    let row = app
        .store
        .archive_environment(&caller.workspace, &parsed)
        .await?;
    json(&shown(row.ok_or_else(|| missing(&id))?)?)
}

/// `DELETE /v1/environments/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("Environment", &id)?;
    match app
        .store
        .delete_environment(&caller.workspace, &parsed)
        .await
    {
        Ok(()) => {
            // Its keys went with it.
            app.keys.clear();
            json(&Deleted {
                id,
                r#type: "environment_deleted",
            })
        }
        Err(DeleteEnvironmentError::NotFound) => Err(missing(&id).into()),
        Err(DeleteEnvironmentError::InUse { sessions }) => Err(ApiError::conflict(format!(
            "the environment is used by {sessions} sessions; delete them first, or archive it"
        ))
        .into()),
        Err(DeleteEnvironmentError::Store(error)) => Err(error.into()),
    }
}

/// The environment of this id.
///
/// # Errors
/// 404.
pub(super) async fn find(
    app: &App,
    workspace: &WorkspaceId,
    id: &str,
) -> Result<Environment, Fail> {
    let row = app
        .store
        .environment(workspace, &path_id("Environment", id)?)
        .await?;
    shown(row.ok_or_else(|| missing(id))?)
}

/// The environment of a row: its columns are the truth about what they hold.
fn shown(row: EnvironmentRow) -> Result<Environment, Fail> {
    let environment: Environment = stored(&row.body)?;
    Ok(Environment {
        id: row.id,
        name: row.name,
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
        ..environment
    })
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("Environment", id)
}

fn name_taken() -> ApiError {
    ApiError::conflict("name: another environment of this workspace has this name")
}
