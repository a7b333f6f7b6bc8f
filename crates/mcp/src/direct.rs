//! Connections without a tunnel: the name is looked up, every address it has is checked, and what was
//! checked is what is dialled.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::net::is_public;
use ipnet::IpNet;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::dial::{Connection, Destination, Dial, DialError};

/// Longest time until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);

/// Servers an operator lets be reached although their addresses are not public, or without TLS: a
/// host name or an address, or a network, each with or without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    what: What,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Name(String),
    Net(IpNet),
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(net) = text.parse() {
            let what = What::Net(net);
            return Ok(Self { what, port: None });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            let what = What::Net(ip.into());
            return Ok(Self { what, port: None });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            let what = What::Net(address.ip().into());
            return Ok(Self {
                what,
                port: Some(address.port()),
            });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong(text))?)),
            None => (text, None),
        };
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(fits) {
            return Err(wrong(text));
        }
        let what = What::Name(host.to_ascii_lowercase());
        Ok(Self { what, port })
    }
}

fn wrong(text: &str) -> String {
    format!("'{text}' is not a host, an address or a network, with or without a port")
}

impl Allowed {
    fn permits(&self, to: &Destination, ip: IpAddr) -> bool {
        self.port.is_none_or(|port| port == to.port)
            && match &self.what {
                What::Name(name) => *name == to.host,
                What::Net(net) => net.contains(&ip.to_canonical()),
            }
    }
}

/// Dials public addresses over TLS, and what is allowed besides.
pub struct Direct {
    allowed: Vec<Allowed>,
    tls: TlsConnector,
}

impl Direct {
    /// Trusts the system's certificate authorities and `authorities`.
    ///
    /// # Errors
    /// One of `authorities` cannot be used.
    pub fn new(
        allowed: Vec<Allowed>,
        authorities: Vec<CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        // Those of the system that cannot be read trust nobody, which is no harm.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for authority in authorities {
            roots.add(authority)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            allowed,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn connect(&self, to: &Destination) -> Result<Connection, DialError> {
        let no = |why: &str| Err(DialError(format!("cannot connect to {}: {why}", to.host)));
        let found = match to.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, to.port)],
            Err(_) => match tokio::net::lookup_host((to.host.as_str(), to.port)).await {
                Ok(found) => found.collect(),
                Err(_) => return no("the name is not known"),
            },
        };
        let allowed = |a: &SocketAddr| self.allowed.iter().any(|w| w.permits(to, a.ip()));
        let usual_port = matches!(to.port, 80 | 443 | 1024..);
        // One inward address among them is reason enough: a name that has both is a trick.
        let may = |a: &SocketAddr| allowed(a) || (is_public(a.ip()) && usual_port && to.tls);
        if found.is_empty() || !found.iter().all(may) {
            return no(if to.tls {
                "the address is not one that may be used"
            } else {
                "only https may be used, or the address is not one that may be used"
            });
        }
        let mut last = "no address answers".to_owned();
        for address in found {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return self.secure(to, stream).await;
                }
                Err(error) => last = error.kind().to_string(),
            }
        }
        no(&last)
    }

    async fn secure(&self, to: &Destination, stream: TcpStream) -> Result<Connection, DialError> {
        if !to.tls {
            return Ok(Box::new(stream));
        }
        let failed = |why: String| DialError(format!("no TLS with {}: {why}", to.host));
        let name = ServerName::try_from(to.host.clone()).map_err(|e| failed(e.to_string()))?;
        let stream = self.tls.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|e| failed(e.to_string()))?))
    }
}

#[async_trait]
impl Dial for Direct {
    async fn dial(&self, to: &Destination) -> Result<Connection, DialError> {
        match tokio::time::timeout(CONNECT, self.connect(to)).await {
            Ok(done) => done,
            Err(_) => Err(DialError(format!(
                "cannot connect to {}: no answer within {} seconds",
                to.host,
                CONNECT.as_secs()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(host: &str, port: u16) -> Destination {
        Destination {
            workspace: "wrkspc_a".parse().unwrap(),
            tls: true,
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn what_is_allowed_is_a_name_an_address_or_a_network() {
        let ip: IpAddr = "10.1.2.3".parse().unwrap();
        let permits = |text: &str| {
            text.parse::<Allowed>()
                .unwrap()
                .permits(&to("mcp.corp", 8443), ip)
        };
        for yes in [
            "mcp.corp",
            "MCP.corp:8443",
            "10.0.0.0/8",
            "10.1.2.3",
            "10.1.2.3:8443",
        ] {
            assert!(permits(yes), "{yes}");
        }
        for no in [
            "corp",
            "mcp.corp:443",
            "10.1.2.4",
            "10.1.2.3:443",
            "192.168.0.0/16",
        ] {
            assert!(!permits(no), "{no}");
        }
        for wrong in ["", "a b", "h:x", "http://h", "10.0.0.0/40", "::1]:4"] {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
        // An IPv4 address in IPv6 clothes is the same address.
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        assert!(
            "10.0.0.0/8"
                .parse::<Allowed>()
                .unwrap()
                .permits(&to("h", 1), mapped)
        );
    }

    #[tokio::test]
    async fn inward_addresses_are_not_dialled() {
        let direct = Direct::new(Vec::new(), Vec::new()).unwrap();
        for host in [
            "127.0.0.1",
            "169.254.169.254",
            "10.0.0.1",
            "100.64.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "fd00::1",
            "localhost",
        ] {
            let error = direct.dial(&to(host, 443)).await.err().expect(host);
            assert!(error.0.contains("may be used"), "{host}: {error}");
        }
        let error = direct.dial(&to("1.1.1.1", 25)).await.err().unwrap();
        assert!(error.0.contains("may be used"), "{error}");
    }
}
