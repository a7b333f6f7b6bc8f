//! Settings of MCP tunnels.

use std::net::SocketAddr;
use std::path::PathBuf;

use freehold_server::DEFAULT_DOMAIN;

use super::file;
use crate::exit::Failure;

/// Smallest bandwidth, KiB a second. With less, whoever waits for one answer would give up while another
/// is on its way.
const MIN_BANDWIDTH: u32 = 64;
/// Longest domain, so that a tunnel's label and a server's still fit before it into 253 characters.
const MAX_DOMAIN: usize = 180;

/// Settings of tunnels and of the edge that gateways connect to.
#[derive(Debug, Clone)]
pub(crate) struct TunnelSettings {
    /// What the domains of tunnels are made below; lower case.
    pub(crate) domain: String,
    /// Where gateways connect. None: no gateway can.
    pub(crate) listen: Option<SocketAddr>,
    /// PEM files of the certificate that gateways know this server by, and of its key. None: one that
    /// the server makes itself.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    /// Bytes a second that one tunnel may pass in each direction.
    pub(crate) bandwidth: Option<u64>,
}

impl file::Tunnels {
    /// Checks them.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(super) fn settings(self) -> Result<TunnelSettings, Failure> {
        let domain = self.domain.unwrap_or_else(|| DEFAULT_DOMAIN.to_owned());
        if !fits(&domain) {
            return Err(Failure::usage(
                "tunnels.domain: must be a domain of two labels or more, in lower case, as \
                 \"tunnel.example.net\"",
            ));
        }
        let identity = match (self.certificate, self.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((certificate, key)),
            _ => {
                return Err(Failure::usage(
                    "tunnels.certificate and tunnels.key must be set together",
                ));
            }
        };
        if self.bandwidth_kib.is_some_and(|kib| kib < MIN_BANDWIDTH) {
            return Err(Failure::usage(format!(
                "tunnels.bandwidth_kib: must be at least {MIN_BANDWIDTH}"
            )));
        }
        Ok(TunnelSettings {
            domain,
            listen: self.listen,
            identity,
            bandwidth: self.bandwidth_kib.map(|kib| u64::from(kib) << 10),
        })
    }
}

fn fits(domain: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels: Vec<&str> = domain.split('.').collect();
    // A last label of digits would make it an address.
    let named = labels
        .last()
        .is_some_and(|last| !last.bytes().all(|c| c.is_ascii_digit()));
    domain.len() <= MAX_DOMAIN && labels.len() >= 2 && named && labels.into_iter().all(label)
}
