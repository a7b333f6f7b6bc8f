//! Environment keys (contract 50 §11), known by their hash only: what a worker claims the work of one
//! environment with.

use freehold_base::{EnvironmentId, EnvironmentKeyId, Timestamp};

use crate::backend::{Announcement, Row, one, params};
use crate::{Store, StoreError, work};

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewEnvironmentKey {
    /// The environment it opens.
    pub environment_id: EnvironmentId,
    /// A name for people.
    pub name: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// The key's last four characters, to recognise it by.
    pub last4: String,
}

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentKeyRow {
    /// The row's id.
    pub id: EnvironmentKeyId,
    /// The environment it opens.
    pub environment_id: EnvironmentId,
    /// A name for people.
    pub name: String,
    /// The key's last four characters.
    pub last4: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stopped working.
    pub revoked_at: Option<Timestamp>,
    /// About when it was last used; written now and then.
    pub last_used_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, environment_id, name, last4, created_at, revoked_at, last_used_at";

fn key(mut row: Row) -> Result<EnvironmentKeyRow, StoreError> {
    Ok(EnvironmentKeyRow {
        id: row.id("environment key id")?,
        environment_id: row.id("environment key environment")?,
        name: row.text("environment key name")?,
        last4: row.text("environment key hint")?,
        created_at: row.time("environment key time")?,
        revoked_at: row.opt_time("environment key time")?,
        last_used_at: row.opt_time("environment key time")?,
    })
}

impl Store {
    /// Stores a key. The caller has found the environment before; one that was deleted since fails
    /// the store.
    ///
    /// # Errors
    /// [`StoreError::Unique`] if the same key exists; or the store failed.
    pub async fn create_environment_key(
        &self,
        new: NewEnvironmentKey,
    ) -> Result<EnvironmentKeyRow, StoreError> {
        let id: EnvironmentKeyId = self.ids().next();
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "INSERT INTO environment_key (id, environment_id, name, hash, last4, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING {COLUMNS}"
            );
            let made = tx.query(
                &sql,
                params![
                    &id,
                    &new.environment_id,
                    &new.name,
                    &new.hash[..],
                    &new.last4,
                    now,
                ],
            )?;
            let row = one(made).ok_or(StoreError::Corrupt {
                what: "environment key",
            })?;
            key(row)
        })
        .await
    }

    /// All keys of an environment, oldest first, revoked ones too. They are made by the operator and
    /// few: no pages.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_environment_keys(
        &self,
        environment: &EnvironmentId,
    ) -> Result<Vec<EnvironmentKeyRow>, StoreError> {
        let environment = environment.clone();
        self.read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM environment_key WHERE environment_id = ?1
                 ORDER BY created_at, id"
            );
            let rows = tx.query(&sql, params![&environment])?;
            rows.into_iter().map(key).collect()
        })
        .await
    }

    /// Stops a key of an environment for good, and takes back the work that was handed out to it;
    /// again changes nothing. `None` if there is no such
    /// key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn revoke_environment_key(
        &self,
        environment: &EnvironmentId,
        id: &EnvironmentKeyId,
    ) -> Result<Option<EnvironmentKeyRow>, StoreError> {
        let (environment, id, ids) = (environment.clone(), id.clone(), self.ids().clone());
        self.write(move |tx| {
            let now = tx.now();
            work::take_back(tx, &ids, &environment, &id)?;
            tx.announce(Announcement::AccessChanged);
            let sql = format!(
                "UPDATE environment_key SET revoked_at = COALESCE(revoked_at, ?3)
                 WHERE id = ?1 AND environment_id = ?2 RETURNING {COLUMNS}"
            );
            one(tx.query(&sql, params![&id, &environment, now])?)
                .map(key)
                .transpose()
        })
        .await
    }
}
