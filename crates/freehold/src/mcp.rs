//! How this process reaches MCP servers.

use std::path::Path;
use std::sync::Arc;

use freehold_base::IdSource;
use freehold_base::net::AddressPolicy;
use freehold_mcp::{Connector, Direct, Options};
use freehold_runtime::Mcp;
use freehold_runtime::mcp::AuditLog;
use freehold_store::Store;

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
    ids: &IdSource,
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
    let connector = Connector::new(Arc::new(direct), options);
    Ok(Mcp::new(
        store.clone(),
        connector,
        audit.clone(),
        ids.clock().clone(),
    ))
}
