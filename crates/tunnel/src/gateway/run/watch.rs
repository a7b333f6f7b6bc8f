//! A watch over the files a gateway was made from.

use std::sync::Arc;

use super::{Shared, table};
use crate::gateway::config;

/// Reads certificate and configuration again now and then. What cannot be used is logged once for
/// each time it changes, and the old stays.
pub(super) async fn watch(shared: &Arc<Shared>) {
    let mut seen = shared
        .file
        .as_deref()
        .and_then(|f| std::fs::read_to_string(f).ok());
    let mut complaint = String::new();
    loop {
        tokio::time::sleep(shared.limits.look).await;
        match shared.certificate.reload() {
            Ok(true) => {
                complaint.clear();
                tracing::info!("certificate reloaded");
            }
            Ok(false) => {}
            Err(error) if error != complaint => {
                tracing::error!(error, "the certificate was not reloaded; the old one stays");
                shared.board.failed(shared.ids.clock().now(), error.clone());
                complaint = error;
            }
            Err(_) => {}
        }
        shared.show_certificate();
        let Some(file) = &shared.file else {
            shared.write_status();
            continue;
        };
        let text = std::fs::read_to_string(file).ok();
        if text != seen && text.is_some() {
            reload(shared, text.as_deref().unwrap_or_default());
            seen = text;
        }
        shared.write_status();
    }
}

fn reload(shared: &Shared, text: &str) {
    let read = config::parse(text).map_err(|e| e.to_string());
    let made = read.and_then(|config| Ok((table(&config, &shared.resolver)?, config)));
    match made {
        Ok((table, config)) => {
            shared.table.store(Arc::new(table));
            shared.show_routes(&config);
            tracing::info!(routes = config.routes.len(), "routes reloaded");
        }
        Err(error) => {
            tracing::error!(
                error,
                "the configuration was not reloaded; the old one stays"
            );
            shared.board.failed(shared.ids.clock().now(), error);
        }
    }
}
