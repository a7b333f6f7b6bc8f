//! What an environment's configuration (contract 20) lets its sandboxes reach.

use freehold_sandbox::{HostPattern, NetworkPolicy};
use serde::Deserialize;

/// The part of a resolved `config` that counts here.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    networking: Option<Networking>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Networking {
    Unrestricted,
    Limited {
        #[serde(default)]
        allowed_hosts: Vec<String>,
        #[serde(default)]
        allow_package_managers: bool,
    },
}

/// The policy of an environment. Whatever cannot be read allows nothing: what was stored by a
/// newer version must not become an open network here.
pub(crate) fn policy(config: &serde_json::Value, package_hosts: &[HostPattern]) -> NetworkPolicy {
    let read = Config::deserialize(config).ok().and_then(|c| c.networking);
    match read {
        Some(Networking::Unrestricted) => NetworkPolicy::Public,
        Some(Networking::Limited {
            allowed_hosts,
            allow_package_managers,
        }) => {
            let mut allowed: Vec<HostPattern> = Vec::with_capacity(allowed_hosts.len());
            for host in &allowed_hosts {
                match host.parse() {
                    Ok(pattern) => allowed.push(pattern),
                    // Checked when the environment was made; leaving one out only narrows.
                    Err(_) => tracing::warn!("an allowed host is not a host name; left out"),
                }
            }
            if allow_package_managers {
                allowed.extend_from_slice(package_hosts);
            }
            if allowed.is_empty() {
                NetworkPolicy::None
            } else {
                NetworkPolicy::Hosts { allowed }
            }
        }
        None => NetworkPolicy::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(networking: serde_json::Value) -> NetworkPolicy {
        let hosts = ["packages.example.org".parse().unwrap()];
        policy(
            &json!({"type": "cloud", "networking": networking, "packages": {}}),
            &hosts,
        )
    }

    #[test]
    fn each_form_means_what_it_says() {
        assert_eq!(of(json!({"type": "unrestricted"})), NetworkPolicy::Public);
        let limited = of(json!({
            "type": "limited", "allowed_hosts": ["api.example.com", "*.example.net"],
            "allow_mcp_servers": true, "allow_package_managers": false,
        }));
        assert!(limited.allows_name("api.example.com") && limited.allows_name("a.example.net"));
        assert!(!limited.allows_name("packages.example.org"));
        let packages = of(json!({"type": "limited", "allow_package_managers": true}));
        assert!(packages.allows_name("packages.example.org"));
        assert!(!packages.allows_name("example.com"));
    }

    #[test]
    fn the_unreadable_allows_nothing() {
        for odd in [
            json!(null),
            json!({"type": "future"}),
            json!({"type": "limited"}),
            json!([]),
        ] {
            assert_eq!(of(odd.clone()), NetworkPolicy::None, "{odd}");
        }
        assert_eq!(policy(&json!("x"), &[]), NetworkPolicy::None);
    }
}
