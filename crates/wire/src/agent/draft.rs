//! From a checked request to the configuration of an agent's version.

use std::collections::BTreeMap;

use freehold_base::{AgentId, Timestamp};
use serde_json::Value;

use super::multiagent::Multiagent;
use super::multiagent_request::{Draft, FoundAgent, Reference};
use super::{Agent, AgentTag, Metadata, ModelConfig, Skill};
use crate::ApiError;
use crate::decode::Decode;
use crate::tool::{BuiltinTool, McpServer, Tool, mcp_request};

/// A checked configuration whose references to other agents are still to be looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentDraft {
    pub(super) config: AgentConfig,
    pub(super) multiagent: Option<Draft>,
}

impl AgentDraft {
    /// The agents to look up: id, and version if one was named.
    pub fn references(&self) -> Vec<Reference> {
        self.multiagent
            .as_ref()
            .map(Draft::references)
            .unwrap_or_default()
    }
    /// The model the agent will have.
    pub fn model(&self) -> &ModelConfig {
        &self.config.model
    }
    /// The configuration of a new agent of this id at version 1.
    ///
    /// # Errors
    /// A referenced agent is missing or breaks a rule.
    pub fn finish(
        self,
        id: &AgentId,
        found: &BTreeMap<Reference, FoundAgent>,
    ) -> Decode<AgentConfig> {
        self.at_version((id, 1), found)
    }

    fn at_version(
        &self,
        own: (&AgentId, u64),
        found: &BTreeMap<Reference, FoundAgent>,
    ) -> Decode<AgentConfig> {
        let mut config = self.config.clone();
        config.multiagent = self
            .multiagent
            .as_ref()
            .map(|draft| {
                let geo = self.config.model.inference_geo.as_deref();
                draft.resolve(own, geo, found).map(|m| to_value(&m))
            })
            .transpose()?;
        Ok(config)
    }
}

/// A checked update.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentUpdate {
    pub(super) draft: AgentDraft,
    /// False when the stored roster is kept: its versions are pinned and not looked at again.
    pub(super) looks_up: bool,
}

impl AgentUpdate {
    /// The agents to look up: id, and version if one was named.
    pub fn references(&self) -> Vec<Reference> {
        if self.looks_up {
            self.draft.references()
        } else {
            Vec::new()
        }
    }
    /// The configuration of the next version, or `None` when nothing would change.
    ///
    /// # Errors
    /// A referenced agent is missing or breaks a rule.
    pub fn finish(
        self,
        stored: &Agent,
        found: &BTreeMap<Reference, FoundAgent>,
    ) -> Decode<Option<AgentConfig>> {
        let pinned;
        let found = if self.looks_up {
            found
        } else {
            pinned = self.pinned();
            &pinned
        };
        let now = self.draft.at_version((&stored.id, stored.version), found)?;
        if now == stored.config() {
            return Ok(None);
        }
        let next = stored.version.saturating_add(1);
        self.draft.at_version((&stored.id, next), found).map(Some)
    }

    /// Stands in for the look-up of a roster that was checked when it was stored.
    fn pinned(&self) -> BTreeMap<Reference, FoundAgent> {
        self.draft
            .references()
            .into_iter()
            .map(|(id, version)| {
                let agent = FoundAgent {
                    id: id.clone(),
                    version: version.unwrap_or_default(),
                    name: String::new(),
                    archived: false,
                    has_multiagent: false,
                    inference_geo: self.draft.config.model.inference_geo.clone(),
                };
                ((id, version), agent)
            })
            .collect()
    }
}

/// Everything of an agent that makes a version: two equal ones are no new version.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// The name.
    pub name: String,
    /// The description.
    pub description: Option<String>,
    /// The system prompt.
    pub system: Option<String>,
    /// The model.
    pub model: ModelConfig,
    /// The tools.
    pub tools: Vec<Tool>,
    /// The MCP servers.
    pub mcp_servers: Vec<McpServer>,
    /// The skills.
    pub skills: Vec<Skill>,
    /// Resolved multiagent configuration.
    pub multiagent: Option<Value>,
    /// Execution identity.
    pub execution_identity: Value,
    /// Metadata.
    pub metadata: Metadata,
}

impl AgentConfig {
    pub(super) fn check(&self) -> Decode<()> {
        check_config(&self.tools, &self.mcp_servers, &self.skills)
    }
    /// The agent at a version.
    pub fn into_agent(
        self,
        id: AgentId,
        version: u64,
        created_at: Timestamp,
        updated_at: Timestamp,
    ) -> Agent {
        Agent {
            r#type: AgentTag::Agent,
            id,
            version,
            name: self.name,
            description: self.description,
            system: self.system,
            model: self.model,
            tools: self.tools,
            mcp_servers: self.mcp_servers,
            skills: self.skills,
            multiagent: self.multiagent,
            execution_identity: self.execution_identity,
            metadata: self.metadata,
            created_at,
            updated_at,
            archived_at: None,
        }
    }
}

/// The rules that tie tools, MCP servers and skills together; also for the effective configuration
/// of a session.
///
/// # Errors
/// A server without a toolset, a toolset without a server, or skills without the `read` tool.
pub fn check_config(tools: &[Tool], servers: &[McpServer], skills: &[Skill]) -> Decode<()> {
    mcp_request::check_pairing(tools, servers)?;
    let reads = tools.iter().any(|tool| match tool {
        Tool::AgentToolset(set) => set.enabled().any(|t| t == BuiltinTool::Read),
        _ => false,
    });
    if !skills.is_empty() && !reads {
        return Err(ApiError::invalid(
            "skills: Skills need the `read` tool of agent_toolset_20260401 to be enabled in tools",
        ));
    }
    Ok(())
}

fn to_value(multiagent: &Multiagent) -> Value {
    // Our own closed types always serialise.
    serde_json::to_value(multiagent).unwrap_or_default()
}
