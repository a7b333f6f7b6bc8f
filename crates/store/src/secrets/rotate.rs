//! Moving every secret to the newest master key.

use super::{COLUMNS, Keyring, SealedSecret, SecretError, SecretOwner, stored_secret};
use crate::backend::{Tx, params};
use crate::{Store, StoreError, tunnels};

/// Secrets moved in one transaction.
const BATCH: usize = 256;

/// Why not every secret was moved; those that were stay moved.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// One cannot be read.
    #[error("{field} of {item} cannot be read")]
    Secret {
        /// Id of the credential or token.
        item: String,
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
                    let mut moved = 0;
                    for (from, update) in &places() {
                        let stale = stale(tx, from, keys.newest().id())?;
                        for (owner, sealed) in &stale {
                            let sealed =
                                keys.rewrap(&ids, owner, sealed.clone()).map_err(|source| {
                                    RotateError::Secret {
                                        item: owner.item.clone(),
                                        field: owner.field.clone(),
                                        source,
                                    }
                                })?;
                            tx.execute(
                                update,
                                params![
                                    &owner.item,
                                    &owner.field,
                                    &sealed.master,
                                    &sealed.wrapped[..],
                                ],
                            )?;
                        }
                        moved += stale.len();
                    }
                    Ok::<_, RotateError>(moved)
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
                let sql = "SELECT master FROM credential_secret
                   UNION SELECT master FROM tunnel_token";
                let rows = tx.query(sql, &[])?;
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

/// Where secrets are: how they are read, and how one gets its new wrapping.
fn places() -> [(String, &'static str); 2] {
    [
        (
            format!(
                "SELECT {COLUMNS} FROM credential_secret s JOIN credential c ON c.id = s.credential_id"
            ),
            "UPDATE credential_secret SET master = ?3, wrapped = ?4
             WHERE credential_id = ?1 AND field = ?2",
        ),
        (
            format!("SELECT {}", tunnels::TOKEN_SECRET),
            "UPDATE tunnel_token SET master = ?3, wrapped = ?4 WHERE id = ?1 AND ?2 <> ''",
        ),
    ]
}

fn stale(
    tx: &mut dyn Tx,
    from: &str,
    newest: &str,
) -> Result<Vec<(SecretOwner, SealedSecret)>, StoreError> {
    let sql = format!("{from} WHERE s.master <> ?1 LIMIT {BATCH}");
    let rows = tx.query(&sql, params![newest])?;
    rows.into_iter()
        .map(|mut row| stored_secret(&mut row))
        .collect()
}
