//! What is stored faithfully but not run by this version. A session that would need it is refused
//! with `details.error_code` `not_supported_yet` rather than run without it.

use crate::ApiError;
use crate::agent::SessionAgent;
use crate::agent::identity::service_account;
use crate::environment::EnvironmentConfig;
use crate::event::EventParams;
use crate::resource::ResourceParam;
use crate::session::CreateSession;
use crate::tool::{BuiltinToolConfig, Tool};
use serde_json::Value;

/// A refusal of the named thing.
pub fn not_yet(what: &str) -> ApiError {
    ApiError::invalid(format!(
        "This version of Freehold stores but does not yet run {what}; the request was refused so that nothing is silently left out."
    ))
    .with_code("not_supported_yet")
}

impl SessionAgent {
    /// Why no session can run this agent, if so.
    pub fn unsupported(&self) -> Option<ApiError> {
        let what = if self.multiagent.is_some() {
            "multiagent agents"
        } else if self.execution_identity != service_account() {
            "agents with an aws_role execution_identity"
        } else if self.model.inference_geo.is_some() {
            "agents with an inference_geo pin"
        } else if self
            .web_settings()
            .any(|c| limits_sources(c.url_sources.as_ref()))
        {
            "agents whose web_fetch limits url_sources"
        } else if self
            .web_settings()
            .any(|c| c.user_location.as_ref().is_some_and(|v| !v.is_null()))
        {
            "agents whose web_search has a user_location"
        } else {
            return None;
        };
        Some(not_yet(what))
    }

    /// Settings of enabled built-in tools.
    fn web_settings(&self) -> impl Iterator<Item = &BuiltinToolConfig> {
        let sets = self.tools.iter().filter_map(|tool| match tool {
            Tool::AgentToolset(set) => Some(&set.configs),
            _ => None,
        });
        sets.flatten().filter(|c| c.enabled)
    }
}

/// Whether any kind of source is less than `all`, which is what a fetch without limits may use.
fn limits_sources(sources: Option<&Value>) -> bool {
    let kinds = sources.and_then(Value::as_object).into_iter().flatten();
    kinds
        .into_iter()
        .any(|(_, kind)| !kind.is_null() && kind["type"] != "all")
}

impl ResourceParam {
    /// Why it cannot be attached, if so.
    pub fn unsupported(&self) -> Option<ApiError> {
        match self {
            Self::File(_) | Self::MemoryStore(_) => None,
            Self::GithubRepository(_) => Some(not_yet("github_repository resources")),
        }
    }
}

impl EventParams {
    /// Why it cannot be accepted, if so.
    pub fn unsupported(&self) -> Option<ApiError> {
        matches!(self, Self::DefineOutcome(_)).then(|| not_yet("user.define_outcome events"))
    }
}

impl CreateSession {
    /// Why the session cannot start, if so; its agent and environment are asked separately.
    pub fn unsupported(&self) -> Option<ApiError> {
        self.resources
            .iter()
            .find_map(ResourceParam::unsupported)
            .or_else(|| {
                self.initial_events
                    .iter()
                    .find_map(EventParams::unsupported)
            })
    }

    /// The refusal of resources that a self-hosted environment cannot hold (contract 20).
    pub fn check_environment(&self, config: &EnvironmentConfig) -> Result<(), ApiError> {
        let is_mounted = |r: &ResourceParam| !matches!(r, ResourceParam::MemoryStore(_));
        if matches!(config, EnvironmentConfig::SelfHosted) && self.resources.iter().any(is_mounted)
        {
            return Err(self_hosted_resources(&self.environment_id));
        }
        Ok(())
    }
}

/// The contract's literal refusal, also for adding a resource later.
pub fn self_hosted_resources(environment: &freehold_base::EnvironmentId) -> ApiError {
    ApiError::invalid(format!(
        "Environment {environment} is a self-hosted environment. `resources` are not supported with self-hosted environments."
    ))
}
