//! Credentials of vaults (contract 64 §2). A body is JSON as it is shown, and holds no secret;
//! secrets are rows of their own, encrypted by [`secrets`](crate::secrets).

use freehold_base::{CredentialId, Secret, Timestamp, VaultId, WorkspaceId, limits};

use crate::backend::{Row, Tx, Value, one, params};
use crate::secrets::{SealedSecret, SecretOwner};
use crate::sql::Filter;
use crate::{Store, StoreError, vaults};

mod resolve;

pub use resolve::{McpCredential, SessionCredential};

/// A credential to be made.
#[derive(Debug, Clone)]
pub struct NewCredential {
    /// Its id.
    pub id: CredentialId,
    /// Its vault.
    pub vault_id: VaultId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// The wire's name of its type.
    pub kind: &'static str,
    /// What it is for; only one active credential of a vault may be for it.
    pub target: String,
    /// As it is shown, JSON.
    pub body: String,
    /// Its secrets by their fields.
    pub secrets: Vec<(&'static str, Secret<String>)>,
}

/// What an update leaves behind.
#[derive(Debug, Clone)]
pub struct CredentialChange {
    /// Only if the row still has this `updated_at`: the one the caller merged into.
    pub expected: Timestamp,
    /// As it is shown, JSON.
    pub body: String,
    /// Secrets to replace.
    pub secrets: Vec<(&'static str, Secret<String>)>,
}

/// A credential, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultCredentialRow {
    /// Its id.
    pub id: CredentialId,
    /// Its vault.
    pub vault_id: VaultId,
    /// As it is shown, JSON.
    pub body: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed; rises strictly.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Why a credential was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateCredentialError {
    /// No such vault in the workspace.
    #[error("no such vault")]
    VaultNotFound,
    /// The vault is archived.
    #[error("the vault is archived")]
    VaultArchived,
    /// Another active credential of the vault is for the same.
    #[error("the target is taken")]
    TargetTaken,
    /// The vault holds as many active credentials as it may.
    #[error("the vault is full")]
    Full,
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for CreateCredentialError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unique(_) => Self::TargetTaken, // Ids are ours and random.
            error => Self::Store(error),
        }
    }
}

/// Why a credential was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateCredentialError {
    /// No such credential in the vault.
    #[error("no such credential")]
    NotFound,
    /// The credential is archived.
    #[error("the credential is archived")]
    Archived,
    /// Somebody changed it since the caller looked.
    #[error("the credential was changed meanwhile")]
    Conflict,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

const COLUMNS: &str = "id, vault_id, body, created_at, updated_at, archived_at";

fn credential(row: &mut Row) -> Result<VaultCredentialRow, StoreError> {
    Ok(VaultCredentialRow {
        id: row.id("credential id")?,
        vault_id: row.id("credential vault")?,
        body: row.text("credential")?,
        created_at: row.time("credential time")?,
        updated_at: row.time("credential time")?,
        archived_at: row.opt_time("credential time")?,
    })
}

fn get(
    tx: &mut dyn Tx,
    (workspace, vault, id): (&WorkspaceId, &VaultId, &CredentialId),
) -> Result<Option<VaultCredentialRow>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM credential WHERE id = ?1 AND vault_id = ?2 AND workspace_id = ?3"
    );
    one(tx.query(&sql, params![id, vault, workspace])?)
        .map(|mut row| credential(&mut row))
        .transpose()
}

/// Writes a secret in place of the one the field had.
fn put(
    tx: &mut dyn Tx,
    id: &CredentialId,
    (field, sealed): &(&'static str, SealedSecret),
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO credential_secret (credential_id, field, master, wrapped, sealed)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (credential_id, field) DO UPDATE SET
           master = excluded.master, wrapped = excluded.wrapped, sealed = excluded.sealed",
        params![
            id,
            *field,
            &sealed.master,
            &sealed.wrapped[..],
            &sealed.sealed[..]
        ],
    )?;
    Ok(())
}

fn purge(tx: &mut dyn Tx, id: &CredentialId) -> Result<(), StoreError> {
    let sql = "DELETE FROM credential_secret WHERE credential_id = ?1";
    tx.execute(sql, params![id]).map(drop)
}

/// Forgets the secrets of a vault.
pub(crate) fn purge_vault(tx: &mut dyn Tx, vault: &VaultId) -> Result<(), StoreError> {
    let sql = "DELETE FROM credential_secret WHERE credential_id IN
       (SELECT id FROM credential WHERE vault_id = ?1)";
    tx.execute(sql, params![vault]).map(drop)
}

