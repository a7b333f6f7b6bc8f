//! Variables of vaults (contract 64 §6): the inside holds placeholders, the egress proxy the values.

use freehold_base::Secret;
use freehold_sandbox::{HostPattern, Injection, NetworkPolicy};
use freehold_wire::credential::CredentialNetworking;

/// A variable of a sandbox whose value is put in on the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it holds inside: 8 to 256 letters, digits, `_` and `-`; the same whatever the value.
    pub placeholder: String,
    /// What goes out.
    pub value: Secret<String>,
    /// To where.
    pub hosts: CredentialNetworking,
    /// In values of headers.
    pub header: bool,
    /// In bodies.
    pub body: bool,
}

/// The environment of a sandbox made now.
pub(crate) fn env(variables: &[Variable]) -> Vec<(String, String)> {
    let each = variables.iter();
    each.map(|v| (v.name.clone(), v.placeholder.clone()))
        .collect()
}

/// What the proxy puts in for the variables that the sandbox holds.
pub(crate) fn injections(variables: &[Variable], held: &[(String, String)]) -> Vec<Injection> {
    let held = variables.iter().filter(|v| holds(held, v));
    held.map(|v| Injection {
        placeholder: v.placeholder.clone(),
        value: v.value.clone(),
        hosts: hosts(&v.hosts),
        header: v.header,
        body: v.body,
    })
    .collect()
}

/// Whether a sandbox with this environment holds all of the variables.
pub(crate) fn held(variables: &[Variable], env: &[(String, String)]) -> bool {
    variables.iter().all(|v| holds(env, v))
}

fn holds(env: &[(String, String)], variable: &Variable) -> bool {
    env.iter().any(|(name, _)| *name == variable.name)
}

fn hosts(networking: &CredentialNetworking) -> NetworkPolicy {
    match networking {
        // Of those that the sandbox may reach.
        CredentialNetworking::Unrestricted => NetworkPolicy::Public,
        CredentialNetworking::Limited(hosts) => {
            let mut allowed: Vec<HostPattern> = Vec::new();
            for host in &hosts.allowed_hosts {
                match host.parse() {
                    Ok(pattern) => allowed.push(pattern),
                    // Checked when the credential was made; leaving one out only narrows.
                    Err(_) => tracing::warn!("a credential's host is not a host name; left out"),
                }
            }
            NetworkPolicy::Hosts { allowed }
        }
    }
}
