//! MCP tunnels (contract 60 §1): the tunnels themselves and their tokens. A token is found by its
//! hash and shown again on request, so it is kept encrypted as the secrets of vaults are.

use freehold_base::{IdSource, Secret, Timestamp, TunnelId, TunnelTokenId, WorkspaceId, limits};
use sha2::{Digest, Sha256};

use crate::backend::{Announcement, Row, Tx, Value, one, params};
use crate::secrets::{SealedSecret, SecretError, SecretOwner};
use crate::sql::Filter;
use crate::{Store, StoreError};

pub mod certificates;
mod directory;

pub use directory::{OpenTunnel, TokenOf};

/// A tunnel to be made.
#[derive(Debug, Clone)]
pub struct NewTunnel {
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// A name for people.
    pub display_name: Option<String>,
    /// What its domain is made below.
    pub base_domain: String,
}

/// A tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelRow {
    /// Its id.
    pub id: TunnelId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
    /// A name for people.
    pub display_name: Option<String>,
    /// Its domain, which no other tunnel ever had or gets.
    pub domain: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// A value of a tunnel's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelToken {
    /// Names the value.
    pub id: TunnelTokenId,
    /// The value.
    pub value: Secret<String>,
}

/// Which tunnels to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct TunnelQuery {
    /// Archived ones too.
    pub include_archived: bool,
    /// Only after this one.
    pub after: Option<(Timestamp, TunnelId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why a tunnel was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateTunnelError {
    /// The organization has as many active tunnels as it may.
    #[error("there are as many tunnels as there may be")]
    Full,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Why a token was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum RotateTokenError {
    /// No such tunnel in the workspace.
    #[error("no such tunnel")]
    NotFound,
    /// The tunnel is archived.
    #[error("the tunnel is archived")]
    Archived,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Why a token was not shown.
#[derive(Debug, thiserror::Error)]
pub enum RevealError {
    /// No such tunnel in the workspace.
    #[error("no such tunnel")]
    NotFound,
    /// The tunnel is archived.
    #[error("the tunnel is archived")]
    Archived,
    /// It cannot be decrypted.
    #[error("the token cannot be read")]
    Secret(#[source] SecretError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

const COLUMNS: &str = "id, workspace_id, display_name, domain, created_at, archived_at";
/// What `secrets::stored_secret` reads, of a token.
pub(crate) const TOKEN_SECRET: &str = "t.workspace_id, t.id, s.id, 'tunnel_token', s.master, \
    s.wrapped, s.sealed FROM tunnel_token s JOIN tunnel t ON t.id = s.tunnel_id";
/// As it is bound to the encryption.
const FIELD: &str = "tunnel_token";
/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;
/// Characters of a domain before the base domain.
const LABEL: usize = 8;

fn tunnel(mut row: Row) -> Result<TunnelRow, StoreError> {
    Ok(TunnelRow {
        id: row.id("tunnel id")?,
        workspace_id: row.id("tunnel workspace")?,
        display_name: row.opt_text("tunnel name")?,
        domain: row.text("tunnel domain")?,
        created_at: row.time("tunnel time")?,
        archived_at: row.opt_time("tunnel time")?,
    })
}

fn get(
    tx: &mut dyn Tx,
    workspace: &WorkspaceId,
    id: &TunnelId,
) -> Result<Option<TunnelRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM tunnel WHERE id = ?1 AND workspace_id = ?2");
    one(tx.query(&sql, params![id, workspace])?)
        .map(tunnel)
        .transpose()
}

/// A label of lower-case letters and digits, each as likely as the others.
fn label(ids: &IdSource) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut label = String::new();
    while label.len() < LABEL {
        let mut byte = [0u8; 1];
        ids.fill(&mut byte);
        // 252 is the greatest multiple of 36 in a byte.
        if byte[0] < 252 {
            label.push(char::from(ALPHABET[usize::from(byte[0] % 36)]));
        }
    }
    label
}

fn owner(workspace: &WorkspaceId, tunnel: &TunnelId, token: &TunnelTokenId) -> SecretOwner {
    SecretOwner {
        workspace: workspace.clone(),
        holder: tunnel.to_string(),
        item: token.to_string(),
        field: FIELD.to_owned(),
    }
}

/// A fresh token, as it is shown and as it is stored.
struct Fresh {
    shown: TunnelToken,
    hash: [u8; 32],
    sealed: SealedSecret,
}

impl Fresh {
    fn put(&self, tx: &mut dyn Tx, tunnel: &TunnelId) -> Result<(), StoreError> {
        tx.execute(
            "INSERT INTO tunnel_token (tunnel_id, id, hash, master, wrapped, sealed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (tunnel_id) DO UPDATE SET
               id = excluded.id, hash = excluded.hash, master = excluded.master,
               wrapped = excluded.wrapped, sealed = excluded.sealed",
            params![
                tunnel,
                &self.shown.id,
                &self.hash[..],
                &self.sealed.master,
                &self.sealed.wrapped[..],
                &self.sealed.sealed[..],
            ],
        )?;
        Ok(())
    }
}

impl Store {
    fn fresh_token(&self, workspace: &WorkspaceId, tunnel: &TunnelId) -> Fresh {
        let id: TunnelTokenId = self.ids().next();
        let value = Secret::new(format!("fht_{}", self.ids().hex(TOKEN_BYTES)));
        let hash = Sha256::digest(value.expose().as_bytes()).into();
        let owner = owner(workspace, tunnel, &id);
        let sealed = self.keys().seal(self.ids(), &owner, &value);
        Fresh {
            shown: TunnelToken { id, value },
            hash,
            sealed,
        }
    }

    /// Makes a tunnel with a domain and a token. Tunnels of archived workspaces do not count
    /// against the limit.
    ///
    /// # Errors
    /// See [`CreateTunnelError`].
    pub async fn create_tunnel(&self, new: NewTunnel) -> Result<TunnelRow, CreateTunnelError> {
        let id: TunnelId = self.ids().next();
        let token = self.fresh_token(&new.workspace_id, &id);
        let ids = self.ids().clone();
        self.write(move |tx| {
            let active = "SELECT COUNT(*) FROM tunnel t JOIN workspace w ON w.id = t.workspace_id
               WHERE t.archived_at IS NULL AND w.archived_at IS NULL";
            let active = one(tx.query(active, &[])?).map_or(Ok(0), |mut row| row.count("count"))?;
            if active >= limits::MAX_TUNNELS as u64 {
                return Err(CreateTunnelError::Full);
            }
            let mut domain = format!("{}.{}", label(&ids), new.base_domain);
            let taken = "SELECT 1 FROM tunnel WHERE domain = ?1";
            while !tx.query(taken, params![&domain])?.is_empty() {
                domain = format!("{}.{}", label(&ids), new.base_domain);
            }
            let row = TunnelRow {
                id: id.clone(),
                workspace_id: new.workspace_id.clone(),
                display_name: new.display_name.clone(),
                domain,
                created_at: tx.now(),
                archived_at: None,
            };
            tx.execute(
                "INSERT INTO tunnel (id, workspace_id, display_name, domain, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    &row.id,
                    &row.workspace_id,
                    row.display_name.as_ref(),
                    &row.domain,
                    row.created_at,
                ],
            )?;
            token.put(tx, &id)?;
            Ok(row)
        })
        .await
    }

    /// One tunnel.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tunnel(
        &self,
        workspace: &WorkspaceId,
        id: &TunnelId,
    ) -> Result<Option<TunnelRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        self.read(move |tx| get(tx, &workspace, &id)).await
    }

    /// Lists tunnels; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_tunnels(
        &self,
        workspace: &WorkspaceId,
        q: TunnelQuery,
    ) -> Result<Vec<TunnelRow>, StoreError> {
        let workspace = workspace.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("workspace_id = {}", [Value::from(&workspace)]);
            if !q.include_archived {
                f.fixed("archived_at IS NULL");
            }
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM tunnel {page}");
            tx.query(&sql, &f.params)?.into_iter().map(tunnel).collect()
        })
        .await
    }

    /// Archives a tunnel for good with its certificates, and forgets its token; again changes
    /// nothing. `None` if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_tunnel(
        &self,
        workspace: &WorkspaceId,
        id: &TunnelId,
    ) -> Result<Option<TunnelRow>, StoreError> {
        let (workspace, id) = (workspace.clone(), id.clone());
        let row = self
            .write(move |tx| {
                let now = tx.now();
                let archived = tx.execute(
                    "UPDATE tunnel SET archived_at = ?3
                     WHERE id = ?1 AND workspace_id = ?2 AND archived_at IS NULL",
                    params![&id, &workspace, now],
                )?;
                if archived > 0 {
                    tx.announce(Announcement::AccessChanged);
                    let token = "DELETE FROM tunnel_token WHERE tunnel_id = ?1";
                    tx.execute(token, params![&id])?;
                    tx.execute(
                        "UPDATE tunnel_certificate SET archived_at = ?2
                         WHERE tunnel_id = ?1 AND archived_at IS NULL",
                        params![&id, now],
                    )?;
                }
                get(tx, &workspace, &id)
            })
            .await?;
        self.scrub().await?;
        Ok(row)
    }

    /// The token of a tunnel: the same until it is replaced.
    ///
    /// # Errors
    /// See [`RevealError`].
    pub async fn reveal_tunnel_token(
        &self,
        workspace: &WorkspaceId,
        id: &TunnelId,
    ) -> Result<TunnelToken, RevealError> {
        let (workspace, tunnel) = (workspace.clone(), id.clone());
        let (owner, token, sealed) = self
            .read(move |tx| {
                let Some(row) = get(tx, &workspace, &tunnel)? else {
                    return Err(RevealError::NotFound);
                };
                let sql =
                    "SELECT id, master, wrapped, sealed FROM tunnel_token WHERE tunnel_id = ?1";
                let Some(mut found) = one(tx.query(sql, params![&tunnel])?) else {
                    return Err(RevealError::Archived);
                };
                let token: TunnelTokenId = found.id("tunnel token id")?;
                let sealed = SealedSecret {
                    master: found.text("secret key")?,
                    wrapped: found.bytes("secret")?,
                    sealed: found.bytes("secret")?,
                };
                Ok((owner(&row.workspace_id, &row.id, &token), token, sealed))
            })
            .await?;
        let value = self.keys().open(&owner, &sealed);
        Ok(TunnelToken {
            id: token,
            value: value.map_err(RevealError::Secret)?,
        })
    }

    /// Replaces the token of a tunnel. The old one works no more.
    ///
    /// # Errors
    /// See [`RotateTokenError`].
    pub async fn rotate_tunnel_token(
        &self,
        workspace: &WorkspaceId,
        id: &TunnelId,
    ) -> Result<TunnelToken, RotateTokenError> {
        let fresh = self.fresh_token(workspace, id);
        let (workspace, id) = (workspace.clone(), id.clone());
        let shown = self
            .write(move |tx| {
                match get(tx, &workspace, &id)? {
                    None => return Err(RotateTokenError::NotFound),
                    Some(row) if row.archived_at.is_some() => {
                        return Err(RotateTokenError::Archived);
                    }
                    Some(_) => {}
                }
                fresh.put(tx, &id)?;
                tx.announce(Announcement::AccessChanged);
                Ok(fresh.shown.clone())
            })
            .await?;
        self.scrub().await?;
        Ok(shown)
    }
}
