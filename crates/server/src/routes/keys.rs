//! `/v1/freehold/keys`: API keys, for admin keys. Our own endpoints, not of the contract.

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::limits::MAX_NAME;
use freehold_base::{ApiKeyId, Timestamp, WorkspaceId};
use freehold_store::{ApiKeyRow, KeyScope, NewApiKey};
use freehold_wire::decode::{At, Decode, Object, boolean, reference, text};
use freehold_wire::{ApiError, Page, Request, parse};
use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::auth::Admin;
use crate::credential;
use crate::http::{Payload, Reply, json, path_id};

/// `POST /v1/freehold/keys`
struct CreateKey {
    name: String,
    admin: bool,
    workspace_id: Option<WorkspaceId>,
    scope: Option<KeyScope>,
}

/// A key can have one of these, or none.
fn scope(value: Value, at: &At<'_>) -> Decode<KeyScope> {
    let name = text(1, MAX_NAME)(value, at)?;
    KeyScope::parse(&name).ok_or_else(|| at.error("Input should be 'tunnels'"))
}

impl Request for CreateKey {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            name: o.required("name", text(1, MAX_NAME))?,
            admin: o.optional("admin", boolean)?.unwrap_or(false),
            workspace_id: o.optional("workspace_id", reference("Workspace"))?,
            scope: o.optional("scope", scope)?,
        };
        o.finish()?;
        if request.admin && request.scope.is_some() {
            return Err(at.key("scope").error("An admin key has no scope"));
        }
        Ok(request)
    }
}

/// A key as shown. `key` itself appears once, in the reply to its creation.
#[derive(Serialize)]
struct ApiKey {
    id: ApiKeyId,
    r#type: &'static str,
    name: String,
    workspace_id: WorkspaceId,
    admin: bool,
    scope: Option<&'static str>,
    last4: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

fn shown(row: ApiKeyRow, key: Option<String>) -> ApiKey {
    ApiKey {
        id: row.id,
        r#type: "api_key",
        name: row.name,
        workspace_id: row.workspace_id,
        admin: row.admin,
        scope: row.scope.map(KeyScope::as_str),
        last4: row.last4,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
        key,
    }
}

/// `POST /v1/freehold/keys`: of the caller's workspace unless another is named.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Payload(body): Payload,
) -> Reply {
    let request: CreateKey = parse(&body)?;
    let workspace_id = request.workspace_id.unwrap_or(caller.workspace);
    match app.store.workspace(&workspace_id).await? {
        Some(workspace) if workspace.archived_at.is_none() => {}
        Some(_) => return Err(ApiError::invalid("workspace_id: the workspace is archived").into()),
        None => return Err(ApiError::not_found("Workspace", workspace_id.as_str()).into()),
    }
    let key = match request.scope {
        Some(scope) => credential::generate_scoped(&app.ids, scope),
        None => credential::generate(&app.ids, request.admin),
    };
    let new = NewApiKey {
        workspace_id,
        name: request.name,
        admin: request.admin,
        scope: request.scope,
        hash: credential::hash(key.expose()),
        last4: credential::last4(key.expose()),
    };
    let row = app.store.create_key(new).await?;
    tracing::info!(key = %row.id, by = %caller.key, admin = row.admin, "API key made");
    json(&shown(row, Some(key.expose().clone())))
}

/// `GET /v1/freehold/keys`: all, oldest first. They are few: one page.
pub(crate) async fn list(State(app): State<Arc<App>>, _: Admin) -> Reply {
    let rows = app.store.list_keys(None).await?;
    let data = rows
        .into_iter()
        .map(|row| shown(row, None))
        .collect::<Vec<_>>();
    json(&Page {
        data,
        next_page: None,
    })
}

/// `POST /v1/freehold/keys/{id}/revoke`: for good, and from the next request on.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Reply {
    let row = app.store.revoke_key(&path_id("API key", &id)?).await?;
    let row = row.ok_or_else(|| ApiError::not_found("API key", &id))?;
    app.keys.clear();
    tracing::info!(key = %row.id, by = %caller.key, "API key revoked");
    json(&shown(row, None))
}
