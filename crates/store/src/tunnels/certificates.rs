//! The certificate authorities that tunnels trust (contract 60 §2 and §4). They were checked before
//! they come here.

use freehold_base::{Timestamp, TunnelCertificateId, TunnelId, WorkspaceId, limits};

use super::get as get_tunnel;
use crate::backend::{Announcement, Row, Tx, Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// A certificate to be registered.
#[derive(Debug, Clone)]
pub struct NewTunnelCertificate {
    /// The tunnel's workspace.
    pub workspace_id: WorkspaceId,
    /// The tunnel.
    pub tunnel_id: TunnelId,
    /// SHA-256 of `der`, in lower-case hexadecimal.
    pub fingerprint: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A registered certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelCertificateRow {
    /// Its id.
    pub id: TunnelCertificateId,
    /// The tunnel.
    pub tunnel_id: TunnelId,
    /// SHA-256 of it, in lower-case hexadecimal.
    pub fingerprint: String,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was archived; it is not trusted any more.
    pub archived_at: Option<Timestamp>,
}

/// Which certificates of a tunnel to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct CertificateQuery {
    /// Archived ones too.
    pub include_archived: bool,
    /// Only after this one.
    pub after: Option<(Timestamp, TunnelCertificateId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// Why a certificate was not registered.
#[derive(Debug, thiserror::Error)]
pub enum AddCertificateError {
    /// No such tunnel in the workspace.
    #[error("no such tunnel")]
    TunnelNotFound,
    /// The tunnel is archived.
    #[error("the tunnel is archived")]
    TunnelArchived,
    /// The tunnel trusts it already.
    #[error("the certificate is registered")]
    Registered,
    /// The tunnel trusts as many as it may.
    #[error("the tunnel has as many certificates as it may")]
    Full,
    /// The store failed.
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for AddCertificateError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unique(_) => Self::Registered, // Ids are ours and random.
            error => Self::Store(error),
        }
    }
}

// Each with its tunnel, which is what says whose it is.
const COLUMNS: &str = "c.id, c.tunnel_id, c.fingerprint, c.created_at, c.expires_at, c.archived_at
   FROM tunnel_certificate c JOIN tunnel t ON t.id = c.tunnel_id";

fn certificate(mut row: Row) -> Result<TunnelCertificateRow, StoreError> {
    Ok(TunnelCertificateRow {
        id: row.id("certificate id")?,
        tunnel_id: row.id("certificate tunnel")?,
        fingerprint: row.text("certificate fingerprint")?,
        created_at: row.time("certificate time")?,
        expires_at: row.time("certificate time")?,
        archived_at: row.opt_time("certificate time")?,
    })
}

fn get(
    tx: &mut dyn Tx,
    (workspace, tunnel, id): (&WorkspaceId, &TunnelId, &TunnelCertificateId),
) -> Result<Option<TunnelCertificateRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} WHERE c.id = ?1 AND c.tunnel_id = ?2 AND t.workspace_id = ?3");
    one(tx.query(&sql, params![id, tunnel, workspace])?)
        .map(certificate)
        .transpose()
}

impl Store {
    /// Registers a certificate.
    ///
    /// # Errors
    /// See [`AddCertificateError`].
    pub async fn add_tunnel_certificate(
        &self,
        new: NewTunnelCertificate,
    ) -> Result<TunnelCertificateRow, AddCertificateError> {
        let id: TunnelCertificateId = self.ids().next();
        self.write(move |tx| {
            match get_tunnel(tx, &new.workspace_id, &new.tunnel_id)? {
                None => return Err(AddCertificateError::TunnelNotFound),
                Some(tunnel) if tunnel.archived_at.is_some() => {
                    return Err(AddCertificateError::TunnelArchived);
                }
                Some(_) => {}
            }
            let now = tx.now();
            tx.announce(Announcement::AccessChanged);
            tx.execute(
                "INSERT INTO tunnel_certificate
                   (id, tunnel_id, fingerprint, der, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    &id,
                    &new.tunnel_id,
                    &new.fingerprint,
                    &new.der[..],
                    now,
                    new.expires_at,
                ],
            )?;
            // After the insert, so that a duplicate is told as one even where the tunnel is full.
            let active = "SELECT COUNT(*) FROM tunnel_certificate
               WHERE tunnel_id = ?1 AND archived_at IS NULL";
            let active = one(tx.query(active, params![&new.tunnel_id])?)
                .map_or(Ok(0), |mut row| row.count("count"))?;
            if active > limits::MAX_TUNNEL_CERTIFICATES as u64 {
                return Err(AddCertificateError::Full);
            }
            Ok(TunnelCertificateRow {
                id: id.clone(),
                tunnel_id: new.tunnel_id.clone(),
                fingerprint: new.fingerprint.clone(),
                created_at: now,
                expires_at: new.expires_at,
                archived_at: None,
            })
        })
        .await
    }

    /// One certificate of a tunnel.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tunnel_certificate(
        &self,
        workspace: &WorkspaceId,
        tunnel: &TunnelId,
        id: &TunnelCertificateId,
    ) -> Result<Option<TunnelCertificateRow>, StoreError> {
        let (workspace, tunnel, id) = (workspace.clone(), tunnel.clone(), id.clone());
        self.read(move |tx| get(tx, (&workspace, &tunnel, &id)))
            .await
    }

    /// Archives a certificate for good: it is not trusted any more. Again changes nothing. `None` if
    /// there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn archive_tunnel_certificate(
        &self,
        workspace: &WorkspaceId,
        tunnel: &TunnelId,
        id: &TunnelCertificateId,
    ) -> Result<Option<TunnelCertificateRow>, StoreError> {
        let (workspace, tunnel, id) = (workspace.clone(), tunnel.clone(), id.clone());
        self.write(move |tx| {
            if get(tx, (&workspace, &tunnel, &id))?.is_none() {
                return Ok(None);
            }
            let now = tx.now();
            tx.announce(Announcement::AccessChanged);
            tx.execute(
                "UPDATE tunnel_certificate SET archived_at = COALESCE(archived_at, ?2)
                 WHERE id = ?1",
                params![&id, now],
            )?;
            get(tx, (&workspace, &tunnel, &id))
        })
        .await
    }

    /// Lists a tunnel's certificates; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_tunnel_certificates(
        &self,
        workspace: &WorkspaceId,
        tunnel: &TunnelId,
        q: CertificateQuery,
    ) -> Result<Vec<TunnelCertificateRow>, StoreError> {
        let (workspace, tunnel) = (workspace.clone(), tunnel.clone());
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("c.tunnel_id = {}", [Value::from(&tunnel)]);
            f.and("t.workspace_id = {}", [Value::from(&workspace)]);
            if !q.include_archived {
                f.fixed("c.archived_at IS NULL");
            }
            let page = f.newest(["c.created_at", "c.id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} {page}");
            let rows = tx.query(&sql, &f.params)?.into_iter();
            rows.map(certificate).collect()
        })
        .await
    }
}
