//! HTTP clients: no proxies from the environment, no redirects of their own, no cookies, no
//! referrer; connections are not kept. Addresses are checked between resolving and dialling.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder};

use crate::failure::{Code, Failure, Result};
use freehold_base::net::AddressPolicy;

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What all clients have in common.
pub(crate) fn builder() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")))
}

/// Clients that dial only what a policy permits. Made when first needed: that reads the system's
/// certificates.
#[derive(Debug)]
pub(crate) struct Clients {
    policy: AddressPolicy,
    /// A resolver is not told the port, so each port with exceptions has a client of its own;
    /// `None` is that of all other ports.
    made: Mutex<BTreeMap<Option<u16>, Client>>,
}

impl Clients {
    pub(crate) fn new(policy: AddressPolicy) -> Self {
        Self {
            policy,
            made: Mutex::default(),
        }
    }

    pub(crate) fn policy(&self) -> &AddressPolicy {
        &self.policy
    }

    /// The client for URLs with `port`.
    pub(crate) fn for_port(&self, port: u16) -> Result<Client> {
        let port = self.policy.is_exception(port).then_some(port);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&port) {
            return Ok(client.clone());
        }
        let resolver = Resolver {
            policy: self.policy.clone(),
            port,
        };
        let client = builder().dns_resolver(resolver).build().map_err(|error| {
            tracing::warn!(error = %cause(&error), "no HTTP client for web_fetch");
            Failure::new(
                Code::Unavailable,
                "the server cannot make outgoing connections",
            )
        })?;
        made.insert(port, client.clone());
        Ok(client)
    }
}

/// A name leads to addresses that may not be dialled.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address that is not public")]
pub(crate) struct NotPublic;

struct Resolver {
    policy: AddressPolicy,
    port: Option<u16>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, port) = (self.policy.clone(), self.port.unwrap_or_default());
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One inward address among them is reason enough: a name that has both is a trick.
            if found
                .iter()
                .any(|address| !policy.permits(address.ip(), port))
            {
                return Err(NotPublic.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Whether the address policy is why `error` came about.
pub(crate) fn is_refusal(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.is::<NotPublic>())
}

/// The innermost cause, in words; no URL in it.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    causes(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let first: &(dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error| (*error).source())
}
