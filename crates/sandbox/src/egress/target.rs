//! What a client asks to be connected to.

use std::net::IpAddr;

use http::Uri;

use crate::network::normalize_host;

/// A host and port, the host either a checked name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub host: Host,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// From the authority of a request target; `None` if it has user information, is not a host
    /// name or address, or lacks a port where there is no default.
    pub(super) fn of(uri: &Uri, default_port: Option<u16>) -> Option<Self> {
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host();
        // `Authority::port` passes over a port that is out of range.
        let port = match authority.as_str().strip_prefix(host)? {
            "" => default_port?,
            rest => rest.strip_prefix(':')?.parse().ok().filter(|p| *p != 0)?,
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = match bare.unwrap_or(host).parse::<IpAddr>() {
            Ok(address) => Host::Address(address),
            Err(_) => Host::Name(normalize_host(host)?),
        };
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
