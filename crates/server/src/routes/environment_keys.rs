//! `/v1/freehold/environments/{id}`: an environment's keys and work, for admin keys. Our own
//! endpoints, not of the contract, where keys are made in the console only (50 §11).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::limits::MAX_NAME;
use freehold_base::{EnvironmentId, EnvironmentKeyId, Timestamp};
use freehold_store::{EnvironmentKeyRow, NewEnvironmentKey};
use freehold_wire::decode::{At, Decode, Object, text};
use freehold_wire::{ApiError, Page, Request, parse};
use serde::Serialize;
use serde_json::Value;

use super::query::Asked;
use super::work;
use crate::app::App;
use crate::auth::Admin;
use crate::credential;
use crate::http::{Payload, Reply, json, path_id};

/// `POST /v1/freehold/environments/{id}/keys`
struct CreateKey {
    name: String,
}

impl Request for CreateKey {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let name = o.required("name", text(1, MAX_NAME))?;
        o.finish()?;
        Ok(Self { name })
    }
}

/// A key as shown. `key` itself appears once, in the reply to its creation.
#[derive(Serialize)]
struct EnvironmentKey {
    id: EnvironmentKeyId,
    r#type: &'static str,
    name: String,
    environment_id: EnvironmentId,
    last4: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

fn shown(row: EnvironmentKeyRow, key: Option<String>) -> EnvironmentKey {
    EnvironmentKey {
        id: row.id,
        r#type: "environment_key",
        name: row.name,
        environment_id: row.environment_id,
        last4: row.last4,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
        key,
    }
}

/// `POST /v1/freehold/environments/{id}/keys`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let request: CreateKey = parse(&body)?;
    let environment_id = work::of_any(&app, &id).await?;
    let key = credential::generate_environment_key(&app.ids);
    let new = NewEnvironmentKey {
        environment_id,
        name: request.name,
        hash: credential::hash(key.expose()),
        last4: credential::last4(key.expose()),
    };
    let row = app.store.create_environment_key(new).await?;
    tracing::info!(key = %row.id, by = %caller.key, "environment key made");
    json(&shown(row, Some(key.expose().clone())))
}

/// `GET /v1/freehold/environments/{id}/keys`: all, oldest first. They are few: one page.
pub(crate) async fn list(State(app): State<Arc<App>>, _: Admin, Path(id): Path<String>) -> Reply {
    let environment = work::of_any(&app, &id).await?;
    let rows = app.store.list_environment_keys(&environment).await?;
    let data = rows.into_iter().map(|row| shown(row, None)).collect();
    json(&Page::<EnvironmentKey> {
        data,
        next_page: None,
    })
}

/// `POST /v1/freehold/environments/{id}/keys/{key}/revoke`: for good, and from the next request on.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Admin(caller): Admin,
    Path((id, key)): Path<(String, String)>,
) -> Reply {
    let environment = work::of_any(&app, &id).await?;
    let parsed = path_id("Environment key", &key)?;
    let row = app
        .store
        .revoke_environment_key(&environment, &parsed)
        .await?;
    let row = row.ok_or_else(|| ApiError::not_found("Environment key", &key))?;
    app.keys.clear();
    tracing::info!(key = %row.id, by = %caller.key, "environment key revoked");
    json(&shown(row, None))
}

/// `GET /v1/freehold/environments/{id}/work`: as the environment's key sees it.
pub(crate) async fn work(
    State(app): State<Arc<App>>,
    _: Admin,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let environment = work::of_any(&app, &id).await?;
    work::page(&app, &environment, &query).await
}
