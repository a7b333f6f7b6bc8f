//! What a presented credential is: an API key, an environment key, or the token of a work item. The
//! three are told apart by looking them up, because other systems' prefixes overlap (contract 50 §1).

use freehold_base::{
    ApiKeyId, EnvironmentId, EnvironmentKeyId, SessionId, Timestamp, WorkId, WorkspaceId,
};

use crate::backend::{one, params};
use crate::keys::{KeyScope, scope};
use crate::{Store, StoreError};

/// A credential that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// The workspace everything it reaches is in.
    pub workspace_id: WorkspaceId,
    /// What it is.
    pub kind: CredentialKind,
}

/// What a credential is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialKind {
    /// An API key.
    ApiKey {
        /// Its row.
        id: ApiKeyId,
        /// Whether it may also administer.
        admin: bool,
    },
    /// An API key for tunnels only.
    TunnelKey {
        /// Its row.
        id: ApiKeyId,
    },
    /// An environment's key.
    EnvironmentKey {
        /// Its row.
        id: EnvironmentKeyId,
        /// The environment it opens.
        environment: EnvironmentId,
    },
    /// The token of a work item, handed out with it.
    WorkToken {
        /// The item.
        work: WorkId,
        /// The item's session.
        session: SessionId,
        /// The item's environment.
        environment: EnvironmentId,
        /// Whether the item has stopped: then the token opens nothing any more, and may only learn
        /// so.
        stopped: bool,
    },
}

/// A key that notes its use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyId {
    /// An API key.
    Api(ApiKeyId),
    /// An environment key.
    Environment(EnvironmentKeyId),
}

impl Store {
    /// The credential with this SHA-256, if it works: not revoked, its workspace not archived.
    ///
    /// # Errors
    /// The store failed.
    pub async fn credential_by_hash(
        &self,
        hash: &[u8; 32],
    ) -> Result<Option<CredentialRow>, StoreError> {
        let hash = *hash;
        self.look_up(move |tx| {
            let by = params![&hash[..]];
            let sql = "SELECT w.id, k.id, k.admin, k.scope FROM api_key k
               JOIN workspace w ON w.id = k.workspace_id
               WHERE k.hash = ?1 AND k.revoked_at IS NULL AND w.archived_at IS NULL";
            if let Some(mut row) = one(tx.query(sql, by)?) {
                let workspace_id = row.id("key workspace")?;
                let (id, admin) = (row.id("key id")?, row.flag("key flag")?);
                let kind = match scope(&mut row)? {
                    None => CredentialKind::ApiKey { id, admin },
                    Some(KeyScope::Tunnels) => CredentialKind::TunnelKey { id },
                };
                return Ok(Some(CredentialRow { workspace_id, kind }));
            }
            let sql = "SELECT w.id, t.id, t.session_id, t.environment_id, t.stopped_at FROM work t
               JOIN environment e ON e.id = t.environment_id
               JOIN workspace w ON w.id = e.workspace_id
               WHERE t.token_hash = ?1 AND w.archived_at IS NULL";
            if let Some(mut row) = one(tx.query(sql, by)?) {
                return Ok(Some(CredentialRow {
                    workspace_id: row.id("work workspace")?,
                    kind: CredentialKind::WorkToken {
                        work: row.id("work id")?,
                        session: row.id("work session")?,
                        environment: row.id("work environment")?,
                        stopped: row.opt_time("work time")?.is_some(),
                    },
                }));
            }
            let sql = "SELECT w.id, k.id, k.environment_id FROM environment_key k
               JOIN environment e ON e.id = k.environment_id
               JOIN workspace w ON w.id = e.workspace_id
               WHERE k.hash = ?1 AND k.revoked_at IS NULL AND w.archived_at IS NULL";
            one(tx.query(sql, by)?)
                .map(|mut row| {
                    Ok(CredentialRow {
                        workspace_id: row.id("environment key workspace")?,
                        kind: CredentialKind::EnvironmentKey {
                            id: row.id("environment key id")?,
                            environment: row.id("environment key environment")?,
                        },
                    })
                })
                .transpose()
        })
        .await
    }

    /// Notes when keys were last used. Call it now and then with what was gathered, not on each
    /// request: it is a durable write.
    ///
    /// # Errors
    /// The store failed.
    pub async fn touch_keys(&self, used: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        self.write(move |tx| {
            for (key, at) in &used {
                let (table, id) = match key {
                    KeyId::Api(id) => ("api_key", id.as_str()),
                    KeyId::Environment(id) => ("environment_key", id.as_str()),
                };
                let sql = format!(
                    "UPDATE {table} SET last_used_at = ?2
                     WHERE id = ?1 AND (last_used_at IS NULL OR last_used_at < ?2)"
                );
                tx.execute(&sql, params![id, *at])?;
            }
            Ok(())
        })
        .await
    }
}
