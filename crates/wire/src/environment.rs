//! Environments (contract 20).

use freehold_base::{EnvironmentId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::agent::Metadata;

pub mod request;

pub use request::{CreateEnvironment, EnvironmentData, UpdateEnvironment};

/// The constant `environment`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvironmentTag {
    /// `environment`.
    #[default]
    Environment,
}

/// An environment as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// `env_…`.
    pub id: EnvironmentId,
    /// Always `environment`.
    pub r#type: EnvironmentTag,
    /// 1 to 256 characters.
    pub name: String,
    /// The description.
    pub description: Option<String>,
    /// Resolved.
    pub config: EnvironmentConfig,
    /// Metadata.
    pub metadata: Metadata,
    /// Always `organization`.
    pub scope: Scope,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Who sees an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everyone in the organization.
    #[default]
    Organization,
}

/// Where tools run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EnvironmentConfig {
    /// In sandboxes of this server.
    Cloud(CloudConfig),
    /// On the customer's workers.
    SelfHosted,
}

/// `cloud`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudConfig {
    /// What a sandbox may reach.
    pub networking: Networking,
    /// What is installed.
    pub packages: Packages,
}

/// What a sandbox may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Networking {
    /// Any public address.
    #[default]
    Unrestricted,
    /// Named hosts.
    Limited(LimitedNetwork),
}

impl Networking {
    /// Whether a sandbox may reach a host, or for `*.example.com` any host below it. Package
    /// registries and MCP servers, which are named elsewhere, are left out of account.
    pub fn permits(&self, host: &str) -> bool {
        match self {
            Self::Unrestricted => true,
            Self::Limited(limited) => limited
                .allowed_hosts
                .iter()
                .any(|allowed| overlap(allowed, host)),
        }
    }
}

/// Whether two host names or `*.` patterns have a host in common.
fn overlap(a: &str, b: &str) -> bool {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let below = |name: &str, domain: &str| {
        name.strip_suffix(domain)
            .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    };
    match (a.strip_prefix("*."), b.strip_prefix("*.")) {
        (None, None) => a == b,
        (Some(domain), None) => below(&b, domain),
        (None, Some(domain)) => below(&a, domain),
        (Some(one), Some(other)) => one == other || below(one, other) || below(other, one),
    }
}

/// `limited`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitedNetwork {
    /// Host names and `*.example.com` patterns.
    pub allowed_hosts: Vec<String>,
    /// Also the agent's MCP servers.
    pub allow_mcp_servers: bool,
    /// Also package registries.
    pub allow_package_managers: bool,
}

/// Packages by manager, in the order they are installed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Always `packages`.
    pub r#type: PackagesTag,
    /// `name`.
    pub apt: Vec<String>,
    /// `name@1`.
    pub cargo: Vec<String>,
    /// `name:1`.
    pub gem: Vec<String>,
    /// `module@latest`.
    pub go: Vec<String>,
    /// `name@1`.
    pub npm: Vec<String>,
    /// `name==1.0`.
    pub pip: Vec<String>,
}

impl Packages {
    /// Whether nothing is to be installed.
    pub fn is_empty(&self) -> bool {
        [
            &self.apt,
            &self.cargo,
            &self.gem,
            &self.go,
            &self.npm,
            &self.pip,
        ]
        .into_iter()
        .all(Vec::is_empty)
    }
}

/// The constant `packages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PackagesTag {
    /// `packages`.
    #[default]
    Packages,
}
