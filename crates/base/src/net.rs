//! Which addresses server-side code may dial on behalf of a model or a tenant. Decided on the
//! resolved address, never on the name, so that a rebinding name gains nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

/// Which addresses may be dialled: public ones on the ports of web servers, and what an operator or
/// a test names.
#[derive(Debug, Clone, Default)]
pub struct AddressPolicy {
    exceptions: Vec<Exception>,
}

impl AddressPolicy {
    /// Public addresses only.
    pub fn public_only() -> Self {
        Self::default()
    }

    /// Public addresses and these.
    pub fn allowing<E: Into<Exception>>(exceptions: impl IntoIterator<Item = E>) -> Self {
        Self {
            exceptions: exceptions.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether `port` is one of web servers: 80, 443 and those any user may listen on; or named.
    pub fn permits_port(&self, port: u16) -> bool {
        matches!(port, 80 | 443 | 1024..) || self.is_exception(port)
    }

    /// Whether `ip` may be dialled on `port`, itself permitted.
    pub fn permits(&self, ip: IpAddr, port: u16) -> bool {
        is_public(ip) || self.names("", ip, port)
    }

    /// Whether an exception names this very destination: the address, or the host by its name.
    pub fn names(&self, host: &str, ip: IpAddr, port: u16) -> bool {
        self.exceptions.iter().any(|exception| match exception {
            Exception::Address(address) => *address == SocketAddr::new(ip, port),
            Exception::Net(net) => net.contains(&ip),
            Exception::Host(name, at) => *at == port && name == host,
        })
    }

    /// Whether anything is named on `port`.
    pub fn is_exception(&self, port: u16) -> bool {
        self.exceptions.iter().any(|exception| match exception {
            Exception::Address(address) => address.port() == port,
            Exception::Host(_, at) => *at == port,
            Exception::Net(_) => true,
        })
    }
}

/// What may be dialled although it is not public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exception {
    /// One address and port.
    Address(SocketAddr),
    /// Every port of a network: `10.0.0.0/8`.
    Net(IpNet),
    /// Whatever a name, in lower case, leads to, on one port: `mcp.internal:8443`.
    Host(String, u16),
}

impl From<SocketAddr> for Exception {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

/// The text is no exception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidException;

impl fmt::Display for InvalidException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected address:port, host:port or a network such as 10.0.0.0/8")
    }
}
impl std::error::Error for InvalidException {}

impl FromStr for Exception {
    type Err = InvalidException;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if let Ok(net) = text.parse() {
            return Ok(Self::Net(net));
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidException)?;
        let port = port.parse().map_err(|_| InvalidException)?;
        let sound = !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if !sound {
            return Err(InvalidException);
        }
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        Ok(Self::Host(host, port))
    }
}

/// Whether `ip` is an ordinary public unicast address: not loopback, private, link-local (cloud
/// metadata services live there), shared, documentation, benchmarking, multicast or reserved, in
/// any of the forms that embed an IPv4 address in an IPv6 one.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let embedded = |hi: u16, lo: u16| {
        is_public_v4(Ipv4Addr::new(
            (hi >> 8) as u8,
            hi as u8,
            (lo >> 8) as u8,
            lo as u8,
        ))
    };
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    match s {
        // NAT64 (well-known and local-use) and 6to4 carry an IPv4 destination.
        [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] => embedded(hi, lo),
        [0x64, 0xff9b, 1, ..] => false,
        [0x2002, hi, lo, ..] => embedded(hi, lo),
        // Teredo, documentation, benchmarking, ORCHID.
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        // Global unicast is 2000::/3; all else is local, reserved or multicast.
        [first, ..] => (0x2000..0x4000).contains(&first) && first != 0x3fff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_every_inward_address() {
        for bad in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "100.100.100.200",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.8",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:db8::1",
            "::7f00:1",
            "3fff::1",
        ] {
            assert!(!is_public(bad.parse().unwrap()), "{bad}");
        }
    }

    #[test]
    fn exceptions_name_addresses_networks_or_hosts() {
        let parsed: Vec<Exception> = ["127.0.0.1:80", "10.0.0.0/8", "Mcp.Internal:22"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let policy = AddressPolicy::allowing(parsed);
        let ip = |text: &str| text.parse().unwrap();
        assert!(policy.permits(ip("127.0.0.1"), 80));
        assert!(!policy.permits(ip("127.0.0.1"), 81));
        assert!(policy.permits(ip("10.9.8.7"), 5000));
        assert!(policy.names("mcp.internal", ip("192.168.0.1"), 22));
        assert!(!policy.names("mcp.internal", ip("192.168.0.1"), 23));
        assert!(!policy.names("other.internal", ip("192.168.0.1"), 22));
        for wrong in ["", "host", ":80", "host:port", "a/b:80", "10.0.0.0/33"] {
            assert!(wrong.parse::<Exception>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn lets_public_addresses_through() {
        for good in [
            "93.184.216.34",
            "1.1.1.1",
            "2606:4700::1111",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(good.parse().unwrap()), "{good}");
        }
    }
}
