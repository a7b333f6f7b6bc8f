//! A server's URL, taken apart and checked.

use freehold_base::WorkspaceId;
use url::{Host, Url};

use crate::dial::Destination;
use crate::options::MAX_URL;

/// A URL that may be dialled, if its address may be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// `https`.
    pub tls: bool,
    /// Lower case, no trailing dot, an IPv6 address without brackets.
    pub host: String,
    /// Of the URL, or the scheme's.
    pub port: u16,
    /// Path and query.
    pub path: String,
    authority: String,
}

impl Target {
    /// Takes `url` apart. The error is for clients.
    pub fn parse(url: &str) -> Result<Self, String> {
        if url.len() > MAX_URL {
            return Err(format!("the URL is longer than {MAX_URL} characters"));
        }
        let parsed = Url::parse(url).map_err(|_| "the URL is not valid".to_owned())?;
        Self::from_url(&parsed)
    }

    fn from_url(url: &Url) -> Result<Self, String> {
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err("the URL is neither https nor http".into()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL holds a user name or a password".into());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.trim_end_matches('.').to_ascii_lowercase(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        };
        if host.is_empty() {
            return Err("the URL has no host".into());
        }
        let port = url.port_or_known_default().unwrap_or(443);
        let shown = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let authority = match url.port() {
            Some(port) => format!("{shown}:{port}"),
            None => shown,
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self {
            tls,
            host,
            port,
            path,
            authority,
        })
    }

    /// The URL `reference` means here, if it is of the same origin.
    pub(crate) fn join(&self, reference: &str) -> Result<Self, String> {
        let base = Url::parse(&self.url()).map_err(|_| "the URL is not valid".to_owned())?;
        let joined = base
            .join(reference)
            .map_err(|_| "the server named an endpoint that is no URL".to_owned())?;
        let joined = Self::from_url(&joined)?;
        let same = (joined.tls, &joined.host, joined.port) == (self.tls, &self.host, self.port);
        if same && joined.path.len() <= MAX_URL {
            Ok(joined)
        } else {
            Err("the server named an endpoint elsewhere".into())
        }
    }

    /// Value of the `Host` header.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The URL in its one normal form.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }

    /// Where to dial for `workspace`.
    pub(crate) fn destination(&self, workspace: &WorkspaceId) -> Destination {
        Destination {
            workspace: workspace.clone(),
            tls: self.tls,
            host: self.host.clone(),
            port: self.port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_each_place() {
        let of = |url: &str| Target::parse(url).unwrap().url();
        assert_eq!(
            of("https://Example.COM.:443/mcp#x"),
            "https://example.com/mcp"
        );
        assert_eq!(of("http://2130706433/"), "http://127.0.0.1/");
        assert_eq!(of("https://[::1]:8443/a?b=c"), "https://[::1]:8443/a?b=c");
    }

    #[test]
    fn odd_urls_are_refused() {
        for url in [
            "ftp://example.com/",
            "https://good.example@evil.example/",
            "https://:secret@evil.example/",
            "javascript:alert(1)",
            "https://",
            "",
            "https://./",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2048));
        assert!(Target::parse(&long).is_err());
    }

    #[test]
    fn an_endpoint_elsewhere_is_refused() {
        let base = Target::parse("https://example.com/sse").unwrap();
        assert_eq!(base.join("/messages?id=1").unwrap().path, "/messages?id=1");
        for reference in [
            "https://evil.example/messages",
            "//evil.example/messages",
            "http://example.com/messages",
            "https://example.com:8443/messages",
        ] {
            assert!(base.join(reference).is_err(), "{reference}");
        }
    }
}
