//! What a client asks to be connected to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::Uri;
use http::uri::Authority;

use crate::network::{normalize_host, parse_port};

/// A host and port, the host either a checked name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub host: Host,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// A name or an address, an IPv6 one with or without brackets.
    pub(super) fn of(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        match bare.unwrap_or(text).parse::<IpAddr>() {
            Ok(address) => Some(Self::Address(address)),
            Err(_) => Some(Self::Name(normalize_host(text)?)),
        }
    }

    /// As policies and certificates know it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Address(address) => address.to_string(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            // A name that is only asked for has no port yet.
            Host::Name(name) if self.port == 0 => f.write_str(name),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
        }
    }
}

impl Target {
    /// From the authority of a request target; `None` if it has user information, is not a host
    /// name or address, or lacks a port where there is no default.
    pub(super) fn of(uri: &Uri, default_port: Option<u16>) -> Option<Self> {
        Self::of_authority(uri.authority()?, default_port)
    }

    /// From an authority, as [`Target::of`].
    pub(super) fn of_authority(authority: &Authority, default_port: Option<u16>) -> Option<Self> {
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host();
        // `Authority::port` passes over a port that is out of range.
        let port = match authority.as_str().strip_prefix(host)? {
            "" => default_port?,
            rest => parse_port(rest.strip_prefix(':')?)?,
        };
        let host = Host::of(host)?;
        Some(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(uri: &str) -> Option<Target> {
        Target::of(&uri.parse().ok()?, Some(80))
    }

    #[test]
    fn names_addresses_and_nonsense() {
        let name = |n: &str, port| Target {
            host: Host::Name(n.to_owned()),
            port,
        };
        assert_eq!(of("http://Example.com/x").unwrap(), name("example.com", 80));
        assert_eq!(
            of("http://example.com.:8080/").unwrap(),
            name("example.com", 8080)
        );
        let literal = of("http://[::1]:81/").unwrap();
        assert_eq!(literal.host, Host::Address("::1".parse().unwrap()));
        for bad in [
            "/path",
            "http://u@h/",
            "http://u:p@h/",
            "http://h:0/",
            "http://h:99999/",
            "http://h:/",
            "http://h:+80/",
            "http://a%41/",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_that_passes_has_the_shape_of_one(text in "[ -~]{0,60}") {
            if let Some(Target { host: Host::Name(name), .. }) = of(&format!("http://{text}/")) {
                prop_assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)));
            }
        }
    }
}
