//! Settings of the connections between replicas.

use std::net::SocketAddr;

use super::file;
use crate::exit::Failure;

/// Where replicas reach this one. Only used if the database is shared.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaSettings {
    /// Where to listen. None: any port of the address that clients are served on.
    pub(crate) listen: Option<SocketAddr>,
    /// `host:port` that the others are told. None: what is listened on, or the address of this host
    /// from which the database is reached.
    pub(crate) address: Option<String>,
}

impl file::Replicas {
    /// Checks them.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(super) fn settings(self) -> Result<ReplicaSettings, Failure> {
        let fits = |address: &str| {
            let parts = address.rsplit_once(':');
            parts.is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
            })
        };
        if self.address.as_deref().is_some_and(|a| !fits(a)) {
            return Err(Failure::usage(
                "replicas.address: must be a host and a port, as \"10.0.0.7:8788\"",
            ));
        }
        Ok(ReplicaSettings {
            listen: self.listen,
            address: self.address,
        })
    }
}
