//! How this process reaches MCP servers.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::IdSource;
use freehold_mcp::{Connection, Connector, Destination, Dial, DialError, Direct, Http};
use freehold_runtime::Mcp;
use freehold_store::Store;
use freehold_tunnel::edge::Edge;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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
        match self.edge.dial(&to.workspace, &to.host).await {
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
    ids: &IdSource,
    edge: &Edge,
) -> Result<Mcp, Failure> {
    let authorities = settings.ca_file.as_deref().map(authorities).transpose()?;
    let direct = Direct::new(settings.allow.clone(), authorities.unwrap_or_default())
        .map_err(|e| Failure::usage(format!("mcp.ca_file: {e}")))?;
    let clock = ids.clock();
    let connector = Connector::new(
        Http::new(Arc::new(Ways {
            edge: edge.clone(),
            direct,
        })),
        Default::default(),
        Arc::new(()),
        clock.clone(),
    );
    Ok(Mcp::new(store.clone(), connector, clock.clone()))
}

fn authorities(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let wrong = |why: String| Failure::usage(format!("mcp.ca_file: {}: {why}", file.display()));
    let found = CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))?;
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|e| wrong(e.to_string()))?;
    if found.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(found)
}
