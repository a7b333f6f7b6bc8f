//! From a wish to a connection, or to a reason why not.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Shared;
use super::target::{Host, Target};
use crate::NetworkPolicy;

/// How long a name may take to resolve.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may take to open, for each address.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Addresses tried.
const MAX_ADDRESSES: usize = 4;

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DialError {
    #[error("this host is not allowed by the environment's network policy")]
    NotAllowed,
    #[error("this host resolves to an address that is not public")]
    NotPublic,
    #[error("the host name could not be resolved")]
    Unresolved,
    #[error("no connection could be made")]
    Unreachable,
}

impl DialError {
    pub(super) fn is_policy(self) -> bool {
        matches!(self, Self::NotAllowed | Self::NotPublic)
    }
}

impl Shared {
    /// Decides, resolves, checks and connects.
    pub(super) async fn dial(&self, target: &Target) -> Result<TcpStream, DialError> {
        let result = self.try_dial(target).await;
        match &result {
            Ok(_) => self.allowed.fetch_add(1, Ordering::Relaxed),
            Err(e) if e.is_policy() => self.denied.fetch_add(1, Ordering::Relaxed),
            Err(_) => 0,
        };
        if let Err(error) = &result {
            tracing::debug!(target = ?target, %error, "egress refused or failed");
        }
        result
    }

    async fn try_dial(&self, target: &Target) -> Result<TcpStream, DialError> {
        let addresses = self.resolve(target).await?;
        // One bad address among good ones is as suspect as a bad one alone.
        for address in &addresses {
            if !self
                .config
                .addresses
                .allows(SocketAddr::new(*address, target.port))
            {
                return Err(DialError::NotPublic);
            }
        }
        for address in addresses.into_iter().take(MAX_ADDRESSES) {
            let connect = TcpStream::connect(SocketAddr::new(address, target.port));
            if let Ok(Ok(stream)) = timeout(CONNECT_LIMIT, connect).await {
                // Only a matter of speed.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
        }
        Err(DialError::Unreachable)
    }

    /// The name policy comes first: a name that is not allowed is not even asked for.
    async fn resolve(&self, target: &Target) -> Result<Vec<IpAddr>, DialError> {
        match &target.host {
            Host::Address(address) => match self.policy {
                NetworkPolicy::Public => Ok(vec![*address]),
                NetworkPolicy::None | NetworkPolicy::Hosts { .. } => Err(DialError::NotAllowed),
            },
            Host::Name(name) if !self.policy.allows_name(name) => Err(DialError::NotAllowed),
            Host::Name(name) => {
                let found = self.config.resolver.resolve(name, target.port);
                match timeout(RESOLVE_LIMIT, found).await {
                    Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
                    _ => Err(DialError::Unresolved),
                }
            }
        }
    }
}
