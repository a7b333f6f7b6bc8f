//! The URL of a server, in the one form it is compared, dialled and cached in.

use http::Uri;

/// Longest URL, bytes (contract 62).
const MAX_URL: usize = 2_048;

/// A URL that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// For requests.
    pub uri: Uri,
    /// Lower case, without trailing dot and brackets.
    pub host: String,
    /// The URL's, or the scheme's.
    pub port: u16,
    /// Whether it is `https`.
    pub tls: bool,
}

impl Server {
    /// Reads one.
    ///
    /// # Errors
    /// Why it cannot be used, for clients.
    pub fn parse(text: &str) -> Result<Self, String> {
        let unusable = |why: &str| Err(format!("the URL cannot be used: {why}"));
        if text.len() > MAX_URL {
            return unusable("it is too long");
        }
        let Ok(mut url) = url::Url::parse(text) else {
            return unusable("it is not a URL");
        };
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return unusable("its scheme is not https"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return unusable("it holds a user name or a password");
        }
        url.set_fragment(None);
        let Some(host) = url.host_str().map(|h| h.trim_end_matches('.').to_owned()) else {
            return unusable("it has no host");
        };
        if host.is_empty() || url.set_host(Some(&host)).is_err() {
            return unusable("its host is not a name or an address");
        }
        let port = url.port().unwrap_or(if tls { 443 } else { 80 });
        let Ok(uri) = url.as_str().parse::<Uri>() else {
            return unusable("it is not a URL");
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            uri,
            host: host.to_ascii_lowercase(),
            port,
            tls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form_for_every_spelling() {
        let server = Server::parse("HTTPS://MCP.Example.COM.:443/a?b#c").unwrap();
        assert_eq!(
            (server.host.as_str(), server.port, server.tls),
            ("mcp.example.com", 443, true)
        );
        assert_eq!(server.uri.to_string(), "https://mcp.example.com/a?b");
        // What looks like a name may be an address: the parser decides, and the dialler sees that.
        assert_eq!(
            Server::parse("http://2130706433/").unwrap().host,
            "127.0.0.1"
        );
        assert_eq!(Server::parse("http://[::1]:8/").unwrap().host, "::1");
    }

    #[test]
    fn tricks_are_refused() {
        for bad in [
            "https://good@evil/",
            "ftp://h/",
            "https://",
            "h/p",
            "https://./",
            "file:///etc",
        ] {
            assert!(Server::parse(bad).is_err(), "{bad}");
        }
    }
}
