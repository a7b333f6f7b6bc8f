//! How this process reaches MCP servers.

use std::path::Path;
use std::sync::Arc;

use freehold_base::SharedClock;
use freehold_mcp::{Connector, Direct, Http};
use freehold_runtime::Mcp;
use freehold_runtime::mcp::AuditLog;
use freehold_store::Store;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::McpSettings;
use crate::exit::Failure;

/// Dials directly what the settings let be dialled.
///
/// # Errors
/// The file of certificate authorities cannot be used.
pub(crate) fn connect(
    settings: &McpSettings,
    store: &Store,
    audit: &AuditLog,
    clock: &SharedClock,
) -> Result<Mcp, Failure> {
    let authorities = settings.ca_file.as_deref().map(authorities).transpose()?;
    let direct = Direct::new(settings.allow.clone(), authorities.unwrap_or_default())
        .map_err(|e| Failure::usage(format!("mcp.ca_file: {e}")))?;
    let connector = Connector::new(
        Http::new(Arc::new(direct)),
        Default::default(),
        Arc::new(audit.clone()),
        clock.clone(),
    );
    Ok(Mcp::new(
        store.clone(),
        connector,
        audit.clone(),
        clock.clone(),
    ))
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
