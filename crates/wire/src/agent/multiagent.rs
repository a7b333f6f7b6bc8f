//! `multiagent` of an agent (contract 10, "Multiagent") as stored: every reference names a version.
//! The request half is in [`super::multiagent_request`]; running it comes in a later version.

use freehold_base::AgentId;
use serde::{Deserialize, Serialize};

use super::AgentTag;

/// A resolved configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Multiagent {
    /// The older form.
    #[serde(rename = "coordinator")]
    Coordinator(Coordinator),
    /// The newer form.
    #[serde(rename = "multiagent_20261001")]
    V20261001(Box<Members>),
}

/// `coordinator`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coordinator {
    /// The roster; an advisor is last.
    pub agents: Vec<RosterMember>,
}

/// A member of a roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RosterMember {
    /// A saved agent.
    Agent {
        /// Which.
        id: AgentId,
        /// Its version.
        version: u64,
    },
    /// The platform's advisor.
    Advisor {
        /// Its model.
        model: String,
    },
}

/// `multiagent_20261001`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Members {
    /// Session threads the agent may spawn.
    pub subagents: Spawn,
    /// Workflow runs the agent may start.
    pub workflows: Spawn,
    /// An advisor it may consult.
    pub advisor: Advisor,
}

/// `subagents` and `workflows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Spawn {
    /// Allowed.
    Enabled(SpawnEnabled),
    /// Not allowed.
    Disabled,
}

/// An enabled [`Spawn`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpawnEnabled {
    /// Whether agents may be made up on the spot.
    pub inline_agents: Switch,
    /// Saved agents.
    pub predefined_agents: Vec<AgentReference>,
}

/// `{"type":"enabled"}` or `{"type":"disabled"}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Switch {
    /// On.
    Enabled,
    /// Off.
    Disabled,
}

/// `{"type":"agent","id","version"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReference {
    /// Always `agent`.
    pub r#type: AgentTag,
    /// Which.
    pub id: AgentId,
    /// Its version.
    pub version: u64,
}

/// `advisor` of the newer form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Advisor {
    /// The primary thread may consult it.
    Enabled {
        /// Its model.
        model: String,
    },
    /// There is none.
    Disabled,
}
