//! Where a request goes: `scheme://host:port`, and nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use url::Url;

use super::ConfigError;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `https`; otherwise `http`.
    pub tls: bool,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The host that was called stays in `Host`.
    pub preserve_host: bool,
}

impl Route {
    /// `host:port`, as `Host` has it.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let usual = if self.tls { 443 } else { 80 };
        match self.port == usual {
            true => host,
            false => format!("{host}:{}", self.port),
        }
    }
}

/// Routes as they are written; a list of them has the contract's own message.
#[derive(Debug, Clone)]
pub(super) struct Map(pub(super) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Map;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of names to upstreams")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Map, A::Error> {
                let says = "routes: cannot unmarshal !!seq into map[string]string";
                Err(A::Error::custom(says))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Map, A::Error> {
                let mut all = BTreeMap::new();
                while let Some((name, target)) = map.next_entry::<String, String>()? {
                    all.insert(name, target);
                }
                Ok(Map(all))
            }
        }
        from.deserialize_any(Written)
    }
}

/// Reads the target of a route.
pub(super) fn parse(name: &str, target: &str) -> Result<Route, ConfigError> {
    let invalid = || {
        ConfigError(format!(
            "routes.{name}: invalid upstream (must be scheme://host:port)"
        ))
    };
    let url = Url::parse(target).map_err(|_| invalid())?;
    let tls = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(invalid()),
    };
    // The parser drops a port that is the scheme's own, and adds a path that is not there; and it
    // takes numbers for addresses in ways that nobody expects.
    let rest = target
        .split_once("://")
        .map(|(_, rest)| rest)
        .ok_or_else(invalid)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(invalid)?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    // A name whose last label begins with a digit is an address to some, in one form or another.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with(|c: char| c.is_ascii_digit());
    let plain = !host.is_empty() && !host.contains(['/', '@', '?', '#', '%', '[', ']']);
    if port == 0 || !plain || (numeric && host.parse::<Ipv4Addr>().is_err()) {
        return Err(invalid());
    }
    Ok(Route {
        tls,
        host: host.to_ascii_lowercase(),
        port,
        preserve_host: false,
    })
}
