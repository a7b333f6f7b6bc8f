//! `/v1/tunnels/{id}/certificates` (contract 60 §2, §4).

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{TunnelCertificateId, TunnelId, limits};
use freehold_store::{
    AddCertificateError, CertificateQuery, NewTunnelCertificate, TunnelCertificateRow,
};
use freehold_tunnel::certificate::authority;
use freehold_wire::list::ListTunnels;
use freehold_wire::tunnel::{AddTunnelCertificate, TunnelCertificate, archived};
use freehold_wire::{ApiError, parse};

use super::{changed, find, missing};
use crate::app::App;
use crate::auth::TunnelManager;
use crate::http::{Payload, Reply, json, path_id};
use crate::routes::query::{Asked, created_page, created_position};

/// `POST /v1/tunnels/{id}/certificates`
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let tunnel = find(&app, &manager, &id).await?;
    let request: AddTunnelCertificate = parse(&body)?;
    let checked = authority::check(request.ca_certificate_pem.as_bytes(), app.now())
        .map_err(|why| ApiError::invalid(format!("ca_certificate_pem: {why}")))?;
    let new = NewTunnelCertificate {
        workspace_id: manager.workspace,
        tunnel_id: tunnel.id.clone(),
        fingerprint: checked.fingerprint,
        der: checked.der.to_vec(),
        expires_at: checked.expires_at,
    };
    match app.store.add_tunnel_certificate(new).await {
        Ok(row) => {
            changed(&app, &tunnel.id).await;
            tracing::info!(tunnel = %tunnel.id, certificate = %row.id, by = %manager.key, "tunnel certificate registered");
            json(&shown(row))
        }
        Err(AddCertificateError::TunnelNotFound) => Err(missing(&id).into()),
        Err(AddCertificateError::TunnelArchived) => Err(archived(&tunnel.id).into()),
        Err(AddCertificateError::Registered) => Err(ApiError::invalid(
            "ca_certificate_pem: this certificate is registered for the tunnel already",
        )
        .into()),
        Err(AddCertificateError::Full) => Err(ApiError::invalid(format!(
            "the tunnel has {} active certificates, which is the most; archive one first",
            limits::MAX_TUNNEL_CERTIFICATES
        ))
        .into()),
        Err(AddCertificateError::Store(error)) => Err(error.into()),
    }
}

/// `GET /v1/tunnels/{id}/certificates`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let tunnel = find(&app, &manager, &id).await?.id;
    let asked = ListTunnels::certificates(&query, &tunnel)?;
    let query = CertificateQuery {
        include_archived: asked.include_archived,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let rows = app
        .store
        .list_tunnel_certificates(&manager.workspace, &tunnel, query)
        .await?;
    let scope = ListTunnels::certificates_scope(&tunnel);
    let place = |row: &TunnelCertificateRow| (row.created_at, row.id.to_string());
    created_page(rows, asked.limit, scope, place, |row| Ok(shown(row)))
}

/// `GET /v1/tunnels/{id}/certificates/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(path): Path<(String, String)>,
) -> Reply {
    let (tunnel, id) = ids(&path)?;
    let row = app
        .store
        .tunnel_certificate(&manager.workspace, &tunnel, &id)
        .await?;
    json(&shown(row.ok_or_else(|| no_certificate(&path.1))?))
}

/// `POST /v1/tunnels/{id}/certificates/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(path): Path<(String, String)>,
) -> Reply {
    let (tunnel, id) = ids(&path)?;
    let row = app
        .store
        .archive_tunnel_certificate(&manager.workspace, &tunnel, &id)
        .await?;
    let row = row.ok_or_else(|| no_certificate(&path.1))?;
    let tunnel = find(&app, &manager, &path.0).await?;
    changed(&app, &tunnel.id).await;
    tracing::info!(tunnel = %tunnel.id, certificate = %row.id, by = %manager.key, "tunnel certificate archived");
    json(&shown(row))
}

fn ids((tunnel, id): &(String, String)) -> Result<(TunnelId, TunnelCertificateId), ApiError> {
    Ok((path_id("Tunnel", tunnel)?, path_id("Certificate", id)?))
}

fn shown(row: TunnelCertificateRow) -> TunnelCertificate {
    TunnelCertificate {
        id: row.id,
        r#type: "tunnel_certificate",
        tunnel_id: row.tunnel_id,
        fingerprint: row.fingerprint,
        created_at: row.created_at,
        expires_at: Some(row.expires_at),
        archived_at: row.archived_at,
    }
}

fn no_certificate(id: &str) -> ApiError {
    ApiError::not_found("Certificate", id)
}
