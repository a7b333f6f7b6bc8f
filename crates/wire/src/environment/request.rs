//! Create and update of environments (contract 20): an update is merged into the stored
//! configuration, key by key; keys that are null or left out keep their value.

use freehold_base::limits::{MAX_DESCRIPTION, MAX_NAME};
use freehold_base::{EnvironmentId, Timestamp};
use serde_json::Value;

use super::{
    CloudConfig, Environment, EnvironmentConfig, EnvironmentTag, LimitedNetwork, Networking,
    Packages, Scope,
};
use crate::agent::Metadata;
use crate::decode::{At, Decode, Object, boolean, list, one_of, string, text};
use crate::metadata::{self, MetadataPatch};
use crate::request::Request;
use crate::{ApiError, Patch};

/// Allowed hosts of an environment; our own bound.
const MAX_HOSTS: usize = 256;
/// Characters of a host name.
const MAX_HOST: usize = 253;
/// Packages of one manager; our own bound.
const MAX_PACKAGES: usize = 256;
/// Characters of one package.
const MAX_PACKAGE: usize = 256;

/// A requested configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ConfigParam {
    Cloud {
        networking: Option<NetworkingParam>,
        packages: Option<PackagesParam>,
    },
    SelfHosted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NetworkingParam {
    Unrestricted,
    Limited {
        allowed_hosts: Option<Vec<String>>,
        allow_mcp_servers: Option<bool>,
        allow_package_managers: Option<bool>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PackagesParam {
    apt: Option<Vec<String>>,
    cargo: Option<Vec<String>>,
    gem: Option<Vec<String>>,
    go: Option<Vec<String>>,
    npm: Option<Vec<String>>,
    pip: Option<Vec<String>>,
}

/// `POST /v1/environments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateEnvironment {
    name: String,
    description: Option<String>,
    config: Option<ConfigParam>,
    metadata: Metadata,
}

/// `POST /v1/environments/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateEnvironment {
    name: Option<String>,
    description: Patch<String>,
    config: Option<ConfigParam>,
    metadata: Option<MetadataPatch>,
}

/// Everything of an environment that a request can set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentData {
    /// The name.
    pub name: String,
    /// The description.
    pub description: Option<String>,
    /// Resolved.
    pub config: EnvironmentConfig,
    /// Metadata.
    pub metadata: Metadata,
}

impl EnvironmentData {
    /// The environment with its identity and times.
    pub fn into_environment(
        self,
        id: EnvironmentId,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> Environment {
        Environment {
            id,
            r#type: EnvironmentTag::Environment,
            name: self.name,
            description: self.description,
            config: self.config,
            metadata: self.metadata,
            scope: Scope::Organization,
            created_at,
            updated_at,
            archived_at: None,
        }
    }
}

impl Request for CreateEnvironment {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            name: o.required("name", text(1, MAX_NAME))?,
            description: o.optional("description", text(0, MAX_DESCRIPTION))?,
            config: o.optional("config", config)?,
            metadata: o.present("metadata", metadata::bag)?.unwrap_or_default(),
        };
        o.optional("scope", scope)?;
        o.finish()?;
        Ok(request)
    }
}

impl CreateEnvironment {
    /// The environment asked for; left-out parts take their defaults: cloud, unrestricted network,
    /// no packages.
    ///
    /// # Errors
    /// The whole breaks a rule.
    pub fn resolve(self) -> Decode<EnvironmentData> {
        let config = match self.config {
            None => EnvironmentConfig::Cloud(CloudConfig::default()),
            Some(ConfigParam::SelfHosted) => EnvironmentConfig::SelfHosted,
            Some(ConfigParam::Cloud {
                networking,
                packages,
            }) => EnvironmentConfig::Cloud(merge(CloudConfig::default(), networking, packages)),
        };
        check(&config)?;
        Ok(EnvironmentData {
            name: self.name,
            description: self.description,
            config,
            metadata: self.metadata,
        })
    }
}

impl Request for UpdateEnvironment {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            name: o.optional("name", text(1, MAX_NAME))?,
            description: o.patch("description", text(0, MAX_DESCRIPTION))?,
            config: o.optional("config", config)?,
            metadata: o
                .optional("metadata", metadata::patch)?
                .map(MetadataPatch::empty_deletes),
        };
        o.optional("scope", scope)?;
        o.finish()?;
        Ok(request)
    }
}

impl UpdateEnvironment {
    /// The stored environment with this change, or `None` when nothing would change.
    ///
    /// # Errors
    /// `environment_archived`, `invalid_config_type_change`, or the result breaks a rule.
    pub fn resolve(self, stored: &Environment) -> Decode<Option<EnvironmentData>> {
        if stored.archived_at.is_some() {
            return Err(ApiError::invalid(format!(
                "Environment `{}` is archived and cannot be updated.",
                stored.id
            ))
            .with_code("environment_archived"));
        }
        let before = EnvironmentData {
            name: stored.name.clone(),
            description: stored.description.clone(),
            config: stored.config.clone(),
            metadata: stored.metadata.clone(),
        };
        let mut after = before.clone();
        if let Some(name) = self.name {
            after.name = name;
        }
        self.description.apply(&mut after.description);
        if let Some(patch) = &self.metadata {
            after.metadata = patch.apply(&stored.metadata)?;
        }
        after.config = match (self.config, after.config) {
            (None, stored) => stored,
            (Some(ConfigParam::SelfHosted), EnvironmentConfig::SelfHosted) => {
                EnvironmentConfig::SelfHosted
            }
            (
                Some(ConfigParam::Cloud {
                    networking,
                    packages,
                }),
                EnvironmentConfig::Cloud(stored),
            ) => EnvironmentConfig::Cloud(merge(stored, networking, packages)),
            _ => {
                return Err(ApiError::invalid(
                    "config.type: The type of an environment cannot be changed.",
                )
                .with_code("invalid_config_type_change"));
            }
        };
        check(&after.config)?;
        Ok((after != before).then_some(after))
    }
}

