//! `/v1/vaults/{id}/credentials` (contract 64 §2). Secrets go from a request straight into the
//! store; no answer, log line or error holds one.

mod validate;

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{CredentialId, Secret, VaultId};
use freehold_store::{
    CreateCredentialError, CredentialChange, CredentialQuery, NewCredential, UpdateCredentialError,
    VaultCredentialRow,
};
use freehold_wire::credential::{
    CreateCredential, Credential, CredentialAuth, NewSecret, UpdateCredential,
};
use freehold_wire::list::ListVaults;
use freehold_wire::{ApiError, Deleted, parse, vault};

use super::query::{Asked, created_page, created_position, stored, to_json};
use super::vaults;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// Times an update is made again on what somebody else left before it gives up.
const TRIES: usize = 8;

/// `POST /v1/vaults/{id}/credentials`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(vault_id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let now = app.now();
    let parsed: VaultId = path_id("Vault", &vault_id)?;
    let (data, secrets) = parse::<CreateCredential>(&body)?.resolve(now)?;
    let (kind, target) = (data.auth.kind(), data.auth.target());
    let is_variable = matches!(data.auth, CredentialAuth::EnvironmentVariable(_));
    let id: CredentialId = app.ids.next();
    let body = to_json(&data.into_credential(id.clone(), parsed.clone(), now, now))?;
    let new = NewCredential {
        id,
        vault_id: parsed.clone(),
        workspace_id: caller.workspace,
        kind,
        target,
        body,
        secrets: by_name(secrets),
    };
    match app.store.create_credential(new).await {
        Ok(row) => json(&shown(row)?),
        Err(CreateCredentialError::VaultNotFound) => Err(vaults::missing(&vault_id).into()),
        Err(CreateCredentialError::VaultArchived) => Err(vault::archived(&parsed).into()),
        Err(CreateCredentialError::TargetTaken) => Err(target_taken(is_variable).into()),
        Err(CreateCredentialError::Full) => Err(full().into()),
        Err(CreateCredentialError::Store(error)) => Err(error.into()),
    }
}

pub(crate) use validate::validate;

/// `GET /v1/vaults/{id}/credentials`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(vault): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let vault = vaults::find(&app, &caller.workspace, &vault).await?.id;
    let asked = ListVaults::credentials(&query, &vault)?;
    let query = CredentialQuery {
        include_archived: asked.include_archived,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let rows = app
        .store
        .list_credentials(&caller.workspace, &vault, query)
        .await?;
    let scope = ListVaults::credentials_scope(&vault);
    let place = |row: &VaultCredentialRow| (row.created_at, row.id.to_string());
    created_page(rows, asked.limit, scope, place, shown)
}

/// `GET /v1/vaults/{id}/credentials/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Reply {
    json(&find(&app, &caller, &path).await?)
}

/// `POST /v1/vaults/{id}/credentials/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<(String, String)>,
    Payload(body): Payload,
) -> Reply {
    let request: UpdateCredential = parse(&body)?;
    for _ in 0..TRIES {
        let now = find(&app, &caller, &path).await?;
        let Some((data, secrets)) = request.clone().resolve(&now, app.now())? else {
            return json(&now);
        };
        let (id, vault) = (now.id, now.vault_id);
        let credential = data.into_credential(id.clone(), vault.clone(), now.created_at, app.now());
        let change = CredentialChange {
            expected: now.updated_at,
            body: to_json(&credential)?,
            secrets: by_name(secrets),
        };
        match app
            .store
            .update_credential(&caller.workspace, &vault, &id, change)
            .await
        {
            Ok(row) => return json(&shown(row)?),
            Err(UpdateCredentialError::NotFound) => return Err(missing(&path.1).into()),
            // Changed or archived since we looked: look again.
            Err(UpdateCredentialError::Conflict | UpdateCredentialError::Archived) => {}
            Err(UpdateCredentialError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("the credential is being changed by others; try again").into())
}

/// `POST /v1/vaults/{id}/credentials/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Reply {
    let (vault, id) = ids(&path)?;
    let row = app
        .store
        .archive_credential(&caller.workspace, &vault, &id)
        .await?;
    json(&shown(row.ok_or_else(|| missing(&path.1))?)?)
}

/// `DELETE /v1/vaults/{id}/credentials/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(path): Path<(String, String)>,
) -> Reply {
    let (vault, id) = ids(&path)?;
    let found = app
        .store
        .delete_credential(&caller.workspace, &vault, &id)
        .await?;
    if !found {
        return Err(missing(&path.1).into());
    }
    json(&Deleted {
        id: path.1,
        r#type: "vault_credential_deleted",
    })
}

async fn find(app: &App, caller: &Caller, path: &(String, String)) -> Result<Credential, Fail> {
    let (vault, id) = ids(path)?;
    let row = app.store.credential(&caller.workspace, &vault, &id).await?;
    shown(row.ok_or_else(|| missing(&path.1))?)
}

fn ids((vault, id): &(String, String)) -> Result<(VaultId, CredentialId), ApiError> {
    Ok((path_id("Vault", vault)?, path_id("Credential", id)?))
}

/// The credential of a row: its columns are the truth about what they hold.
fn shown(row: VaultCredentialRow) -> Result<Credential, Fail> {
    let credential: Credential = stored(&row.body)?;
    Ok(Credential {
        id: row.id,
        vault_id: row.vault_id,
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
        ..credential
    })
}

fn by_name(secrets: Vec<NewSecret>) -> Vec<(&'static str, Secret<String>)> {
    let named = secrets.into_iter();
    named
        .map(|(field, secret)| (field.as_str(), secret))
        .collect()
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("Credential", id)
}

fn target_taken(is_variable: bool) -> ApiError {
    let field = if is_variable {
        "secret_name"
    } else {
        "mcp_server_url"
    };
    ApiError::conflict(format!(
        "auth.{field}: another active credential of this vault has this {field}"
    ))
}

fn full() -> ApiError {
    ApiError::invalid(format!(
        "the vault holds {} active credentials, which is the most; archive or delete one first",
        freehold_base::limits::MAX_CREDENTIALS
    ))
}
