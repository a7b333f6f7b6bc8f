//! API keys, known by their hash only.

use freehold_base::{ApiKeyId, Timestamp, WorkspaceId};

use crate::backend::{Announcement, Row, one, params};
use crate::{Store, StoreError};

/// An API that a key opens instead of its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyScope {
    /// The tunnels of its workspace.
    Tunnels,
}

impl KeyScope {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tunnels => "tunnels",
        }
    }
    /// The scope of this name.
    pub fn parse(name: &str) -> Option<Self> {
        (name == "tunnels").then_some(Self::Tunnels)
    }
}

/// A scope in a row.
pub(crate) fn scope(row: &mut Row) -> Result<Option<KeyScope>, StoreError> {
    let unknown = StoreError::Corrupt { what: "key scope" };
    match row.opt_text("key scope")? {
        // A scope we do not know opens nothing, rather than everything.
        Some(name) => KeyScope::parse(&name).map(Some).ok_or(unknown),
        None => Ok(None),
    }
}

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// The workspace it opens.
    pub workspace_id: WorkspaceId,
    /// A name for people.
    pub name: String,
    /// Whether it may also administer.
    pub admin: bool,
    /// The one API it opens instead of the workspace.
    pub scope: Option<KeyScope>,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// The key's last four characters, to recognise it by.
    pub last4: String,
}

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// The row's id.
    pub id: ApiKeyId,
    /// The workspace it opens.
    pub workspace_id: WorkspaceId,
    /// A name for people.
    pub name: String,
    /// Whether it may also administer.
    pub admin: bool,
    /// The one API it opens instead of the workspace.
    pub scope: Option<KeyScope>,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// The key's last four characters.
    pub last4: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stopped working.
    pub revoked_at: Option<Timestamp>,
    /// About when it was last used; written now and then.
    pub last_used_at: Option<Timestamp>,
}

const COLUMNS: &str = "k.id, k.workspace_id, k.name, k.admin, k.hash, k.last4, k.created_at, k.revoked_at, \
   k.last_used_at, k.scope";

fn key(mut row: Row) -> Result<ApiKeyRow, StoreError> {
    Ok(ApiKeyRow {
        id: row.id("key id")?,
        workspace_id: row.id("key workspace")?,
        name: row.text("key name")?,
        admin: row.flag("key flag")?,
        hash: row
            .bytes("key hash")?
            .try_into()
            .map_err(|_| StoreError::Corrupt { what: "key hash" })?,
        last4: row.text("key hint")?,
        created_at: row.time("key time")?,
        revoked_at: row.opt_time("key time")?,
        last_used_at: row.opt_time("key time")?,
        scope: scope(&mut row)?,
    })
}

impl Store {
    /// Stores a key.
    ///
    /// # Errors
    /// [`StoreError::Unique`] if the same key exists; or the store failed.
    pub async fn create_key(&self, new: NewApiKey) -> Result<ApiKeyRow, StoreError> {
        let id: ApiKeyId = self.ids().next();
        self.write(move |tx| {
            let now = tx.now();
            tx.execute(
                "INSERT INTO api_key (id, workspace_id, name, admin, hash, last4, created_at, scope)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    &id,
                    &new.workspace_id,
                    &new.name,
                    new.admin,
                    &new.hash[..],
                    &new.last4,
                    now,
                    new.scope.map(KeyScope::as_str),
                ],
            )?;
            Ok(ApiKeyRow {
                id: id.clone(),
                workspace_id: new.workspace_id.clone(),
                name: new.name.clone(),
                admin: new.admin,
                scope: new.scope,
                hash: new.hash,
                last4: new.last4.clone(),
                created_at: now,
                revoked_at: None,
                last_used_at: None,
            })
        })
        .await
    }

    /// All keys, of one workspace or of all, oldest first, revoked ones too. They are made by the
    /// operator and few: no pages.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_keys(
        &self,
        workspace: Option<&WorkspaceId>,
    ) -> Result<Vec<ApiKeyRow>, StoreError> {
        let workspace = workspace.cloned();
        self.read(move |tx| {
            let sql = format!(
                "SELECT {COLUMNS} FROM api_key k WHERE ?1 IS NULL OR k.workspace_id = ?1
                 ORDER BY k.created_at, k.id"
            );
            tx.query(&sql, params![workspace.as_ref()])?
                .into_iter()
                .map(key)
                .collect()
        })
        .await
    }

    /// Stops a key for good; again changes nothing. `None` if there is no such key.
    ///
    /// # Errors
    /// The store failed.
    pub async fn revoke_key(&self, id: &ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
        let id = id.clone();
        self.write(move |tx| {
            let now = tx.now();
            let sql = format!(
                "UPDATE api_key AS k SET revoked_at = COALESCE(revoked_at, ?2) WHERE id = ?1
                 RETURNING {}",
                COLUMNS.replace("k.", "")
            );
            let revoked = one(tx.query(&sql, params![&id, now])?)
                .map(key)
                .transpose()?;
            tx.announce(Announcement::AccessChanged);
            Ok(revoked)
        })
        .await
    }

    /// Whether no key was ever made: the first start.
    ///
    /// # Errors
    /// The store failed.
    pub async fn keys_is_empty(&self) -> Result<bool, StoreError> {
        self.read(|tx| Ok(tx.query("SELECT 1 FROM api_key LIMIT 1", &[])?.is_empty()))
            .await
    }
}