impl Store {
    fn seal(
        &self,
        (workspace, vault, credential): (&WorkspaceId, &VaultId, &CredentialId),
        secrets: &[(&'static str, Secret<String>)],
    ) -> Vec<(&'static str, SealedSecret)> {
        let sealed = secrets.iter().map(|(field, secret)| {
            let owner = SecretOwner {
                workspace: workspace.clone(),
                holder: vault.to_string(),
                item: credential.to_string(),
                field: (*field).to_owned(),
            };
            (*field, self.keys().seal(self.ids(), &owner, secret))
        });
        sealed.collect()
    }

    /// Makes a credential.
    ///
    /// # Errors
    /// See [`CreateCredentialError`].
    pub async fn create_credential(
        &self,
        new: NewCredential,
    ) -> Result<VaultCredentialRow, CreateCredentialError> {
        let place = (&new.workspace_id, &new.vault_id, &new.id);
        let sealed = self.seal(place, &new.secrets);
        self.write(move |tx| {
            match vaults::get(tx, &new.workspace_id, &new.vault_id)? {
                None => return Err(CreateCredentialError::VaultNotFound),
                Some(vault) if vault.archived_at.is_some() => {
                    return Err(CreateCredentialError::VaultArchived);
                }
                Some(_) => {}
            }
            let now = tx.now();
            tx.execute(
                "INSERT INTO credential
                   (id, vault_id, workspace_id, kind, target, body, created_at, updated_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)",
                params![
                    &new.id,
                    &new.vault_id,
                    &new.workspace_id,
                    new.kind,
                    &new.target,
                    &new.body,
                    now
                ],
            )?;
            // After the insert, so that a duplicate is told as one even where the vault is full.
            let active = "SELECT COUNT(*) FROM credential
               WHERE vault_id = ?1 AND archived_at IS NULL";
            let active = one(tx.query(active, params![&new.vault_id])?)
                .map_or(Ok(0), |mut row| row.count("count"))?;
            if active > limits::MAX_CREDENTIALS as u64 {
                return Err(CreateCredentialError::Full);
            }
            for secret in &sealed {
                put(tx, &new.id, secret)?;
            }
            Ok(VaultCredentialRow {
                id: new.id.clone(),
                vault_id: new.vault_id.clone(),
                body: new.body.clone(),
                created_at: now,
                updated_at: now,
                archived_at: None,
            })
        })
        .await
    }

    /// Changes a credential and replaces secrets.
    ///
    /// # Errors
    /// See [`UpdateCredentialError`].
    pub async fn update_credential(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
        change: CredentialChange,
    ) -> Result<VaultCredentialRow, UpdateCredentialError> {
        let sealed = self.seal((workspace, vault, id), &change.secrets);
        let replaced = !sealed.is_empty();
        let (workspace, vault, id) = (workspace.clone(), vault.clone(), id.clone());
        let row = self
            .write(move |tx| {
                let now = tx.now();
                let sql = format!(
                    "UPDATE credential SET body = ?4,
                       updated_at = CASE WHEN updated_at < ?5 THEN ?5 ELSE updated_at + 1 END
                     WHERE id = ?1 AND vault_id = ?2 AND workspace_id = ?3
                       AND archived_at IS NULL AND updated_at = ?6
                     RETURNING {COLUMNS}"
                );
                let changed = tx.query(
                    &sql,
                    params![&id, &vault, &workspace, &change.body, now, change.expected],
                )?;
                let Some(mut row) = one(changed) else {
                    return Err(match get(tx, (&workspace, &vault, &id))? {
                        None => UpdateCredentialError::NotFound,
                        Some(row) if row.archived_at.is_some() => UpdateCredentialError::Archived,
                        Some(_) => UpdateCredentialError::Conflict,
                    });
                };
                for secret in &sealed {
                    put(tx, &id, secret)?;
                }
                Ok(credential(&mut row)?)
            })
            .await?;
        if replaced {
            self.scrub().await?;
        }
        Ok(row)
    }

    /// Archives a credential for good and forgets its secrets; again changes nothing. `None` if
    /// there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_credential(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<Option<VaultCredentialRow>, StoreError> {
        let (workspace, vault, id) = (workspace.clone(), vault.clone(), id.clone());
        let row = self
            .write(move |tx| {
                let now = tx.now();
                let archived = tx.execute(
                    "UPDATE credential SET archived_at = ?4,
                       updated_at = CASE WHEN updated_at < ?4 THEN ?4 ELSE updated_at + 1 END
                     WHERE id = ?1 AND vault_id = ?2 AND workspace_id = ?3
                       AND archived_at IS NULL",
                    params![&id, &vault, &workspace, now],
                )?;
                if archived > 0 {
                    purge(tx, &id)?;
                }
                get(tx, (&workspace, &vault, &id))
            })
            .await?;
        self.scrub().await?;
        Ok(row)
    }

    /// Deletes a credential, archived or not. Whether it was there.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete_credential(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<bool, StoreError> {
        let (workspace, vault, id) = (workspace.clone(), vault.clone(), id.clone());
        let found = self
            .write(move |tx| {
                if get(tx, (&workspace, &vault, &id))?.is_none() {
                    return Ok::<_, StoreError>(false);
                }
                purge(tx, &id)?;
                tx.execute("DELETE FROM credential WHERE id = ?1", params![&id])?;
                Ok(true)
            })
            .await?;
        self.scrub().await?;
        Ok(found)
    }

    /// One credential.
    ///
    /// # Errors
    /// The store failed.
    pub async fn credential(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<Option<VaultCredentialRow>, StoreError> {
        let (workspace, vault, id) = (workspace.clone(), vault.clone(), id.clone());
        self.read(move |tx| get(tx, (&workspace, &vault, &id)))
            .await
    }

    /// Lists a vault's credentials, newest first; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_credentials(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        q: CredentialQuery,
    ) -> Result<Vec<VaultCredentialRow>, StoreError> {
        let (workspace, vault) = (workspace.clone(), vault.clone());
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("vault_id = {}", [Value::from(&vault)]);
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            if !q.include_archived {
                f.fixed("archived_at IS NULL");
            }
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM credential {page}");
            let rows = tx.query(&sql, &f.params)?.into_iter();
            rows.map(|mut row| credential(&mut row)).collect()
        })
        .await
    }
}

/// Which credentials of a vault to list.
#[derive(Debug, Clone, Default)]
pub struct CredentialQuery {
    /// Archived ones too.
    pub include_archived: bool,
    /// Only after this one.
    pub after: Option<(Timestamp, CredentialId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}
