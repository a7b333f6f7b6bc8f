//! What an environment's configuration (contract 20) lets its sandboxes reach.

use std::fmt::Display;

use freehold_sandbox::{HostPattern, NetworkPolicy};
use freehold_wire::content::ContentBlock;
use serde::Deserialize;

use crate::content::Reply;

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

/// The policy of an environment, with the hosts of packages if it allows them; those of MCP servers are
/// among the allowed ones already. Whatever cannot be read allows
/// nothing: what was stored by a newer version must not become an open network here.
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

/// What may be reached while packages are installed: package hosts alone, where the operator names
/// them; otherwise whatever an unrestricted environment may.
pub(crate) fn for_packages(
    config: &serde_json::Value,
    package_hosts: &[HostPattern],
) -> NetworkPolicy {
    let read = Config::deserialize(config).ok().and_then(|c| c.networking);
    let hosts = || NetworkPolicy::Hosts {
        allowed: package_hosts.to_vec(),
    };
    match read {
        Some(Networking::Unrestricted) if package_hosts.is_empty() => NetworkPolicy::Public,
        Some(Networking::Unrestricted) => hosts(),
        Some(Networking::Limited {
            allow_package_managers: true,
            ..
        }) if !package_hosts.is_empty() => hosts(),
        _ => NetworkPolicy::None,
    }
}

/// Tells the model of a failed call what the network refused meanwhile: a program that could not
/// connect seldom knows why.
pub(crate) fn explain(reply: &mut Reply, denials: &[impl Display]) {
    if !reply.is_error || denials.is_empty() {
        return;
    }
    let mut text = "Network connections that were refused or failed meanwhile:".to_owned();
    for denial in denials {
        text.push_str(&format!("\n- {denial}"));
    }
    reply.content.push(ContentBlock::text(text));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(networking: serde_json::Value) -> NetworkPolicy {
        policy(
            &json!({"type": "cloud", "networking": networking, "packages": {}}),
            &["packages.example.org".parse().unwrap()],
        )
    }

    #[test]
    fn each_form_means_what_it_says() {
        assert_eq!(of(json!({"type": "unrestricted"})), NetworkPolicy::Public);
        let limited = of(json!({
            "type": "limited", "allowed_hosts": ["api.example.com", "*.example.net", "mcp.example.org:8443"],
            "allow_mcp_servers": true, "allow_package_managers": false,
        }));
        assert!(limited.allows_name("api.example.com") && limited.allows_name("a.example.net"));
        assert!(!limited.allows_name("packages.example.org"));
        assert!(limited.allows("mcp.example.org", 8443) && !limited.allows("mcp.example.org", 443));
        let packages = of(json!({"type": "limited", "allow_package_managers": true}));
        assert!(packages.allows_name("packages.example.org"));
        assert!(!packages.allows_name("example.com"));
    }

    #[test]
    fn only_a_failed_call_is_explained() {
        let denials = ["a.test:443: not allowed", "10.0.0.1:80: not public"];
        let mut failed = Reply::error("curl: (6)");
        explain(&mut failed, &denials);
        let [ContentBlock::Text(_), ContentBlock::Text(said)] = failed.content.as_slice() else {
            panic!("{failed:?}");
        };
        assert!(
            said.text
                .ends_with("\n- a.test:443: not allowed\n- 10.0.0.1:80: not public")
        );
        let mut quiet = Reply::error("x");
        explain(&mut quiet, &[""; 0]);
        let mut fine = Reply {
            is_error: false,
            ..Reply::error("x")
        };
        explain(&mut fine, &denials);
        assert_eq!((quiet.content.len(), fine.content.len()), (1, 1));
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
