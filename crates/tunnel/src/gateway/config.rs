//! The gateway's configuration file (contract 60 §6), and what ours has besides.

mod addresses;
mod duration;
mod fixed;
mod route;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use addresses::Addresses;
pub use duration::duration;
pub use route::Route;

/// The file as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Taken and not used: nobody connects to this gateway.
    #[serde(default)]
    listen_addr: Option<String>,
    #[serde(default)]
    log_level: Option<String>,
    #[serde(default)]
    shutdown_timeout: Option<String>,
    #[serde(default)]
    tunnel_domain: Option<String>,
    tls: TlsFiles,
    routes: route::Map,
    #[serde(default)]
    upstream: Upstream,
    // What follows is ours.
    #[serde(default)]
    edge: EdgeFile,
    #[serde(default)]
    preserve_host: Vec<String>,
    #[serde(default)]
    status_addr: Option<SocketAddr>,
    #[serde(default)]
    status_public: bool,
    #[serde(default)]
    status_file: Option<PathBuf>,
    #[serde(default)]
    log_arguments: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFiles {
    cert_file: PathBuf,
    key_file: PathBuf,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Upstream {
    allowed_ips: Option<Vec<String>>,
    disable_ip_validation: bool,
    tls: UpstreamTls,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpstreamTls {
    ca_file: Option<PathBuf>,
    include_system_cas: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EdgeFile {
    address: Option<String>,
    ca_file: Option<PathBuf>,
    fingerprint: Option<String>,
    proxy: Option<String>,
    token_file: Option<PathBuf>,
    connections: Option<u32>,
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where logs begin.
    pub log_level: String,
    /// How long open requests get when the gateway stops.
    pub shutdown_timeout: Duration,
    /// The tunnel's domain.
    pub tunnel_domain: Option<String>,
    /// PEM of the certificate, and of its key.
    pub certificate: (PathBuf, PathBuf),
    /// By host, or by what stands before the tunnel's domain.
    pub routes: BTreeMap<String, Route>,
    /// Where upstreams may be.
    pub addresses: Addresses,
    /// PEM of authorities for upstreams.
    pub upstream_ca: Option<PathBuf>,
    /// The system's authorities count as well.
    pub upstream_system_cas: bool,
    /// `host:port` of the edge.
    pub edge: Option<String>,
    /// PEM of authorities for the edge.
    pub edge_ca: Option<PathBuf>,
    /// SHA-256 of the edge's certificate.
    pub edge_fingerprint: Option<[u8; 32]>,
    /// `host:port` of an HTTP proxy to the edge.
    pub proxy: Option<String>,
    /// Where the token is; otherwise the environment has it.
    pub token_file: Option<PathBuf>,
    /// Connections to the edge.
    pub connections: u32,
    /// Where the status is served.
    pub status_addr: Option<SocketAddr>,
    /// Where it is written to.
    pub status_file: Option<PathBuf>,
    /// Whether audit records hold arguments; otherwise their hash.
    pub log_arguments: bool,
    /// Settings that were read and do nothing, or less than they seem to.
    pub notes: Vec<String>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

fn wrong<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError(text.into()))
}

/// Reads a file's text.
///
/// # Errors
/// What is wrong with it, with the place where that is known.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    // Without the lines around it: a token may be there that somebody put into the wrong place.
    let file: File = serde_saphyr::from_str(text)
        .map_err(|error| ConfigError(error.without_snippet().to_string()))?;
    let mut notes = Vec::new();
    if file.listen_addr.is_some() {
        notes.push("listen_addr is not used: nobody connects to this gateway".to_owned());
    }
    let domain = file
        .tunnel_domain
        .map(|d| d.trim_end_matches('.').to_ascii_lowercase());
    if file.routes.0.is_empty() {
        return wrong("routes: at least one is needed");
    }
    let mut routes = BTreeMap::new();
    for (name, target) in &file.routes.0 {
        let key = name.trim_end_matches('.').to_ascii_lowercase();
        if !key.contains('.') && domain.is_none() {
            return wrong(format!(
                "routes.{name}: tunnel_domain is needed for a bare subdomain"
            ));
        }
        let mut route = route::parse(name, target)?;
        route.preserve_host = file.preserve_host.contains(name);
        routes.insert(key, route);
    }
    if let Some(unknown) = file
        .preserve_host
        .iter()
        .find(|n| !file.routes.0.contains_key(*n))
    {
        return wrong(format!("preserve_host: there is no route '{unknown}'"));
    }
    let tls = routes.values().any(|r| r.tls);
    if tls && file.upstream.tls.ca_file.is_none() && !file.upstream.tls.include_system_cas {
        return wrong("upstream.tls: ca_file or include_system_cas is needed for https upstreams");
    }
    let connections = file.edge.connections.unwrap_or(2);
    if !(1..=8).contains(&connections) {
        return wrong("edge.connections: must be 1 to 8");
    }
    let fingerprint = match &file.edge.fingerprint {
        None => None,
        Some(text) => match crate::transport::trust::fingerprint(text) {
            Some(fingerprint) => Some(fingerprint),
            None => return wrong("edge.fingerprint: must be 64 hexadecimal digits"),
        },
    };
    if fingerprint.is_some() && file.edge.ca_file.is_some() {
        return wrong("edge: fingerprint and ca_file exclude one another");
    }
    let log_level = file.log_level.unwrap_or_else(|| "info".to_owned());
    if !["debug", "info", "warn", "error"].contains(&log_level.as_str()) {
        return wrong("log_level: must be debug, info, warn or error");
    }
    if let (Some(address), false) = (file.status_addr, file.status_public)
        && !address.ip().is_loopback()
    {
        return wrong(
            "status_addr: it is not an address of this host alone; status_public: true allows that",
        );
    }
    let addresses = addresses::parse(&file.upstream)?;
    notes.extend(
        addresses.in_vain().map(|net| {
            format!("upstream.allowed_ips: {net} is never used, whatever the file says")
        }),
    );
    Ok(Config {
        log_level,
        shutdown_timeout: match &file.shutdown_timeout {
            None => Duration::from_secs(30),
            Some(text) => duration(text).ok_or_else(|| {
                ConfigError("shutdown_timeout: must be like 30s or 1m30s".to_owned())
            })?,
        },
        tunnel_domain: domain,
        certificate: (file.tls.cert_file, file.tls.key_file),
        routes,
        addresses,
        upstream_ca: file.upstream.tls.ca_file,
        upstream_system_cas: file.upstream.tls.include_system_cas,
        edge: file.edge.address.map(|a| with_port(&a)),
        edge_ca: file.edge.ca_file,
        edge_fingerprint: fingerprint,
        proxy: file.edge.proxy,
        token_file: file.edge.token_file,
        connections,
        status_addr: file.status_addr,
        status_file: file.status_file,
        log_arguments: file.log_arguments,
        notes,
    })
}

/// The edge's port, unless it is named.
fn with_port(address: &str) -> String {
    let named = address
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match named {
        true => address.to_owned(),
        false => format!("{address}:443"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "tls: {cert_file: /c, key_file: /k}\ntunnel_domain: abc.tunnel.test\n";

    fn refused(text: &str) -> String {
        parse(text).unwrap_err().0
    }

    #[test]
    fn the_contracts_file_is_taken() {
        let text = "listen_addr: ':8080'\nlog_level: debug\nshutdown_timeout: 45s\n\
            tunnel_domain: ABC.tunnel.test.\ntls:\n  cert_file: /etc/c\n  key_file: /etc/k\n\
            routes:\n  wiki: http://wiki.corp:8080\n  git.example.com: https://10.1.2.3:8443\n\
            upstream:\n  allowed_ips: [10.0.0.0/8, 192.168.1.5]\n  tls: {ca_file: /etc/ca}\n";
        let config = parse(text).unwrap();
        assert_eq!(config.tunnel_domain.as_deref(), Some("abc.tunnel.test"));
        assert_eq!(config.shutdown_timeout, Duration::from_secs(45));
        assert_eq!(config.routes["wiki"].authority(), "wiki.corp:8080");
        assert!(config.routes["git.example.com"].tls);
        assert_eq!(config.connections, 2);
        assert!(config.notes[0].starts_with("listen_addr"));
        for (ip, permitted) in [
            ("10.9.9.9", true),
            ("192.168.1.5", true),
            ("192.168.1.6", false),
            ("169.254.169.254", false),
            ("127.0.0.1", false),
            ("::ffff:10.0.0.5", false),
            ("::1", false),
        ] {
            assert_eq!(
                config.addresses.permit(ip.parse().unwrap()),
                permitted,
                "{ip}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (routes, says) in [
            ("routes: {}", "at least one"),
            (
                "routes: [a]",
                "cannot unmarshal !!seq into map[string]string",
            ),
            ("routes: a", "map"),
            ("routes: {a: 'http://h:1', a: 'http://h:2'}", "duplicate"),
            (
                "routes: {a: 'http://h'}",
                "invalid upstream (must be scheme://host:port)",
            ),
            ("routes: {a: 'http://h:1/path'}", "invalid upstream"),
            ("routes: {a: 'ftp://h:1'}", "invalid upstream"),
            ("routes: {a: 'http://u@h:1'}", "invalid upstream"),
            ("routes: {a: 'http://2130706433:80'}", "invalid upstream"),
            ("routes: {a: 'http://0x7f.1:80'}", "invalid upstream"),
            ("routes: {a: 'http://0177.0.0.1:80'}", "invalid upstream"),
            ("routes: {a: 'http://[::1]:80'}", "invalid upstream"),
            (
                "routes: {a: 'http://[::ffff:10.0.0.5]:80'}",
                "invalid upstream",
            ),
            (
                "routes: {a: 'https://h:1'}",
                "ca_file or include_system_cas",
            ),
            ("routes: {a: 'http://h:1'}\nfoo: 1", "foo"),
            ("routes: {a: 'http://h:1'}\nlog_level: loud", "log_level"),
            (
                "routes: {a: 'http://h:1'}\npreserve_host: [b]",
                "preserve_host",
            ),
            (
                "routes: {a: 'http://h:1'}\nstatus_addr: 0.0.0.0:9090",
                "status_public",
            ),
            (
                "routes: {a: 'http://h:1'}\nstatus_addr: localhost:9090",
                "socket address",
            ),
            (
                "routes: {a: 'http://h:1'}\nedge: {connections: 9}",
                "edge.connections",
            ),
            (
                "routes: {a: 'http://h:1'}\nedge: {fingerprint: aa}",
                "edge.fingerprint",
            ),
            (
                "routes: {a: 'http://h:1'}\nupstream: {allowed_ips: ['::1']}",
                "allowed_ips",
            ),
            (
                "routes: {a: 'http://h:1'}\nupstream: {allowed_ips: [], disable_ip_validation: true}",
                "exclude",
            ),
        ] {
            let said = refused(&format!("{HEAD}{routes}\n"));
            assert!(said.contains(says), "{routes}: {said}");
        }
        let token = refused(&format!(
            "{HEAD}routes: {{a: 'http://h:1'}}\nedge: {{token: secret}}\n"
        ));
        assert!(
            token.contains("token") && !token.contains("secret"),
            "{token}"
        );
        let public = "routes: {a: 'http://h:1'}\nstatus_addr: 0.0.0.0:9090\nstatus_public: true\n";
        assert!(
            parse(&format!("{HEAD}{public}"))
                .unwrap()
                .status_addr
                .is_some()
        );
        let bare = refused("tls: {cert_file: /c, key_file: /k}\nroutes: {a: 'http://h:1'}");
        assert!(bare.contains("tunnel_domain"), "{bare}");
    }
}
