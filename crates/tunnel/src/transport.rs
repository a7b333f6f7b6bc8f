//! Between edge and gateway (contract 60, "Architecture"): one TLS 1.3 connection that the gateway
//! opens, an HTTP/1.1 upgrade that says who it is, and from then on HTTP/2 with the roles reversed:
//! the edge opens a CONNECT stream for each connection that somebody wants to a server behind it.

pub mod connect;
pub(crate) mod head;
pub(crate) mod settings;
pub mod streams;
pub mod trust;

use serde::{Deserialize, Serialize};

/// The protocol's name in TLS.
pub const ALPN: &[u8] = b"mtun/1";
/// The protocol's name in the upgrade.
pub(crate) const UPGRADE: &str = "mtun/1";
/// Where gateways register.
pub(crate) const PATH: &str = "/v1/tunnel-connect";
/// What an accepted gateway is told, in this header, as JSON.
pub(crate) const WELCOME: &str = "mtun-welcome";

/// What an accepted gateway is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Names the connection, in both sides' logs.
    pub connection_id: String,
    /// The tunnel's domain.
    pub domain: String,
    /// Streams the edge opens at a time.
    pub max_streams: u32,
}
