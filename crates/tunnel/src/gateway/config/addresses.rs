//! Where upstreams may be.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

use super::{ConfigError, Upstream};

/// Addresses that upstreams may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addresses {
    /// These.
    Only(Vec<Ipv4Net>),
    /// All but those that are never used.
    Any,
}

const fn net(a: u8, b: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, 0, 0), bits)
}

/// Private addresses of RFC 1918: what is allowed unless the file says otherwise.
const PRIVATE: [Ipv4Net; 3] = [net(10, 0, 8), net(172, 16, 12), net(192, 168, 16)];

/// Whatever the file says, no server is there: "this network", link-local (where clouds keep the
/// credentials of their machines), multicast, reserved and broadcast.
const NEVER: [Ipv4Net; 4] = [
    net(0, 0, 8),
    net(169, 254, 16),
    net(224, 0, 4),
    net(240, 0, 4),
];

/// This host. A network that is wider than this and covers it by the way does not mean it.
const LOOPBACK: Ipv4Net = net(127, 0, 8);

impl Addresses {
    /// Whether an upstream may have this address. IPv4 only, in whatever clothes.
    pub fn permit(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else {
            return false;
        };
        let meant = |net: &Ipv4Net| !LOOPBACK.contains(&ip) || LOOPBACK.contains(net);
        !NEVER.iter().any(|net| net.contains(&ip))
            && match self {
                Self::Any => true,
                Self::Only(nets) => nets.iter().any(|net| net.contains(&ip) && meant(net)),
            }
    }

    /// Networks that are named and of which nothing is ever used.
    pub(super) fn in_vain(&self) -> impl Iterator<Item = &Ipv4Net> {
        let named = match self {
            Self::Only(nets) => nets.as_slice(),
            Self::Any => &[],
        };
        let never = |net: &&Ipv4Net| NEVER.iter().any(|never| never.contains(*net));
        named.iter().filter(never)
    }
}

/// Reads what the file says of them.
pub(super) fn parse(upstream: &Upstream) -> Result<Addresses, ConfigError> {
    let read = |text: &String| {
        let net = text.parse::<Ipv4Net>().ok();
        net.or_else(|| text.parse::<Ipv4Addr>().ok().map(Into::into))
            .ok_or_else(|| {
                ConfigError(format!(
                    "upstream.allowed_ips: '{text}' is not an IPv4 address or network"
                ))
            })
    };
    match (&upstream.allowed_ips, upstream.disable_ip_validation) {
        (Some(_), true) => Err(ConfigError(
            "upstream: allowed_ips and disable_ip_validation exclude one another".to_owned(),
        )),
        (None, true) => Ok(Addresses::Any),
        (None, false) => Ok(Addresses::Only(PRIVATE.to_vec())),
        (Some(given), false) => given
            .iter()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Addresses::Only),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permit(allowed: &[&str], ip: &str) -> bool {
        let nets = allowed.iter().map(|net| net.parse().unwrap());
        Addresses::Only(nets.collect()).permit(ip.parse().unwrap())
    }

    #[test]
    fn some_addresses_are_never_permitted() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::ffff:10.0.0.1",
            "::1",
            "fd00::1",
        ] {
            assert!(!Addresses::Any.permit(ip.parse().unwrap()), "{ip}");
            assert!(!permit(&["0.0.0.0/0"], ip), "{ip}");
            if let Ok(ip) = ip.parse::<Ipv4Addr>() {
                let only = Addresses::Only(vec![ip.into()]);
                assert!(!only.permit(ip.into()), "{ip}");
                assert_eq!(only.in_vain().count(), 1, "{ip}");
            }
        }
    }

    #[test]
    fn this_host_is_permitted_only_by_its_own_address_or_without_validation() {
        assert!(permit(&["127.0.0.1/32"], "127.0.0.1"));
        assert!(permit(&["127.0.0.0/8"], "127.9.9.9"));
        assert!(!permit(&["0.0.0.0/0"], "127.0.0.1"));
        assert!(!permit(&["126.0.0.0/7"], "127.0.0.1"));
        assert!(permit(&["0.0.0.0/0"], "8.8.8.8"));
        assert!(Addresses::Any.permit("127.0.0.1".parse().unwrap()));
        assert!(!Addresses::Only(PRIVATE.to_vec()).permit("127.0.0.1".parse().unwrap()));
    }
}
