//! What a sandbox may reach, by name.

use std::fmt;
use std::str::FromStr;

/// The network of a sandbox. Whatever is allowed here, addresses that are not public are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPolicy {
    /// Only the sandbox's own loopback.
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

    /// Whether `host` (lower case, no trailing dot) may be asked for. Says nothing of addresses.
    pub fn allows_name(&self, host: &str) -> bool {
        match self {
            Self::None => false,
            Self::Public => true,
            Self::Hosts { allowed } => allowed.iter().any(|p| p.matches(host)),
        }
    }
}

/// A bare host name, or `*.example.com` for everything below `example.com` but not itself
/// (contract 20, `allowed_hosts`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Whether `host` (lower case, no trailing dot) is covered.
    pub fn matches(&self, host: &str) -> bool {
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
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

/// The text is neither a host name nor `*.` and one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a host name or a *.domain pattern (no scheme, port or path)")]
pub struct InvalidHostPattern;

impl FromStr for HostPattern {
    type Err = InvalidHostPattern;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (below, rest) = match s.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, s),
        };
        let name = normalize_host(rest).ok_or(InvalidHostPattern)?;
        Ok(Self { name, below })
    }
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
        assert!(exact.matches("api.example.com"));
        assert!(!exact.matches("x.api.example.com"));
        let below: HostPattern = "*.example.com".parse().unwrap();
        assert!(below.matches("a.example.com") && below.matches("a.b.example.com"));
        for host in [
            "example.com",
            "badexample.com",
            ".example.com",
            "example.com.evil.org",
        ] {
            assert!(!below.matches(host), "{host}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_host() {
        for bad in [
            "", ".", "*", "*.", "a..b", "http://a", "a:80", "a/b", "a b", "-a.com", "a-.com",
            "ä.de", "*.*.com", "[::1]", "a@b",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
