//! How egress resolves names, judges addresses and trusts hosts; what tests and other
//! deployments put in place of the usual.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::OnceCell;

/// Settings of the way out, the same for all sandboxes of a provider.
#[derive(Clone)]
pub struct EgressConfig {
    /// Turns names into addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Says which addresses may be dialled.
    pub addresses: Arc<dyn AddressPolicy>,
    /// Whom to believe that a host is who it says, where TLS ends at the proxy.
    pub roots: Roots,
    /// Bytes a sandbox may exchange with the outside, both ways together.
    pub max_bytes: u64,
    /// Whether every decision is logged, with host and port, at `info`.
    pub log: bool,
    /// Whether to redirect every port where the kernel can; without, as on kernels that cannot,
    /// only a few ports and the explicit proxy reach out.
    pub redirect: bool,
}

impl Default for EgressConfig {
    /// The host's resolver and roots, public addresses only, 256 GiB, no log.
    fn default() -> Self {
        Self {
            resolver: Arc::new(HostResolver),
            addresses: Arc::new(PublicOnly),
            roots: Roots::of_host(),
            max_bytes: 256 << 30,
            log: false,
            redirect: true,
        }
    }
}

/// Turns names into addresses, on the host.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// Every address of `host`.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>>;
}

/// Says which addresses may be dialled, whatever their name.
pub trait AddressPolicy: Send + Sync {
    /// Whether `address` may be dialled.
    fn allows(&self, address: SocketAddr) -> bool;
}

/// The host's own resolver.
#[derive(Debug, Clone, Copy)]
pub struct HostResolver;

#[async_trait]
impl Resolver for HostResolver {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok(found.map(|a| a.ip()).collect())
    }
}

/// Public unicast addresses, as [`freehold_base::net::is_public`] has it, that are not this host's
/// own: a service meant for the host alone may listen there.
#[derive(Debug, Clone, Copy)]
pub struct PublicOnly;

impl AddressPolicy for PublicOnly {
    fn allows(&self, address: SocketAddr) -> bool {
        freehold_base::net::is_public(address.ip()) && !is_own(address.ip())
    }
}

/// Whether the host has the address itself: then a socket can be bound to it. Nothing is sent.
fn is_own(ip: IpAddr) -> bool {
    let binds = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    // Of nobody (RFC 5737, RFC 3849): if even these can be bound, the host binds anything
    // (`ip_nonlocal_bind`), and binding says nothing.
    let nobody: IpAddr = if ip.is_ipv4() {
        Ipv4Addr::new(192, 0, 2, 1).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()
    };
    binds(ip) && !binds(nobody)
}

/// Whose certificates are believed. Read at the first need and kept.
#[derive(Clone)]
pub struct Roots {
    given: Option<Arc<RootCertStore>>,
    config: Arc<OnceCell<Arc<ClientConfig>>>,
}

impl Roots {
    /// The host's own store.
    pub fn of_host() -> Self {
        Self {
            given: None,
            config: Arc::default(),
        }
    }

    /// These and no others; what is no certificate is left out.
    pub fn only(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates);
        Self {
            given: Some(Arc::new(store)),
            config: Arc::default(),
        }
    }

    pub(super) async fn client(&self) -> Arc<ClientConfig> {
        let made = self.config.get_or_init(|| async {
            let store = match &self.given {
                Some(store) => store.clone(),
                None => Arc::new(host_store().await),
            };
            let mut config = ClientConfig::builder()
                .with_root_certificates(store)
                .with_no_client_auth();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Arc::new(config)
        });
        made.await.clone()
    }
}

/// Empty if it cannot be read: then no host is believed.
async fn host_store() -> RootCertStore {
    let mut store = RootCertStore::empty();
    match tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await {
        Ok(found) => {
            for error in &found.errors {
                tracing::warn!(%error, "some of the host's certificates could not be read");
            }
            store.add_parsable_certificates(found.certs);
        }
        Err(error) => tracing::error!(%error, "the host's certificates could not be read"),
    }
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_known() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        assert!(is_own("127.9.9.9".parse().unwrap()));
        assert!(!is_own("192.0.2.77".parse().unwrap()));
        assert!(!is_own("2001:db8::77".parse().unwrap()));
    }
}
