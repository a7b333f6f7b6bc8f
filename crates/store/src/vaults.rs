//! Vaults (contract 64 §1). A body is JSON that this crate does not read; id and times stand beside
//! it and are the truth.

use freehold_base::{Timestamp, VaultId, WorkspaceId};

use crate::backend::{Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

pub mod credentials;

use credentials::purge_vault;

/// A vault to be made.
#[derive(Debug, Clone)]
pub struct NewVault {
    /// Its id.
    pub id: VaultId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The rest, JSON.
    pub body: String,
}

/// A vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultRow {
    /// Its id.
    pub id: VaultId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The rest, JSON.
    pub body: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed; rises strictly.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Which vaults to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct VaultQuery {
    /// Archived ones too.
    pub include_archived: bool,
    /// Only after this one.
    pub after: Option<(Timestamp, VaultId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why a vault was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateVaultError {
    /// No such vault in the workspace.
    #[error("no such vault")]
    NotFound,
    /// The vault is archived.
    #[error("the vault is archived")]
    Archived,
    /// Somebody changed it since the caller looked.
    #[error("the vault was changed meanwhile")]
    Conflict,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

const COLUMNS: &str = "id, workspace_id, body, created_at, updated_at, archived_at";

fn vault(mut row: Row) -> Result<VaultRow, StoreError> {
    Ok(VaultRow {
        id: row.id("vault id")?,
        workspace_id: row.id("vault workspace")?,
        body: row.text("vault")?,
        created_at: row.time("vault time")?,
        updated_at: row.time("vault time")?,
        archived_at: row.opt_time("vault time")?,
    })
}

pub(crate) fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &VaultId,
) -> Result<Option<VaultRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM vault WHERE id = ?1 AND workspace_id = ?2");
    one(tx.query(&sql, params![id, workspace])?)
        .map(vault)
        .transpose()
}

/// The vaults of a session, from its row.
pub(crate) fn ids(json: &str) -> Result<Vec<VaultId>, StoreError> {
    serde_json::from_str(json).map_err(|_| StoreError::Corrupt {
        what: "session vaults",
    })
}

/// The first of these vaults that a session cannot use: unknown in the workspace, or archived.
pub(crate) fn unusable(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    json: &str,
) -> Result<Option<VaultId>, StoreError> {
    for id in ids(json)? {
        let row = get(tx, workspace, &id)?;
        if row.is_none_or(|row| row.archived_at.is_some()) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

impl Store {
    /// Makes a vault.
    ///
    /// # Errors
    /// The store failed.
    pub async fn create_vault(&self, new: NewVault) -> Result<VaultRow, StoreError> {
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "INSERT INTO vault (id, workspace_id, body, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?4)",
                params![&new.id, &new.workspace_id, &new.body, now],
            )?;
            Ok(VaultRow {
                id: new.id.clone(),
                workspace_id: new.workspace_id.clone(),
                body: new.body.clone(),
                created_at: now,
                updated_at: now,
                archived_at: None,
            })
        })
        .await
    }

    /// Changes a vault that still has the `updated_at` of `expected`.
    ///
    /// # Errors
    /// See [`UpdateVaultError`].
    pub async fn update_vault(
        &self,
        workspace: &WorkspaceId,
        id: &VaultId,
        expected: Timestamp,
        body: String,
    ) -> Result<VaultRow, UpdateVaultError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "UPDATE vault SET body = ?3,
                   updated_at = CASE WHEN updated_at < ?4 THEN ?4 ELSE updated_at + 1 END
                 WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL AND updated_at = ?5
                 RETURNING {COLUMNS}"
            );
            let changed = tx.query(&sql, params![&id, &workspace, &body, now, expected])?;
            match one(changed) {
                Some(row) => Ok(vault(row)?),
                None => Err(match get(tx, &workspace, &id)? {
                    None => UpdateVaultError::NotFound,
                    Some(row) if row.archived_at.is_some() => UpdateVaultError::Archived,
                    Some(_) => UpdateVaultError::Conflict,
                }),
            }
        })
        .await
    }

    /// Archives a vault and its credentials for good and forgets their secrets; again changes
    /// nothing. `None` if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_vault(
        &self,
        workspace: &WorkspaceId,
        id: &VaultId,
    ) -> Result<Option<VaultRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let row = self
            .write(move |tx| {
                let now = tx.now();
                let archived = tx.execute(
                    "UPDATE vault SET archived_at = ?3,
                       updated_at = CASE WHEN updated_at < ?3 THEN ?3 ELSE updated_at + 1 END
                     WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL",
                    params![&id, &workspace, now],
                )?;
                if archived > 0 {
                    purge_vault(tx, &id)?;
                    tx.execute(
                        "UPDATE credential SET archived_at = ?2,
                           updated_at = CASE WHEN updated_at < ?2 THEN ?2 ELSE updated_at + 1 END
                         WHERE vault_id = ?1 AND archived_at IS NULL",
                        params![&id, now],
                    )?;
                }
                get(tx, &workspace, &id)
            })
            .await?;
        self.scrub().await?;
        Ok(row)
    }

    /// Deletes a vault, archived or not, with its credentials. Whether it was there.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_vault(
        &self,
        workspace: &WorkspaceId,
        id: &VaultId,
    ) -> Result<bool, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let found = self
            .write(move |tx| {
                if get(tx, &workspace, &id)?.is_none() {
                    return Ok::<_, StoreError>(false);
                }
                purge_vault(tx, &id)?;
                tx.execute("DELETE FROM credential WHERE vault_id = ?1", params![&id])?;
                tx.execute("DELETE FROM vault WHERE id = ?1", params![&id])?;
                Ok(true)
            })
            .await?;
        self.scrub().await?;
        Ok(found)
    }

    /// One vault.
    ///
    /// # Errors
    /// The store failed.
    pub async fn vault(
        &self,
        workspace: &WorkspaceId,
        id: &VaultId,
    ) -> Result<Option<VaultRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| get(tx, &workspace, &id)).await
    }

    /// Lists vaults; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_vaults(
        &self,
        workspace: &WorkspaceId,
        q: VaultQuery,
    ) -> Result<Vec<VaultRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            if !q.include_archived {
                f.fixed("archived_at IS NULL");
            }
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM vault {page}");
            tx.query(&sql, &f.params)?.into_iter().map(vault).collect()
        })
        .await
    }
}
