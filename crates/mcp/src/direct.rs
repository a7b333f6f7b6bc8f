//! Connections without a tunnel: the name is resolved, every address checked, the checked address
//! dialled, and TLS spoken on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::net::{AddressPolicy, is_public};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::dial::{Connection, Destination, Dial, DialError};

/// Longest wait for each step: name, connection, TLS.
const STEP: Duration = Duration::from_secs(10);

/// Dials directly.
#[derive(Clone)]
pub struct Direct {
    policy: AddressPolicy,
    tls: TlsConnector,
}

impl Direct {
    /// Trusts the system's certificate authorities, and those of `extra`, in PEM.
    ///
    /// # Errors
    /// `extra` holds no certificate, or one that cannot be read.
    pub fn new(policy: AddressPolicy, extra: Option<&[u8]>) -> Result<Self, io::Error> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::warn!(%error, "a certificate authority of the system cannot be read");
        }
        roots.add_parsable_certificates(native.certs);
        if let Some(pem) = extra {
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|error| invalid(&format!("not PEM: {error}")))?;
                roots
                    .add(certificate)
                    .map_err(|error| invalid(&format!("not a usable certificate: {error}")))?;
            }
            if roots.len() == before {
                return Err(invalid("there is no certificate in it"));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(&error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            policy,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// The addresses of `to`, all of which may be dialled.
    async fn resolve(&self, to: &Destination) -> Result<Vec<SocketAddr>, DialError> {
        if !self.policy.permits_port(to.port) {
            return Err(refused("this port is not one of web servers"));
        }
        let found: Vec<SocketAddr> = match to.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, to.port)],
            Err(_) => timeout(STEP, tokio::net::lookup_host((to.host.as_str(), to.port)))
                .await
                .map_err(|_| refused("the host's name was not resolved in time"))?
                .map_err(|_| refused("the host's name cannot be resolved"))?
                .collect(),
        };
        self.permitted(to, found)
    }

    /// What a name leads to, if all of it may be dialled. The caller dials these and asks no more:
    /// a second answer to the same question could be another.
    fn permitted(
        &self,
        to: &Destination,
        found: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let named =
            |address: &SocketAddr| self.policy.names(&to.host, address.ip(), address.port());
        // One inward address among them is reason enough: a name that has both is a trick.
        if found.is_empty() || !found.iter().all(|a| is_public(a.ip()) || named(a)) {
            return Err(refused("the host's address is not public"));
        }
        if !to.tls && !found.iter().all(named) {
            return Err(refused("http without TLS is not allowed for this host"));
        }
        Ok(found)
    }
}

#[async_trait]
impl Dial for Direct {
    async fn dial(&self, to: &Destination) -> Result<Connection, DialError> {
        let addresses = self.resolve(to).await?;
        let connect = async {
            let mut last = None;
            for address in addresses {
                match TcpStream::connect(address).await {
                    Ok(stream) => return Ok(stream),
                    Err(error) => last = Some(error.kind()),
                }
            }
            Err(refused(match last {
                Some(io::ErrorKind::ConnectionRefused) => "the server refused the connection",
                _ => "the server cannot be reached",
            }))
        };
        let stream = timeout(STEP, connect)
            .await
            .map_err(|_| refused("the connection was not established in time"))??;
        // Requests are small and wait for each other.
        let _ = stream.set_nodelay(true);
        if !to.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(to.host.clone())
            .map_err(|_| refused("the host's name is not valid"))?;
        let stream = timeout(STEP, self.tls.connect(name, stream))
            .await
            .map_err(|_| refused("TLS was not established in time"))?
            .map_err(|error| {
                tracing::debug!(%error, host = %to.host, "TLS with an MCP server failed");
                refused("TLS with the server failed: its certificate or protocol is not accepted")
            })?;
        Ok(Box::new(stream))
    }
}

fn refused(why: &str) -> DialError {
    DialError(why.into())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use freehold_base::IdSource;
    use freehold_base::net::Exception;

    use super::*;

    /// What a resolver may answer for a name of the user's choice, such as `10.0.0.1.nip.io`.
    #[test]
    fn a_name_counts_by_what_it_leads_to() {
        let to = |host: &str, port: u16| Destination {
            workspace: IdSource::system().next(),
            tls: true,
            host: host.into(),
            port,
        };
        let found = |all: &[&str]| -> Vec<SocketAddr> {
            let addresses = all
                .iter()
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), 443));
            addresses.collect()
        };
        let strict = Direct::new(AddressPolicy::public_only(), None).unwrap();
        let evil = to("10.0.0.1.nip.io", 443);
        for inward in [
            "10.0.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a9fe:a9fe",
        ] {
            for answer in [
                &[inward][..],
                &[inward, "93.184.216.34"],
                &["93.184.216.34", inward],
            ] {
                let refused = strict.permitted(&evil, found(answer)).unwrap_err();
                assert_eq!(refused.0, "the host's address is not public", "{answer:?}");
            }
        }
        assert!(strict.permitted(&evil, Vec::new()).is_err());
        let public = found(&["93.184.216.34", "2606:4700::1111"]);
        assert_eq!(strict.permitted(&evil, public.clone()), Ok(public.clone()));

        // Without TLS anybody on the way could send it elsewhere: only where an operator says so.
        let plain = Destination {
            tls: false,
            ..to("example.com", 443)
        };
        assert!(strict.permitted(&plain, public).is_err());

        // What an operator allows is that name or that address, and no other.
        let exceptions: [Exception; 2] =
            ["mcp.internal:443", "10.0.0.2:443"].map(|e| e.parse().unwrap());
        let open = Direct::new(AddressPolicy::allowing(exceptions), None).unwrap();
        for (host, ip, may) in [
            ("mcp.internal", "10.0.0.1", true),
            ("other.internal", "10.0.0.1", false),
            ("mcp.internal.nip.io", "10.0.0.1", false),
            ("other.internal", "10.0.0.2", true),
        ] {
            let answer = open.permitted(&to(host, 443), found(&[ip]));
            assert_eq!(answer.is_ok(), may, "{host} {ip}");
        }
    }
}
