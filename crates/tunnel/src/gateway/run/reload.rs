//! A watch over the files a gateway was made from.

use std::path::Path;
use std::sync::Arc;

use super::{Shared, table};
use crate::gateway::config::{self, Config};

/// What was last seen of the files.
struct Seen {
    /// The configuration's text, or why it cannot be read.
    text: Option<Result<String, String>>,
    /// What is in use of it.
    config: Config,
    /// What was last wrong with the certificate.
    complaint: Option<String>,
}

/// Reads certificate and configuration again now and then. What cannot be used is logged once for
/// each time it changes, and the old stays.
pub(super) async fn watch_files(shared: &Arc<Shared>) {
    let mut seen = Seen {
        text: None,
        config: shared.config.clone(),
        complaint: None,
    };
    loop {
        tokio::time::sleep(shared.limits.look).await;
        seen.certificate(shared);
        if let Some(file) = &shared.file {
            seen.configuration(shared, file);
        }
        shared.write_status();
    }
}

impl Seen {
    fn certificate(&mut self, shared: &Shared) {
        let now = match shared.certificate.reload() {
            Ok(changed) => {
                if changed {
                    tracing::info!("certificate reloaded");
                }
                None
            }
            Err(error) => Some(error),
        };
        if let (Some(error), true) = (&now, now != self.complaint) {
            tracing::error!(error, "the certificate was not reloaded; the old one stays");
            let said = format!("the certificate was not reloaded: {error}");
            shared.board.failed(shared.ids.clock().now(), said);
        }
        self.complaint = now;
        shared.show_certificate();
    }

    fn configuration(&mut self, shared: &Shared, file: &Path) {
        let text = std::fs::read_to_string(file).map_err(|e| e.to_string());
        if self.text.as_ref() == Some(&text) {
            return;
        }
        let read = text
            .clone()
            .and_then(|t| config::parse(&t).map_err(|e| e.to_string()));
        self.text = Some(text);
        if let Err(error) = read.and_then(|config| self.take(shared, config)) {
            tracing::error!(
                error,
                "the configuration was not reloaded; the old one stays"
            );
            let said = format!("the configuration was not reloaded: {error}");
            shared.board.failed(shared.ids.clock().now(), said);
        }
    }

    fn take(&mut self, shared: &Shared, config: Config) -> Result<(), String> {
        if config == self.config {
            return Ok(());
        }
        shared
            .table
            .send_replace(Arc::new(table(&config, &shared.resolver)?));
        tracing::info!(routes = config.routes.len(), "configuration reloaded");
        for note in shared.show(&config) {
            tracing::warn!("{note}");
        }
        self.config = config;
        Ok(())
    }
}
