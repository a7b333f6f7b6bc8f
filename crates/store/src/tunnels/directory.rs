//! What the edge asks: only tunnels that work are found, active and in a workspace that is.

use freehold_base::{TunnelId, TunnelTokenId, WorkspaceId};

use crate::backend::{Tx, one, params};
use crate::{Store, StoreError};

/// What a token opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenOf {
    /// The tunnel.
    pub tunnel: TunnelId,
    /// Its domain.
    pub domain: String,
    /// Which value of the token it is.
    pub token: TunnelTokenId,
}

/// A tunnel that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTunnel {
    /// Which.
    pub id: TunnelId,
    /// Who may use it.
    pub workspace: WorkspaceId,
    /// The certificates it trusts, DER.
    pub authorities: Vec<Vec<u8>>,
}

impl Store {
    /// The tunnel whose token has this SHA-256, if both work.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tunnel_by_token(&self, hash: [u8; 32]) -> Result<Option<TokenOf>, StoreError> {
        self.read(move |tx| {
            let sql = "SELECT t.id, t.domain, s.id FROM tunnel_token s
               JOIN tunnel t ON t.id = s.tunnel_id JOIN workspace w ON w.id = t.workspace_id
               WHERE s.hash = ?1 AND t.archived_at IS NULL AND w.archived_at IS NULL";
            one(tx.query(sql, params![&hash[..]])?)
                .map(|mut row| {
                    Ok(TokenOf {
                        tunnel: row.id("tunnel id")?,
                        domain: row.text("tunnel domain")?,
                        token: row.id("tunnel token id")?,
                    })
                })
                .transpose()
        })
        .await
    }

    /// The tunnel of this id, if it works.
    ///
    /// # Errors
    /// The store failed.
    pub async fn open_tunnel(&self, id: &TunnelId) -> Result<Option<OpenTunnel>, StoreError> {
        let id = id.clone();
        self.read(move |tx| found(tx, "t.id = ?1", id.as_str()))
            .await
    }

    /// The tunnel at this domain, if it works.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tunnel_by_domain(&self, domain: &str) -> Result<Option<OpenTunnel>, StoreError> {
        let domain = domain.to_owned();
        self.read(move |tx| found(tx, "t.domain = ?1", &domain))
            .await
    }
}

fn found(tx: &mut dyn Tx, which: &str, key: &str) -> Result<Option<OpenTunnel>, StoreError> {
    let sql = format!(
        "SELECT t.id, t.workspace_id FROM tunnel t
         JOIN workspace w ON w.id = t.workspace_id
         WHERE {which} AND t.archived_at IS NULL AND w.archived_at IS NULL"
    );
    let Some(mut row) = one(tx.query(&sql, params![key])?) else {
        return Ok(None);
    };
    let id: TunnelId = row.id("tunnel id")?;
    let sql = "SELECT der FROM tunnel_certificate
       WHERE tunnel_id = ?1 AND archived_at IS NULL ORDER BY created_at, id";
    let ders = tx.query(sql, params![&id])?.into_iter();
    let authorities = ders.map(|mut row| row.bytes("certificate"));
    Ok(Some(OpenTunnel {
        workspace: row.id("tunnel workspace")?,
        authorities: authorities.collect::<Result<_, StoreError>>()?,
        id,
    }))
}
