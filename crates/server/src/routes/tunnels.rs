//! `/v1/tunnels` (contract 60 §1). Every use and change of a tunnel's secrets leaves a line in the
//! log that says by whom.

mod certificates;

use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_base::{TunnelId, limits};
use freehold_store::{
    CreateTunnelError, NewTunnel, RevealError, RotateTokenError, TunnelQuery, TunnelRow,
};
use freehold_wire::list::ListTunnels;
use freehold_wire::tunnel::{
    self, CreateTunnel, RotateTunnelToken, Tunnel, TunnelConnection, TunnelToken,
};
use freehold_wire::{ApiError, Page, parse_or_empty};

pub(crate) use certificates::{
    add as add_certificate, archive as archive_certificate, list as list_certificates,
    retrieve as retrieve_certificate,
};

use super::query::{Asked, created_page, created_position};
use crate::app::App;
use crate::auth::TunnelManager;
use crate::http::{Fail, Payload, Reply, json, path_id};

/// `POST /v1/tunnels`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Payload(body): Payload,
) -> Reply {
    let request: CreateTunnel = parse_or_empty(&body)?;
    let new = NewTunnel {
        workspace_id: manager.workspace,
        display_name: request.display_name,
        base_domain: app.tunnels.domain.clone(),
    };
    match app.store.create_tunnel(new).await {
        Ok(row) => {
            tracing::info!(tunnel = %row.id, by = %manager.key, "tunnel made");
            json(&shown(row))
        }
        Err(CreateTunnelError::Full) => Err(ApiError::invalid(format!(
            "the organization has {} active tunnels, which is the most; archive one first",
            limits::MAX_TUNNELS
        ))
        .into()),
        Err(CreateTunnelError::Store(error)) => Err(error.into()),
    }
}

/// `GET /v1/tunnels`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Asked(query): Asked,
) -> Reply {
    let asked = ListTunnels::tunnels(&query)?;
    let query = TunnelQuery {
        include_archived: asked.include_archived,
        after: asked.page.map(created_position).transpose()?,
        limit: asked.limit,
    };
    let rows = app.store.list_tunnels(&manager.workspace, query).await?;
    let place = |row: &TunnelRow| (row.created_at, row.id.to_string());
    created_page(rows, asked.limit, ListTunnels::SCOPE, place, |row| {
        Ok(shown(row))
    })
}

/// `GET /v1/tunnels/{id}`
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(id): Path<String>,
) -> Reply {
    json(&shown(find(&app, &manager, &id).await?))
}

/// `POST /v1/tunnels/{id}/archive`
pub(crate) async fn archive(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(id): Path<String>,
) -> Reply {
    let parsed = path_id("Tunnel", &id)?;
    let row = app.store.archive_tunnel(&manager.workspace, &parsed);
    let row = row.await?.ok_or_else(|| missing(&id))?;
    changed(&app, &row.id).await;
    tracing::info!(tunnel = %row.id, by = %manager.key, "tunnel archived");
    json(&shown(row))
}

/// `POST /v1/tunnels/{id}/reveal_token`
pub(crate) async fn reveal(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(id): Path<String>,
) -> Reply {
    let parsed: TunnelId = path_id("Tunnel", &id)?;
    let found = app.store.reveal_tunnel_token(&manager.workspace, &parsed);
    match found.await {
        Ok(token) => {
            tracing::info!(tunnel = %parsed, token = %token.id, by = %manager.key, "tunnel token revealed");
            json(&as_token(&token))
        }
        Err(RevealError::NotFound) => Err(missing(&id).into()),
        Err(RevealError::Archived) => Err(tunnel::archived(&parsed).into()),
        Err(RevealError::Secret(error)) => {
            tracing::error!(tunnel = %parsed, %error, "a tunnel's token cannot be read");
            Err(ApiError::invalid(
                "the token cannot be decrypted with the server's keys; rotate it to get another",
            )
            .into())
        }
        Err(RevealError::Store(error)) => Err(error.into()),
    }
}

/// `POST /v1/tunnels/{id}/rotate_token`
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let parsed: TunnelId = path_id("Tunnel", &id)?;
    let request: RotateTunnelToken = parse_or_empty(&body)?;
    let rotated = app.store.rotate_tunnel_token(&manager.workspace, &parsed);
    match rotated.await {
        Ok(token) => {
            let reason = request.reason.as_deref().unwrap_or_default();
            tracing::info!(tunnel = %parsed, token = %token.id, by = %manager.key, ?reason, "tunnel token rotated");
            json(&as_token(&token))
        }
        Err(RotateTokenError::NotFound) => Err(missing(&id).into()),
        Err(RotateTokenError::Archived) => Err(tunnel::archived(&parsed).into()),
        Err(RotateTokenError::Store(error)) => Err(error.into()),
    }
}

/// `GET /v1/tunnels/{id}/connections`: the gateways that are connected to this process. Our own.
pub(crate) async fn connections(
    State(app): State<Arc<App>>,
    manager: TunnelManager,
    Path(id): Path<String>,
) -> Reply {
    let tunnel = find(&app, &manager, &id).await?.id;
    let edge = app.tunnels.edge.as_ref();
    let found = edge.map_or_else(Vec::new, |edge| edge.connections(&tunnel));
    let data = found.into_iter().map(|c| TunnelConnection {
        id: c.id,
        r#type: "tunnel_connection",
        gateway: c.gateway,
        source: c.source.to_string(),
        token_id: c.token,
        connected_at: c.since,
        streams: c.streams,
        healthy: c.healthy,
    });
    json(&Page::<TunnelConnection> {
        data: data.collect(),
        next_page: None,
    })
}

/// Tells the edge that what is open may have to end.
pub(super) async fn changed(app: &App, id: &TunnelId) {
    if let Some(edge) = &app.tunnels.edge {
        edge.changed(id).await;
    }
}

/// The tunnel of this id.
///
/// # Errors
/// 404.
async fn find(app: &App, manager: &TunnelManager, id: &str) -> Result<TunnelRow, Fail> {
    let parsed = path_id("Tunnel", id)?;
    let row = app.store.tunnel(&manager.workspace, &parsed).await?;
    row.ok_or_else(|| missing(id).into())
}

fn shown(row: TunnelRow) -> Tunnel {
    Tunnel {
        id: row.id,
        r#type: "tunnel",
        display_name: row.display_name,
        domain: row.domain,
        created_at: row.created_at,
        archived_at: row.archived_at,
    }
}

fn as_token(token: &freehold_store::TunnelToken) -> TunnelToken {
    TunnelToken {
        id: token.id.clone(),
        r#type: "tunnel_token",
        tunnel_token: token.value.expose().clone(),
    }
}

fn missing(id: &str) -> ApiError {
    ApiError::not_found("Tunnel", id)
}
