//! Agents as stored and shown (contract 10).

use std::collections::BTreeMap;

use freehold_base::{AgentId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::tool::{McpServer, Tool};

mod draft;
pub mod identity;
pub mod multiagent;
mod multiagent_draft;
pub mod multiagent_request;
pub mod request;
mod skill;
mod thread_agent;

pub use multiagent_request::{FoundAgent, Reference};
pub use request::{AgentConfig, AgentDraft, AgentUpdate, CreateAgent, UpdateAgent};
pub use skill::skills;
pub use thread_agent::ThreadAgent;

/// Key-value pairs of a resource (contract 00 §7).
pub type Metadata = BTreeMap<String, String>;

/// `low` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effort {
    /// Least.
    Low,
    /// Between low and high.
    Medium,
    /// The default.
    High,
    /// Above high.
    Xhigh,
    /// Most.
    Max,
}

impl Effort {
    /// The bare level, as the Messages API's `output_config.effort` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Xhigh => "xhigh",
            Self::Max => "max",
        }
    }
}

/// `standard` or `fast`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// The default.
    Standard,
    /// Faster, dearer.
    Fast,
}

/// A resolved model configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The model id.
    pub id: String,
    /// Resolved effort.
    pub effort: Effort,
    /// Resolved speed.
    pub speed: Speed,
    /// Absent when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_geo: Option<String>,
}

/// A skill reference, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skill {
    /// `anthropic` or `custom`.
    pub r#type: SkillKind,
    /// A built-in name or `skill_…`.
    pub skill_id: String,
    /// A version or `latest`.
    pub version: String,
}

/// Where a skill comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillKind {
    /// `pptx`, `xlsx`, `docx`, `pdf`.
    Anthropic,
    /// Uploaded.
    Custom,
}

/// The configuration of an agent that a session snapshots: `SessionAgent` of contract 30.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionAgent {
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
    /// Resolved multiagent configuration, kept as JSON: stored faithfully, run in a later version.
    pub multiagent: Option<Value>,
    /// Kept as JSON; `{"type":"service_account"}` by default.
    pub execution_identity: Value,
}

/// The constant `agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentTag {
    /// `agent`.
    #[default]
    Agent,
}

/// An agent at one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Always `agent`.
    pub r#type: AgentTag,
    /// The id.
    pub id: AgentId,
    /// The version, from 1.
    pub version: u64,
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
    /// When the agent was created.
    pub created_at: Timestamp,
    /// When this version was made.
    pub updated_at: Timestamp,
    /// When the agent was archived.
    pub archived_at: Option<Timestamp>,
}

impl Agent {
    /// What makes this version.
    pub fn config(&self) -> AgentConfig {
        AgentConfig {
            name: self.name.clone(),
            description: self.description.clone(),
            system: self.system.clone(),
            model: self.model.clone(),
            tools: self.tools.clone(),
            mcp_servers: self.mcp_servers.clone(),
            skills: self.skills.clone(),
            multiagent: self.multiagent.clone(),
            execution_identity: self.execution_identity.clone(),
            metadata: self.metadata.clone(),
        }
    }
    /// The snapshot a session takes.
    pub fn session_agent(&self) -> SessionAgent {
        SessionAgent {
            r#type: AgentTag::Agent,
            id: self.id.clone(),
            version: self.version,
            name: self.name.clone(),
            description: self.description.clone(),
            system: self.system.clone(),
            model: self.model.clone(),
            tools: self.tools.clone(),
            mcp_servers: self.mcp_servers.clone(),
            skills: self.skills.clone(),
            multiagent: self.multiagent.clone(),
            execution_identity: self.execution_identity.clone(),
        }
    }
}
