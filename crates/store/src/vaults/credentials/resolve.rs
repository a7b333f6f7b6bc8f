//! Which credentials a session has now.

use std::collections::HashSet;

use freehold_base::{CredentialId, Secret, SessionId, VaultId, WorkspaceId};
use freehold_wire::credential::{ENVIRONMENT_VARIABLE, SecretField, normalise};

use super::{VaultCredentialRow, credential};
use crate::backend::{Tx, Value, one, params};
use crate::secrets::{COLUMNS as SECRET, SealedSecret, SecretError, SecretOwner, stored_secret};
use crate::{Store, StoreError, vaults};

/// An `environment_variable` credential of a session.
#[derive(Debug, Clone)]
pub struct SessionCredential {
    /// The credential.
    pub row: VaultCredentialRow,
    /// Its value, if it can be read.
    pub value: Result<Secret<String>, SecretError>,
}

/// A credential of a session for an MCP server.
#[derive(Debug, Clone)]
pub struct McpCredential {
    /// Its workspace.
    pub workspace: WorkspaceId,
    /// The credential.
    pub row: VaultCredentialRow,
    /// Its secrets by their fields, if they can be read.
    pub secrets: Vec<(String, Result<Secret<String>, SecretError>)>,
}

impl McpCredential {
    /// A secret, if it is there.
    ///
    /// # Errors
    /// It is, and cannot be read.
    pub fn secret(&self, field: SecretField) -> Result<Option<Secret<String>>, SecretError> {
        let found = self.secrets.iter().find(|(f, _)| f == field.as_str());
        found.map(|(_, secret)| secret.clone()).transpose()
    }
}

type Found = (VaultCredentialRow, SecretOwner, SealedSecret);

impl Store {
    /// The active `environment_variable` credentials of a session's vaults, in the order of the
    /// vaults, as they are at this moment. Of several for one variable the first counts, whether
    /// its value can be read or not. Empty if there is no such session.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_environment_credentials(
        &self,
        session: &SessionId,
    ) -> Result<Vec<SessionCredential>, StoreError> {
        let session = session.clone();
        let found = self.read(move |tx| find(tx, &session)).await?;
        let opened = found.into_iter().map(|(row, owner, sealed)| {
            let value = self.keys().open(&owner, &sealed);
            SessionCredential { row, value }
        });
        Ok(opened.collect())
    }
}

impl Store {
    /// The active credential of a session's vaults for an MCP server: that of the first vault in
    /// order that has one (contract 62, "Authentication").
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_mcp_credential(
        &self,
        session: &SessionId,
        url: &str,
    ) -> Result<Option<McpCredential>, StoreError> {
        let (session, target) = (session.clone(), normalise(url));
        let found = self.read(move |tx| find_mcp(tx, &session, &target)).await?;
        Ok(self.opened(found.unwrap_or_default()))
    }

    /// One credential with its secrets, active or not.
    ///
    /// # Errors
    /// The store failed.
    pub async fn mcp_credential(
        &self,
        workspace: &WorkspaceId,
        vault: &VaultId,
        id: &CredentialId,
    ) -> Result<Option<McpCredential>, StoreError> {
        let (workspace, vault, id) = (workspace.clone(), vault.clone(), id.clone());
        let found = self.read(move |tx| {
            let filter = "c.workspace_id = ?1 AND c.vault_id = ?2 AND c.id = ?3";
            secrets_of(tx, filter, params![&workspace, &vault, &id])
        });
        Ok(self.opened(found.await?))
    }

    /// All of `found` belong to one credential.
    fn opened(&self, found: Vec<Found>) -> Option<McpCredential> {
        let (row, owner, _) = found.first()?.clone();
        let secrets = found.into_iter().map(|(_, owner, sealed)| {
            let value = self.keys().open(&owner, &sealed);
            (owner.field, value)
        });
        Some(McpCredential {
            workspace: owner.workspace,
            row,
            secrets: secrets.collect(),
        })
    }
}

fn find_mcp(
    tx: &mut dyn Tx,
    session: &SessionId,
    target: &str,
) -> Result<Option<Vec<Found>>, StoreError> {
    let sql = "SELECT vault_ids FROM session_body WHERE session_id = ?1";
    let Some(mut row) = one(tx.query(sql, params![session])?) else {
        return Ok(None);
    };
    for vault in vaults::ids(&row.text("session vaults")?)? {
        // The session's workspace again: a vault of another must never serve it.
        let filter = "c.vault_id = ?1 AND c.archived_at IS NULL AND c.target = ?2 AND c.kind <> ?3
           AND c.workspace_id = (SELECT workspace_id FROM session WHERE id = ?4)";
        let by = params![&vault, target, ENVIRONMENT_VARIABLE, session];
        let found = secrets_of(tx, filter, by)?;
        if !found.is_empty() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn secrets_of(tx: &mut dyn Tx, filter: &str, by: &[Value<'_>]) -> Result<Vec<Found>, StoreError> {
    let sql = format!(
        "SELECT c.id, c.vault_id, c.body, c.created_at, c.updated_at, c.archived_at, {SECRET}
         FROM credential c JOIN credential_secret s ON s.credential_id = c.id
         WHERE {filter}"
    );
    let rows = tx.query(&sql, by)?.into_iter().map(|mut row| {
        let credential = credential(&mut row)?;
        let (owner, sealed) = stored_secret(&mut row)?;
        Ok((credential, owner, sealed))
    });
    rows.collect()
}

fn find(tx: &mut dyn Tx, session: &SessionId) -> Result<Vec<Found>, StoreError> {
    let sql = "SELECT vault_ids FROM session_body WHERE session_id = ?1";
    let Some(mut row) = one(tx.query(sql, params![session])?) else {
        return Ok(Vec::new());
    };
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for vault in vaults::ids(&row.text("session vaults")?)? {
        // The session's workspace again: a vault of another must never serve it.
        let sql = format!(
            "SELECT c.target, c.id, c.vault_id, c.body, c.created_at, c.updated_at,
               c.archived_at, {SECRET}
             FROM credential c JOIN credential_secret s ON s.credential_id = c.id
             WHERE c.vault_id = ?1 AND c.archived_at IS NULL AND c.kind = ?2 AND s.field = ?3
               AND c.workspace_id = (SELECT workspace_id FROM session WHERE id = ?4)
             ORDER BY c.created_at, c.id"
        );
        let field = SecretField::SecretValue.as_str();
        let rows = tx.query(&sql, params![&vault, ENVIRONMENT_VARIABLE, field, session])?;
        for mut row in rows {
            if seen.insert(row.text("credential target")?) {
                let credential = credential(&mut row)?;
                let (owner, sealed) = stored_secret(&mut row)?;
                found.push((credential, owner, sealed));
            }
        }
    }
    Ok(found)
}
