//! `SessionThreadAgent` of contract 30: a [`SessionAgent`] without `multiagent`.

use freehold_base::AgentId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentTag, ModelConfig, SessionAgent, Skill};
use crate::tool::{McpServer, Tool};

/// The agent a thread runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadAgent {
    /// Always `agent`.
    pub r#type: AgentTag,
    /// The agent.
    pub id: AgentId,
    /// Its version.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// Its system prompt.
    pub system: Option<String>,
    /// Its model.
    pub model: ModelConfig,
    /// Its tools.
    pub tools: Vec<Tool>,
    /// Its MCP servers.
    pub mcp_servers: Vec<McpServer>,
    /// Its skills.
    pub skills: Vec<Skill>,
    /// Execution identity.
    pub execution_identity: Value,
}

impl From<SessionAgent> for ThreadAgent {
    fn from(agent: SessionAgent) -> Self {
        Self {
            r#type: agent.r#type,
            id: agent.id,
            version: agent.version,
            name: agent.name,
            description: agent.description,
            system: agent.system,
            model: agent.model,
            tools: agent.tools,
            mcp_servers: agent.mcp_servers,
            skills: agent.skills,
            execution_identity: agent.execution_identity,
        }
    }
}
