//! Keys without a server: the way back in when every key is lost. Whoever can write the data
//! directory owns everything in it anyway.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{ApiKeyId, IdSource, WorkspaceId};
use freehold_server::credential;
use freehold_store::{ApiKeyRow, KeyScope, NewApiKey, NoListener, Store, StoreError};
use serde_json::{Value, json};

use crate::cli::StoreArgs;
use crate::commands::store::settings;
use crate::config;
use crate::exit::{Exit, Failure};

/// Longest wait for the store to fold its log into the database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn create(
    at: StoreArgs,
    name: &str,
    workspace: Option<&str>,
    admin: bool,
    scope: Option<&str>,
) -> Result<Value, Failure> {
    let ids = IdSource::system();
    with(at, &ids, async |store| {
        let workspace_id = match workspace {
            None => store.default_workspace().await.map_err(failed)?.id,
            Some(text) => {
                let id: WorkspaceId = text
                    .parse()
                    .map_err(|e| Failure::usage(format!("workspace: {e}")))?;
                let found = store.workspace(&id).await.map_err(failed)?;
                let usable = found.filter(|w| w.archived_at.is_none());
                usable.ok_or_else(|| not_found("workspace", text))?.id
            }
        };
        let scope = scope
            .map(|name| {
                let known = KeyScope::parse(name);
                known.ok_or_else(|| Failure::usage(format!("scope: '{name}' is not known")))
            })
            .transpose()?;
        let key = match scope {
            Some(scope) => credential::generate_scoped(&ids, scope),
            None => credential::generate(&ids, admin),
        };
        let row = store
            .create_key(NewApiKey {
                workspace_id,
                name: name.to_owned(),
                admin,
                scope,
                hash: credential::hash(key.expose()),
                last4: credential::last4(key.expose()),
            })
            .await
            .map_err(failed)?;
        let mut shown = shape(&row);
        shown["key"] = key.expose().as_str().into();
        Ok(shown)
    })
    .await
}

pub(super) async fn list(at: StoreArgs) -> Result<Vec<Value>, Failure> {
    exists(&at)?;
    with(at, &IdSource::system(), async |store| {
        let keys = store.list_keys(None).await.map_err(failed)?;
        Ok(keys.iter().map(shape).collect())
    })
    .await
}

pub(super) async fn revoke(at: StoreArgs, id: &str) -> Result<Value, Failure> {
    exists(&at)?;
    let key: ApiKeyId = id
        .parse()
        .map_err(|e| Failure::usage(format!("key: {e}")))?;
    with(at, &IdSource::system(), async |store| {
        let revoked = store.revoke_key(&key).await.map_err(failed)?;
        revoked
            .map(|row| shape(&row))
            .ok_or_else(|| not_found("key", id))
    })
    .await
}

async fn with<T>(
    at: StoreArgs,
    ids: &IdSource,
    work: impl AsyncFnOnce(&Store) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let settings = settings(at)?;
    let place = config::place(&settings)?;
    let (path, ids) = (settings.data_dir, ids.clone());
    let open = move || Store::open_with(&path, place, ids, Arc::new(NoListener));
    let store = crate::commands::blocking(open).await?.map_err(failed)?;
    let result = work(&store).await;
    // What was answered is durable; the end of the process lets go of the rest.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await;
    result
}

fn exists(at: &StoreArgs) -> Result<(), Failure> {
    let dir = at.data_dir.as_deref().unwrap_or(Path::new("."));
    if dir.is_dir() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NotFound,
        format!("there is no data directory {}", dir.display()),
    ))
}

fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::InUse { .. } => Failure::failed(error.to_string()).hint(
            "a server is running on it: leave out --data-dir, and set FREEHOLD_URL and \
             FREEHOLD_API_KEY",
        ),
        error => Failure::because("the data directory cannot be used", &error),
    }
}

fn not_found(noun: &str, id: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("{noun} `{id}` not found"))
}

/// As the server shows a key.
fn shape(row: &ApiKeyRow) -> Value {
    json!({
        "type": "api_key",
        "id": row.id,
        "workspace_id": row.workspace_id,
        "name": row.name,
        "admin": row.admin,
        "scope": row.scope.map(KeyScope::as_str),
        "last4": row.last4,
        "created_at": row.created_at,
        "revoked_at": row.revoked_at,
        "last_used_at": row.last_used_at,
    })
}
