//! `/v1/vaults` (contract 64 §1).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{VaultId, WorkspaceId};
use freehold_store::{NewVault, UpdateVaultError, VaultQuery, VaultRow};
use freehold_wire::list::ListVaults;
use freehold_wire::vault::{self, CreateVault, UpdateVault, Vault};
use freehold_wire::{ApiError, Deleted, parse};

use super::query::{Asked, created_page, created_position, stored, to_json};
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// Times an update is made again on what somebody else left before it gives up.
const TRIES: usize = 8;

/// `POST /v1/vaults`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Payload(body): Payload,
) -> Reply {
    let data = parse::<CreateVault>(&body)?.into_data();
    let (id, now): (VaultId, _) = (app.ids.next(), app.now());
    let body = to_json(&data.into_vault(id.clone(), now, now))?;
    let new = NewVault {
        id,
        workspace_id: caller.workspace,
        body,
    };
    json(&shown(app.store.create_vault(new).await?)?)
}

/// `GET /v1/vaults`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Asked(query): Asked,
) -> Reply {
    let asked = ListVaults::vaults(&query)?;
    let query = VaultQuery {
        include_archived: asked.include_archived,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let rows = app.store.list_vaults(&caller.workspace, query).await?;
    let place = |row: &VaultRow| (row.created_at, row.id.to_string());
    created_page(rows, asked.limit, ListVaults::SCOPE, place, shown)
}

/// `GET /v1/vaults/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    json(&find(&app, &caller.workspace, &id).await?)
}

/// `POST /v1/vaults/{id}`
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let request: UpdateVault = parse(&body)?;
    for _ in 0..TRIES {
        let now = find(&app, &caller.workspace, &id).await?;
        let Some(data) = request.clone().resolve(&now)? else {
            return json(&now);
        };
        let body = to_json(&data.into_vault(now.id.clone(), now.created_at, app.now()))?;
        match app
            .store
            .update_vault(&caller.workspace, &now.id, now.updated_at, body)
            .await
        {
            Ok(row) => return json(&shown(row)?),
            Err(UpdateVaultError::NotFound) => return Err(missing(&id).into()),
            // Changed or archived since we looked: look again.
            Err(UpdateVaultError::Conflict | UpdateVaultError::Archived) => {}
            Err(UpdateVaultError::Store(error)) => return Err(error.into()),
        }
    }
    Err(ApiError::conflict("the vault is being changed by others; try again").into())
}

/// `POST /v1/vaults/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("Vault", &id)?;
    let row = app.store.archive_vault(&caller.workspace, &parsed).await?;
    json(&shown(row.ok_or_else(|| missing(&id))?)?)
}

/// `DELETE /v1/vaults/{id}`
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("Vault", &id)?;
    if !app.store.delete_vault(&caller.workspace, &parsed).await? {
        return Err(missing(&id).into());
    }
    json(&Deleted {
        id,
        r#type: "vault_deleted",
    })
}

/// The vault of this id.
///
/// # Errors
/// 404.
pub(super) async fn find(app: &App, workspace: &WorkspaceId, id: &str) -> Result<Vault, Fail> {
    let row = app.store.vault(workspace, &path_id("Vault", id)?).await?;
    shown(row.ok_or_else(|| missing(id))?)
}

/// Checks that a session may use these vaults.
///
/// # Errors
/// 404 for an unknown one, 400 for an archived one.
pub(super) async fn check_usable(
    app: &App,
    workspace: &WorkspaceId,
    ids: &[VaultId],
) -> Result<(), Fail> {
    for id in ids {
        if find(app, workspace, id.as_str())
            .await?
            .archived_at
            .is_some()
        {
            return Err(vault::archived(id).into());
        }
    }
    Ok(())
}

/// The vault of a row: its columns are the truth about what they hold.
fn shown(row: VaultRow) -> Result<Vault, Fail> {
    let vault: Vault = stored(&row.body)?;
    Ok(Vault {
        id: row.id,
        created_at: row.created_at,
        updated_at: row.updated_at,
        archived_at: row.archived_at,
        ..vault
    })
}

pub(super) fn missing(id: &str) -> ApiError {
    ApiError::not_found("Vault", id)
}
