//! Tunnels as the edge sees them, and the edge as the API sees it.

use async_trait::async_trait;
use freehold_base::TunnelId;
use freehold_store::{OpenTunnel, Store, StoreError};
use freehold_tunnel::edge::{Directory, DirectoryError, Edge, TokenGrant, Tunnel};

/// Domain of tunnels unless the operator sets another.
pub const DEFAULT_DOMAIN: &str = "tunnel.localhost";

/// What the API knows of tunnels beside the store.
#[derive(Clone)]
pub struct Tunnels {
    /// What all tunnels' domains are below, lower case.
    pub domain: String,
    /// The edge of this process, if it has one.
    pub edge: Option<Edge>,
}

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            domain: DEFAULT_DOMAIN.to_owned(),
            edge: None,
        }
    }
}

/// The store, as the edge asks it.
pub struct StoreDirectory(pub Store);

#[async_trait]
impl Directory for StoreDirectory {
    async fn by_token(&self, sha256: [u8; 32]) -> Result<Option<TokenGrant>, DirectoryError> {
        let found = self.0.tunnel_by_token(sha256).await.map_err(failed)?;
        Ok(found.map(|found| TokenGrant {
            tunnel: found.tunnel,
            domain: found.domain,
            token: found.token,
        }))
    }

    async fn by_id(&self, tunnel: &TunnelId) -> Result<Option<Tunnel>, DirectoryError> {
        let found = self.0.open_tunnel(tunnel).await.map_err(failed)?;
        Ok(found.map(open))
    }

    async fn by_domain(&self, domain: &str) -> Result<Option<Tunnel>, DirectoryError> {
        let found = self.0.tunnel_by_domain(domain).await.map_err(failed)?;
        Ok(found.map(open))
    }
}

fn open(found: OpenTunnel) -> Tunnel {
    Tunnel {
        id: found.id,
        workspace: found.workspace,
        authorities: found.authorities.into_iter().map(Into::into).collect(),
    }
}

fn failed(error: StoreError) -> DirectoryError {
    let error: &(dyn std::error::Error + 'static) = &error;
    tracing::error!(error, "tunnels cannot be looked up");
    DirectoryError
}
