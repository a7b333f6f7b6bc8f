//! How this process reaches MCP servers.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::IdSource;
use freehold_base::net::AddressPolicy;
use freehold_mcp::{Connection, Connector, Destination, Dial, DialError, Direct, Options};
use freehold_runtime::Mcp;
use freehold_runtime::mcp::AuditLog;
use freehold_store::Store;
use freehold_tunnel::edge::{DialFailure, Edge};

use crate::config::McpSettings;
use crate::exit::Failure;

/// Hosts below the tunnels' domain are reached through tunnels, or not at all; all others directly,
/// as far as the settings let them be.
struct Ways {
    edge: Edge,
    direct: Direct,
}

#[async_trait]
impl Dial for Ways {
    async fn dial(&self, to: &Destination) -> Result<Connection, DialError> {
        if !self.edge.covers(&to.host) {
            return self.direct.dial(to).await;
        }
        if !to.tls || to.port != 443 {
            let why = "a server behind a tunnel is reached with https on port 443 only";
            return Err(DialError(why.to_owned()));
        }
        let mut dialled = self.edge.dial(&to.workspace, &to.host).await;
        // Nothing was sent yet; the tunnel as it is now may well serve.
        if matches!(dialled, Err(DialFailure::Changed)) {
            dialled = self.edge.dial(&to.workspace, &to.host).await;
        }
        match dialled {
            Ok(stream) => Ok(Box::new(stream)),
            Err(failure) => Err(DialError(failure.to_string())),
        }
    }
}

/// Dials through `edge`, and directly what the settings let be dialled.
///
/// # Errors
/// The file of certificate authorities cannot be used.
pub(crate) fn connect(
    settings: &McpSettings,
    store: &Store,
    audit: &AuditLog,
    ids: &IdSource,
    edge: &Edge,
) -> Result<Mcp, Failure> {
    let unusable = |path: &Path, e: std::io::Error| {
        Failure::usage(format!("mcp.ca_file: {}: {e}", path.display()))
    };
    let authorities = match settings.ca_file.as_deref() {
        Some(path) => Some(std::fs::read(path).map_err(|e| unusable(path, e))?),
        None => None,
    };
    let policy = AddressPolicy::allowing(settings.allow.iter().cloned());
    let direct = Direct::new(policy, authorities.as_deref())
        .map_err(|e| unusable(settings.ca_file.as_deref().unwrap_or(Path::new("")), e))?;
    let options = Options {
        ids: ids.clone(),
        audit: Arc::new(audit.clone()),
        ..Options::default()
    };
    let connector = Connector::new(
        Arc::new(Ways {
            edge: edge.clone(),
            direct,
        }),
        options,
    );
    Ok(Mcp::new(
        store.clone(),
        connector,
        audit.clone(),
        ids.clock().clone(),
    ))
}
