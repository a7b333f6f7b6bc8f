//! Moving every secret to the newest master key.

use super::{COLUMNS, Keyring, SealedSecret, SecretError, SecretOwner, stored_secret};
use crate::backend::{Tx, params};
use crate::{Store, StoreError};

/// Secrets moved in one transaction.
const BATCH: usize = 256;

/// Why not every secret was moved; those that were stay moved.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// One cannot be read.
    #[error("{field} of credential {credential} cannot be read")]
    Secret {
        /// The credential.
        credential: String,
        /// The field.
        field: String,
        /// Why.
        source: SecretError,
    },
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl Store {
    /// Moves every secret to the newest key of `keys`, which must also hold the keys that are used
    /// now; gives how many were moved. Interrupted and run again it goes on.
    ///
    /// # Errors
    /// See [`RotateError`].
    pub async fn rewrap_secrets(&self, keys: &Keyring) -> Result<usize, RotateError> {
        let mut moved = 0;
        loop {
            let (keys, ids) = (keys.clone(), self.ids().clone());
            let batch = self
                .write(move |tx| {
                    let stale = stale(tx, keys.newest().id())?;
                    for (owner, sealed) in &stale {
                        let sealed =
                            keys.rewrap(&ids, owner, sealed.clone()).map_err(|source| {
                                RotateError::Secret {
                                    credential: owner.credential.to_string(),
                                    field: owner.field.clone(),
                                    source,
                                }
                            })?;
                        tx.execute(
                            "UPDATE credential_secret SET master = ?3, wrapped = ?4
                             WHERE credential_id = ?1 AND field = ?2",
                            params![
                                &owner.credential,
                                &owner.field,
                                &sealed.master,
                                &sealed.wrapped[..],
                            ],
                        )?;
                    }
                    Ok::<_, RotateError>(stale.len())
                })
                .await?;
            moved += batch;
            if batch == 0 {
                // What the old key wrapped is not left in the log.
                self.scrub().await?;
                return Ok(moved);
            }
        }
    }

    /// Ids of master keys that stored secrets need and this store does not have.
    ///
    /// # Errors
    /// The store failed.
    pub async fn missing_master_keys(&self) -> Result<Vec<String>, StoreError> {
        let used = self
            .read(|tx| {
                let rows = tx.query("SELECT DISTINCT master FROM credential_secret", &[])?;
                let ids = rows.into_iter().map(|mut row| row.text("secret key"));
                ids.collect::<Result<Vec<_>, StoreError>>()
            })
            .await?;
        let keys = self.keys();
        Ok(used
            .into_iter()
            .filter(|id| keys.find(id).is_none())
            .collect())
    }
}

fn stale(tx: &mut dyn Tx, newest: &str) -> Result<Vec<(SecretOwner, SealedSecret)>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM credential_secret s JOIN credential c ON c.id = s.credential_id
         WHERE s.master <> ?1 LIMIT {BATCH}"
    );
    let rows = tx.query(&sql, params![newest])?;
    rows.into_iter()
        .map(|mut row| stored_secret(&mut row))
        .collect()
}
