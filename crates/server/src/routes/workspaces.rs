//! `/v1/freehold/workspaces`, for admin keys. Our own endpoints, not of the contract.

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::limits::MAX_NAME;
use freehold_base::{Timestamp, WorkspaceId};
use freehold_store::WorkspaceRow;
use freehold_wire::decode::{At, Decode, Object, text};
use freehold_wire::{ApiError, Page, Request, parse};
use serde::Serialize;
use serde_json::Value;

use super::query::Asked;
use crate::app::App;
use crate::auth::Admin;
use crate::http::{Payload, Reply, json, path_id};

/// `POST /v1/freehold/workspaces`
struct CreateWorkspace {
    name: String,
}

impl Request for CreateWorkspace {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let name = o.required("name", text(1, MAX_NAME))?;
        o.finish()?;
        Ok(Self { name })
    }
}

#[derive(Serialize)]
struct Workspace {
    id: WorkspaceId,
    r#type: &'static str,
    name: String,
    default: bool,
    created_at: Timestamp,
    archived_at: Option<Timestamp>,
}

fn shown(row: WorkspaceRow) -> Workspace {
    Workspace {
        id: row.id,
        r#type: "workspace",
        name: row.name,
        default: row.is_default,
        created_at: row.created_at,
        archived_at: row.archived_at,
    }
}

/// `POST /v1/freehold/workspaces`
pub(crate) async fn create(State(app): State<Arc<App>>, _: Admin, Payload(body): Payload) -> Reply {
    let request: CreateWorkspace = parse(&body)?;
    json(&shown(app.store.create_workspace(request.name).await?))
}

/// `GET /v1/freehold/workspaces`: oldest first. They are few: one page.
pub(crate) async fn list(State(app): State<Arc<App>>, _: Admin, Asked(query): Asked) -> Reply {
    let rows = app
        .store
        .list_workspaces(query.boolean("include_archived")?)
        .await?;
    let data = rows.into_iter().map(shown).collect::<Vec<_>>();
    json(&Page {
        data,
        next_page: None,
    })
}

/// `POST /v1/freehold/workspaces/{id}/archive`: its keys stop working with the next request.
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Reply {
    let parsed: WorkspaceId = path_id("Workspace", &id)?;
    let row = match app.store.archive_workspace(&parsed).await? {
        Some(row) => row,
        None if app.store.workspace(&parsed).await?.is_some() => {
            return Err(ApiError::invalid("the default workspace cannot be archived").into());
        }
        None => return Err(ApiError::not_found("Workspace", &id).into()),
    };
    app.keys.clear();
    if let Some(edge) = &app.tunnels.edge {
        edge.recheck().await;
    }
    tracing::info!(workspace = %row.id, by = %caller.key, "workspace archived");
    json(&shown(row))
}