fn merge(
    mut stored: CloudConfig,
    networking: Option<NetworkingParam>,
    packages: Option<PackagesParam>,
) -> CloudConfig {
    match networking {
        None => {}
        Some(NetworkingParam::Unrestricted) => stored.networking = Networking::Unrestricted,
        Some(NetworkingParam::Limited {
            allowed_hosts,
            allow_mcp_servers,
            allow_package_managers,
        }) => {
            let base = match stored.networking {
                Networking::Limited(limited) => limited,
                Networking::Unrestricted => LimitedNetwork::default(),
            };
            stored.networking = Networking::Limited(LimitedNetwork {
                allowed_hosts: allowed_hosts.unwrap_or(base.allowed_hosts),
                allow_mcp_servers: allow_mcp_servers.unwrap_or(base.allow_mcp_servers),
                allow_package_managers: allow_package_managers
                    .unwrap_or(base.allow_package_managers),
            });
        }
    }
    if let Some(given) = packages {
        let base = stored.packages;
        stored.packages = Packages {
            r#type: base.r#type,
            apt: given.apt.unwrap_or(base.apt),
            cargo: given.cargo.unwrap_or(base.cargo),
            gem: given.gem.unwrap_or(base.gem),
            go: given.go.unwrap_or(base.go),
            npm: given.npm.unwrap_or(base.npm),
            pip: given.pip.unwrap_or(base.pip),
        };
    }
    stored
}

fn check(config: &EnvironmentConfig) -> Decode<()> {
    match config {
        EnvironmentConfig::Cloud(CloudConfig {
            networking: Networking::Limited(limited),
            packages,
        }) if !packages.is_empty() && !limited.allow_package_managers => Err(ApiError::invalid(
            "config.packages: Packages need networking.allow_package_managers to be true under limited networking",
        )),
        _ => Ok(()),
    }
}

fn config(value: Value, at: &At<'_>) -> Decode<ConfigParam> {
    let mut o = Object::new(value, at)?;
    let config = match o.tag(&["cloud", "self_hosted"])? {
        "cloud" => ConfigParam::Cloud {
            networking: o.optional("networking", networking)?,
            packages: o.optional("packages", packages)?,
        },
        _ => ConfigParam::SelfHosted,
    };
    o.finish()?;
    Ok(config)
}

fn networking(value: Value, at: &At<'_>) -> Decode<NetworkingParam> {
    let mut o = Object::new(value, at)?;
    let networking = match o.tag(&["unrestricted", "limited"])? {
        "unrestricted" => NetworkingParam::Unrestricted,
        _ => NetworkingParam::Limited {
            allowed_hosts: o.optional("allowed_hosts", list(0, MAX_HOSTS, host))?,
            allow_mcp_servers: o.optional("allow_mcp_servers", boolean)?,
            allow_package_managers: o.optional("allow_package_managers", boolean)?,
        },
    };
    o.finish()?;
    Ok(networking)
}

/// A bare host name or `*.` and a host name.
pub(crate) fn host(value: Value, at: &At<'_>) -> Decode<String> {
    let host = string(value, at)?;
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c))
    };
    if MAX_HOST < host.len() || !name.split('.').all(is_label) {
        return Err(at.error(
            "Input should be a host name such as 'api.example.com' or '*.example.com', without scheme, port or path",
        ));
    }
    Ok(host)
}

fn packages(value: Value, at: &At<'_>) -> Decode<PackagesParam> {
    let mut o = Object::new(value, at)?;
    o.optional("type", one_of(&[("packages", ())]))?;
    let read = || list(0, MAX_PACKAGES, package);
    let packages = PackagesParam {
        apt: o.optional("apt", read())?,
        cargo: o.optional("cargo", read())?,
        gem: o.optional("gem", read())?,
        go: o.optional("go", read())?,
        npm: o.optional("npm", read())?,
        pip: o.optional("pip", read())?,
    };
    o.finish()?;
    Ok(packages)
}

fn package(value: Value, at: &At<'_>) -> Decode<String> {
    let package = text(1, MAX_PACKAGE)(value, at)?;
    // It becomes an argument of a package manager: never an option, never two arguments.
    if package.starts_with('-') || package.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(
            at.error("Input should be one package, without whitespace and not starting with '-'")
        );
    }
    Ok(package)
}

fn scope(value: Value, at: &At<'_>) -> Decode<()> {
    match one_of(&[("organization", true), ("account", false)])(value, at)? {
        true => Ok(()),
        false => Err(at.error("scope 'account' is not available; use 'organization'")),
    }
}
