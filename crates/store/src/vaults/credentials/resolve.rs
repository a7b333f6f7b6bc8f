//! Which credentials a session has now.

use std::collections::HashSet;

use freehold_base::{Secret, SessionId};
use freehold_wire::credential::{ENVIRONMENT_VARIABLE, SecretField};

use super::{VaultCredentialRow, credential};
use crate::backend::{Tx, one, params};
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
