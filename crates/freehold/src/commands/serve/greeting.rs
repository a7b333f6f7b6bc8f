//! What the operator is told at start: where to go next, what is available, and the first key.

use std::net::SocketAddr;

use freehold_base::Secret;
use freehold_model::Catalog;
use freehold_runtime::Runtime;
use freehold_sandbox::Capabilities;
use freehold_wire::tool::BuiltinTool;

use super::gateways::Gateways;
use crate::config::{LogFormat, SandboxKind, Settings};

/// Model ids named before the rest is counted.
const MODELS_NAMED: usize = 8;

/// What is known at start.
pub(super) struct Facts<'a> {
    pub(super) settings: &'a Settings,
    pub(super) address: SocketAddr,
    pub(super) catalog: &'a Catalog,
    pub(super) sandbox: &'a Capabilities,
    pub(super) refusal: Option<&'a str>,
    pub(super) runtime: &'a Runtime,
    pub(super) gateways: Option<&'a Gateways>,
    /// Made now, and shown nowhere else.
    pub(super) key: Option<Secret<String>>,
}

/// Says it on standard error.
pub(super) fn greet(facts: &Facts<'_>) {
    let url = url(facts.address);
    match facts.settings.log_format {
        LogFormat::Json => {
            let (models, sandbox) = (models(facts.catalog), sandbox(facts));
            tracing::info!(url, models, sandbox, "listening on {url}");
            if let Some(gateways) = facts.gateways {
                let (address, sha256) = (gateways.address, &gateways.fingerprint);
                tracing::info!(%address, sha256, "gateways connect to {address}");
            }
        }
        LogFormat::Human => for_people(facts, &url),
    }
    if let Some(key) = &facts.key {
        eprintln!("  API key      {}", key.expose());
        eprintln!("               shown this once; an admin key of the default workspace");
    }
    warn(facts);
}

fn for_people(facts: &Facts<'_>, url: &str) {
    let search = facts.runtime.unavailable(BuiltinTool::WebSearch);
    eprintln!("freehold {}", env!("CARGO_PKG_VERSION"));
    eprintln!("  listening on {url}");
    eprintln!("  data         {}", facts.settings.data_dir.display());
    eprintln!("  models       {}", models(facts.catalog));
    eprintln!("  sandbox      {}", sandbox(facts));
    eprintln!(
        "  web search   {}",
        search.as_deref().unwrap_or("available")
    );
    if let Some(gateways) = facts.gateways {
        eprintln!("  gateways     connect to {}", gateways.address);
        eprintln!(
            "               certificate SHA-256 {}",
            gateways.fingerprint
        );
    }
    eprintln!("next           export FREEHOLD_URL={url} FREEHOLD_API_KEY=…");
    eprintln!("               freehold run \"say: hello\"        freehold doctor");
}

fn warn(facts: &Facts<'_>) {
    if let Some(refusal) = facts.refusal {
        tracing::warn!(
            "cloud sessions are refused: {refusal}. `--sandbox=process` runs tools without \
             isolation, for development"
        );
    }
    if facts.settings.sandbox.kind == SandboxKind::Process {
        tracing::warn!("--sandbox=process: tools run as this server's user, without isolation");
    }
    if !facts.address.ip().is_loopback() {
        tracing::warn!(
            "listening on {} without TLS: keys and sessions cross the network unencrypted \
             unless a TLS proxy stands before it",
            facts.address
        );
    }
}

/// Where a client on this machine finds the server.
fn url(address: SocketAddr) -> String {
    let mut shown = address;
    if address.ip().is_unspecified() {
        shown.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{shown}")
}

fn models(catalog: &Catalog) -> String {
    let all = catalog.list();
    let mut named: Vec<String> = all
        .iter()
        .take(MODELS_NAMED)
        .map(|m| m.id.clone())
        .collect();
    if all.len() > MODELS_NAMED {
        named.push(format!("{} more", all.len() - MODELS_NAMED));
    }
    let mut text = if named.is_empty() {
        "none".to_owned()
    } else {
        named.join(", ")
    };
    if let Some(endpoint) = catalog.fallback().and_then(|p| p.describe().endpoint) {
        text.push_str(&format!("; every other id goes to {endpoint}"));
    }
    text
}

fn sandbox(facts: &Facts<'_>) -> String {
    match facts.refusal {
        Some(_) => format!(
            "{}: unavailable, cloud sessions are refused",
            facts.sandbox.provider
        ),
        None => format!(
            "{} (isolation: {})",
            facts.sandbox.provider, facts.sandbox.isolation
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn the_url_can_be_opened_here() {
        for (address, shown) in [
            ("127.0.0.1:80", "http://127.0.0.1:80"),
            ("0.0.0.0:81", "http://127.0.0.1:81"),
            ("[::]:82", "http://[::1]:82"),
            ("192.0.2.1:83", "http://192.0.2.1:83"),
        ] {
            assert_eq!(url(address.parse().unwrap()), shown);
        }
    }
}
