//! Where the database is, and how it is trusted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use freehold_base::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A server that does not answer in this time is tried again.
const CONNECT: Duration = Duration::from_secs(5);
/// After this long without a sign of life a connection is given up.
const SILENT: Duration = Duration::from_secs(10);

/// Where a PostgreSQL database is, with the credentials for it. Cheap to clone; `Debug` shows host
/// and database only.
#[derive(Clone)]
pub struct Address {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
}

/// Why an address cannot be used. Says nothing of the password.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not a connection string.
    #[error("not a PostgreSQL URL: {0}")]
    Url(String),
    /// The authority's certificates cannot be read.
    #[error("no usable certificate in the file of the database's authorities")]
    Authorities,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

impl Address {
    /// From a URL (`postgres://user@host:port/database?…`) or a libpq connection string, a password
    /// given apart from it, and the authorities to trust instead of the host's, as PEM.
    ///
    /// The connection is encrypted and the server's certificate verified, name and all, unless the
    /// server is on this machine or the URL says `sslmode=disable` or `sslmode=prefer`.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn new(
        url: &Secret<String>,
        password: Option<&Secret<String>>,
        authorities: Option<&[u8]>,
    ) -> Result<Self, AddressError> {
        // What libpq calls `verify-full` is what `require` means here.
        let text = url
            .expose()
            .replace("sslmode=verify-full", "sslmode=require");
        let parsed = text.parse::<Config>();
        let mut config = parsed.map_err(|e| {
            AddressError::Url(
                std::error::Error::source(&e).map_or_else(|| e.to_string(), |s| s.to_string()),
            )
        })?;
        if config.get_hosts().is_empty() {
            return Err(AddressError::Url("it names no host".to_owned()));
        }
        if let Some(password) = password {
            config.password(password.expose());
        }
        if !text.contains("sslmode=") {
            let near = config.get_hosts().iter().all(is_here);
            config.ssl_mode(if near {
                SslMode::Prefer
            } else {
                SslMode::Require
            });
        }
        if config.get_application_name().is_none() {
            config.application_name("freehold");
        }
        config
            .connect_timeout(CONNECT)
            .keepalives_idle(SILENT)
            .tcp_user_timeout(SILENT);
        Ok(Self {
            config,
            tls: MakeRustlsConnect::new(tls(authorities)?),
        })
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("hosts", &self.config.get_hosts())
            .field("database", &self.config.get_dbname())
            .finish_non_exhaustive()
    }
}

impl Address {
    /// The address of this machine from which the database is reached; `None` if it cannot be told.
    /// Sends nothing, but may ask the DNS.
    pub fn reached_from(&self) -> Option<IpAddr> {
        let ports = self.config.get_ports();
        let hosts = self.config.get_hosts().iter().enumerate();
        hosts
            .filter_map(|(at, host)| {
                let Host::Tcp(name) = host else {
                    return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
                };
                let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
                let there = (name.as_str(), port).to_socket_addrs().ok()?.next()?;
                let any: IpAddr = match there.is_ipv4() {
                    true => Ipv4Addr::UNSPECIFIED.into(),
                    false => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((any, 0)).ok()?;
                socket.connect(there).ok()?;
                Some(socket.local_addr().ok()?.ip())
            })
            .next()
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .parse()
                    .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
    }
}

fn tls(authorities: Option<&[u8]>) -> Result<rustls::ClientConfig, AddressError> {
    let mut roots = rustls::RootCertStore::empty();
    match authorities {
        Some(pem) => {
            let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(AddressError::Authorities);
            }
        }
        // None at all is no error yet: the server may be on this machine.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(AddressError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, AddressError> {
        Address::new(&Secret::new(url.to_owned()), None, None)
    }

    #[test]
    fn what_is_elsewhere_is_reached_over_tls_unless_the_url_says_otherwise() {
        for (url, mode) in [
            ("postgres://u:p@db.example/f", SslMode::Require),
            (
                "postgres://u:p@db.example/f?sslmode=verify-full",
                SslMode::Require,
            ),
            (
                "postgres://u:p@db.example/f?sslmode=disable",
                SslMode::Disable,
            ),
            ("postgres://u@127.0.0.1/f", SslMode::Prefer),
            ("host=/run/postgresql dbname=f", SslMode::Prefer),
            ("postgres://u@localhost,db.example/f", SslMode::Require),
        ] {
            assert_eq!(address(url).unwrap().config.get_ssl_mode(), mode, "{url}");
        }
    }

    #[test]
    fn neither_an_error_nor_debug_shows_the_password() {
        let shown = format!("{:?}", address("postgres://u:hunter2@localhost/f").unwrap());
        assert!(
            shown.contains("localhost") && !shown.contains("hunter2"),
            "{shown}"
        );
        for bad in [
            "postgres://u:hunter2@localhost:port/f",
            "postgres://u:hunter2@h/f?x=y",
            "u:hunter2",
        ] {
            let said = address(bad).unwrap_err().to_string();
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
