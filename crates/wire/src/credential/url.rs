//! When two URLs of MCP servers are the same (contracts 10 and 62).

/// The URL with scheme and host in lower case and without default port and trailing slash. What
/// differs in path, subdomain or another port stays different.
pub fn normalise(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let scheme = scheme.to_ascii_lowercase();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.to_ascii_lowercase();
    let default_port = if scheme == "http" { ":80" } else { ":443" };
    let host = authority.strip_suffix(default_port).unwrap_or(&authority);
    let host = host.strip_suffix(':').unwrap_or(host);
    let path = path.strip_suffix('/').unwrap_or(path);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn spelling_does_not_matter_and_all_else_does() {
        for same in [
            "https://mcp.example.com",
            "HTTPS://MCP.Example.com/",
            "https://mcp.example.com:443/",
            "https://mcp.example.com:",
        ] {
            assert_eq!(normalise(same), "https://mcp.example.com", "{same}");
        }
        for other in [
            "http://mcp.example.com",
            "https://mcp.example.com:80",
            "https://mcp.example.com:8443",
            "https://mcp.example.com/MCP",
            "https://mcp.example.com/?a",
            "https://a.mcp.example.com",
            "https://[::1]:443",
        ] {
            assert_ne!(normalise(other), "https://mcp.example.com", "{other}");
        }
        assert_eq!(normalise("https://h/Path/"), "https://h/Path");
        assert_eq!(normalise("http://H:80/"), "http://h");
    }
}
