//! Where the server may connect for a model.

use std::net::{IpAddr, SocketAddr};

use freehold_base::net::is_public;

/// Which addresses may be dialled: public ones on the ports of web servers, and what an operator or
/// a test names. Decided on resolved addresses, so names that point inwards gain nothing.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    exceptions: Vec<SocketAddr>,
}

impl AddressPolicy {
    /// Public addresses only.
    pub fn public_only() -> Self {
        Self::default()
    }

    /// Public addresses and these.
    pub fn allowing(exceptions: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            exceptions: exceptions.into_iter().collect(),
        }
    }

    /// Whether `port` is one of web servers: 80, 443 and those any user may listen on; or named.
    pub(crate) fn permits_port(&self, port: u16) -> bool {
        matches!(port, 80 | 443 | 1024..) || self.is_exception(port)
    }

    /// Whether `ip` may be dialled on `port`, itself permitted.
    pub(crate) fn permits(&self, ip: IpAddr, port: u16) -> bool {
        is_public(ip) || self.exceptions.contains(&SocketAddr::new(ip, port))
    }

    /// Whether anything is named on `port`.
    pub(crate) fn is_exception(&self, port: u16) -> bool {
        self.exceptions.iter().any(|address| address.port() == port)
    }
}
