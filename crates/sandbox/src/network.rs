//! What a sandbox may reach, by name, and the secrets that go along.

use std::fmt;
use std::str::FromStr;

use freehold_base::Secret;

use crate::SandboxError;

/// Longest placeholder, bytes.
const MAX_PLACEHOLDER: usize = 256;
/// Shortest, so that no ordinary text is taken for one.
const MIN_PLACEHOLDER: usize = 8;

/// The network of a sandbox.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// What may be reached.
    pub policy: NetworkPolicy,
    /// Secrets put in place of placeholders on their way out; the first that fits a host wins.
    pub injections: Vec<Injection>,
}

impl Network {
    pub(crate) fn check(&self) -> Result<(), SandboxError> {
        if self.injections.iter().all(Injection::is_well_formed) {
            return Ok(());
        }
        let what = "a placeholder must be 8 to 256 characters of A-Z, a-z, 0-9, _ and -";
        Err(SandboxError::InvalidSpec(what.to_owned()))
    }
}

impl From<NetworkPolicy> for Network {
    /// Without injections.
    fn from(policy: NetworkPolicy) -> Self {
        Self {
            policy,
            injections: Vec::new(),
        }
    }
}

/// What may be reached. Whatever is allowed here, addresses that are not public are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkPolicy {
    /// Only the sandbox's own loopback.
    #[default]
    None,
    /// Any public host.
    Public,
    /// Hosts matching one of the patterns.
    Hosts {
        /// At most a few hundred; checked in order.
        allowed: Vec<HostPattern>,
    },
}

impl NetworkPolicy {
    /// Whether anything outside may be reached at all.
    pub fn reaches_out(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// Whether `host` (lower case, no trailing dot) may be asked for, at one port or another. Says
    /// nothing of addresses.
    pub fn allows_name(&self, host: &str) -> bool {
        self.any(|p| p.covers(host))
    }

    /// Whether `port` of `host` may be asked for.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        self.any(|p| p.matches(host, port))
    }

    fn any(&self, fits: impl Fn(&HostPattern) -> bool) -> bool {
        match self {
            Self::None => false,
            Self::Public => true,
            Self::Hosts { allowed } => allowed.iter().any(fits),
        }
    }
}

/// A credential that never enters the sandbox (contract 64, `environment_variable`): the inside
/// holds the placeholder, and the egress proxy puts the value in its place in requests over TLS to
/// the credential's own hosts. To any other host the placeholder goes out as it is.
#[derive(Debug, Clone)]
pub struct Injection {
    /// What the inside holds, 8 to 256 bytes of `[A-Za-z0-9_-]`; unguessable by other sandboxes.
    pub placeholder: String,
    /// What goes out.
    pub value: Secret<String>,
    /// The credential's own hosts: `Public` for any the sandbox may reach.
    pub hosts: NetworkPolicy,
    /// Whether header values are searched, `Basic` credentials included.
    pub header: bool,
    /// Whether bodies are searched.
    pub body: bool,
}

impl Injection {
    /// Whether it concerns requests to `port` of `host`.
    pub(crate) fn concerns(&self, host: &str, port: u16) -> bool {
        (self.header || self.body) && self.hosts.allows(host, port)
    }

    fn is_well_formed(&self) -> bool {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        (MIN_PLACEHOLDER..=MAX_PLACEHOLDER).contains(&self.placeholder.len())
            && self.placeholder.bytes().all(good)
    }
}

/// A bare host name, or `*.example.com` for everything below `example.com` but not itself
/// (contract 20, `allowed_hosts`); optionally with a port, which the API does not offer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: String,
    below: bool,
    port: Option<u16>,
}

impl HostPattern {
    /// Whether `port` of `host` (lower case, no trailing dot) is covered.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|own| own == port) && self.covers(host)
    }

    /// Whether `host` is covered at one port or another.
    fn covers(&self, host: &str) -> bool {
        if !self.below {
            return host == self.name;
        }
        host.strip_suffix(self.name.as_str())
            .and_then(|rest| rest.strip_suffix('.'))
            .is_some_and(|label| !label.is_empty())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// The text is neither a host name nor `*.` and one, with or without a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or a *.domain pattern (no scheme or path)")]
pub struct InvalidHostPattern;

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (below, rest) = match s.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, s),
        };
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(parse_port(port).ok_or(InvalidHostPattern)?)),
            None => (rest, None),
        };
        let name = normalize_host(name).ok_or(InvalidHostPattern)?;
        Ok(Self { name, below, port })
    }
}

/// A port without sign, blank or zero.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|p| *p != 0)
}

/// Lower case without a trailing dot, if `host` has the shape of a host name: at most 253
/// characters, labels of 1 to 63 letters, digits, `-` and `_`.
pub(crate) fn normalize_host(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let label_ok = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let ok = !host.is_empty() && host.len() <= 253 && host.split('.').all(label_ok);
    ok.then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_it_says_and_no_more() {
        let exact: HostPattern = "API.example.com".parse().unwrap();
        assert!(exact.matches("api.example.com", 443) && exact.matches("api.example.com", 8080));
        assert!(!exact.matches("x.api.example.com", 443));
        let below: HostPattern = "*.example.com".parse().unwrap();
        assert!(below.matches("a.example.com", 1) && below.matches("a.b.example.com", 1));
        for host in [
            "example.com",
            "badexample.com",
            ".example.com",
            "example.com.evil.org",
        ] {
            assert!(!below.matches(host, 443), "{host}");
        }
        let port: HostPattern = "*.example.com:8443".parse().unwrap();
        assert!(port.matches("a.example.com", 8443) && !port.matches("a.example.com", 443));
        assert!(port.covers("a.example.com"));
        assert_eq!(port.to_string(), "*.example.com:8443");
    }

    #[test]
    fn refuses_what_is_not_a_host() {
        for bad in [
            "", ".", "*", "*.", "a..b", "http://a", "a:", "a:0", "a:+1", "a:99999", "a:1:2", "a/b",
            "a b", "-a.com", "a-.com", "ä.de", "*.*.com", "[::1]", "a@b",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
