//! Create and update of agents (contract 10): what may be asked, and the configuration it makes.

use freehold_base::limits::{MAX_DESCRIPTION, MAX_NAME, MAX_SYSTEM};
use serde_json::Value;

pub use super::draft::{AgentConfig, AgentDraft, AgentUpdate, check_config};
use super::identity::{identity, service_account};
use super::multiagent::Multiagent;
use super::multiagent_request::{Draft, MultiagentParam};
use super::skill::skills;
use super::{Agent, Metadata, Skill};
use crate::decode::{At, Decode, Object, integer, text};
use crate::metadata::{self, MetadataPatch};
use crate::model_config::{ModelParam, Models};
use crate::request::Request;
use crate::tool::{McpServer, Tool};
use crate::{ApiError, Patch, tool};

/// `POST /v1/agents`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateAgent {
    /// 1 to 256 characters.
    pub name: String,
    /// At most 2048 characters; empty is none.
    pub description: Option<String>,
    /// At most 100,000 characters; empty is none.
    pub system: Option<String>,
    /// The model.
    pub model: ModelParam,
    /// Resolved.
    pub tools: Vec<Tool>,
    /// At most 20.
    pub mcp_servers: Vec<McpServer>,
    /// Resolved.
    pub skills: Vec<Skill>,
    /// Metadata.
    pub metadata: Metadata,
    /// Requested multiagent configuration.
    pub multiagent: Option<MultiagentParam>,
    /// Resolved.
    pub execution_identity: Value,
}

impl Request for CreateAgent {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            model: o.required("model", ModelParam::decode)?,
            name: o.required("name", text(1, MAX_NAME))?,
            description: non_empty(o.optional("description", text(0, MAX_DESCRIPTION))?),
            system: non_empty(o.optional("system", text(0, MAX_SYSTEM))?),
            tools: o.present("tools", tool::tools)?.unwrap_or_default(),
            mcp_servers: o.present("mcp_servers", tool::servers)?.unwrap_or_default(),
            skills: o.present("skills", skills)?.unwrap_or_default(),
            metadata: o.present("metadata", metadata::bag)?.unwrap_or_default(),
            multiagent: o.optional("multiagent", MultiagentParam::decode)?,
            execution_identity: o
                .optional("execution_identity", identity)?
                .unwrap_or_else(service_account),
        };
        o.finish()?;
        Ok(request)
    }
}

impl CreateAgent {
    /// Checks the whole and resolves what needs no look at other agents.
    ///
    /// # Errors
    /// A rule of contract 10 is broken.
    pub fn resolve(self, models: &dyn Models) -> Decode<AgentDraft> {
        let config = AgentConfig {
            name: self.name,
            description: self.description,
            system: self.system,
            model: self.model.resolve(None, models)?,
            tools: self.tools,
            mcp_servers: self.mcp_servers,
            skills: self.skills,
            multiagent: None,
            execution_identity: self.execution_identity,
            metadata: self.metadata,
        };
        config.check()?;
        let multiagent = self
            .multiagent
            .map(|param| param.merge(None, None))
            .transpose()?;
        check_advisors(multiagent.as_ref(), models)?;
        Ok(AgentDraft { config, multiagent })
    }
}

/// `POST /v1/agents/{agent_id}`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateAgent {
    /// The version the client believes to be current.
    pub version: Option<u64>,
    name: Option<String>,
    description: Patch<String>,
    system: Patch<String>,
    model: Option<ModelParam>,
    tools: Patch<Vec<Tool>>,
    mcp_servers: Patch<Vec<McpServer>>,
    skills: Patch<Vec<Skill>>,
    metadata: Option<MetadataPatch>,
    multiagent: Patch<MultiagentParam>,
    execution_identity: Patch<Value>,
}

impl Request for UpdateAgent {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            version: o.present("version", integer(1, i64::MAX as u64))?,
            name: o.present("name", text(1, MAX_NAME))?,
            description: o.patch("description", text(0, MAX_DESCRIPTION))?,
            system: o.patch("system", text(0, MAX_SYSTEM))?,
            model: o.present("model", ModelParam::decode)?,
            tools: o.patch("tools", tool::tools)?,
            mcp_servers: o.patch("mcp_servers", tool::servers)?,
            skills: o.patch("skills", skills)?,
            metadata: o.optional("metadata", metadata::patch)?,
            multiagent: o.patch("multiagent", MultiagentParam::decode)?,
            execution_identity: o.patch("execution_identity", identity)?,
        };
        o.finish()?;
        Ok(request)
    }
}

impl UpdateAgent {
    /// The stored agent with this change, before references are looked up.
    ///
    /// # Errors
    /// 409 when `version` is not the stored one, also for a change of nothing; 400 when the agent is
    /// archived or the result breaks a rule.
    pub fn resolve(self, stored: &Agent, models: &dyn Models) -> Decode<AgentUpdate> {
        if let Some(expected) = self.version
            && expected != stored.version
        {
            return Err(ApiError::conflict(format!(
                "version: the agent is at version {}, not {expected}; retrieve it and apply the change to that version.",
                stored.version
            )));
        }
        if stored.archived_at.is_some() {
            return Err(ApiError::invalid(format!(
                "Agent `{}` is archived and cannot be updated.",
                stored.id
            )));
        }
        let mut config = stored.config();
        if let Some(name) = self.name {
            config.name = name;
        }
        self.description.apply(&mut config.description);
        config.description = non_empty(config.description);
        self.system.apply(&mut config.system);
        config.system = non_empty(config.system);
        if let Some(model) = self.model {
            config.model = model.resolve(Some(&stored.model), models)?;
        }
        replace(self.tools, &mut config.tools);
        replace(self.mcp_servers, &mut config.mcp_servers);
        replace(self.skills, &mut config.skills);
        if let Some(patch) = &self.metadata {
            config.metadata = patch.apply(&stored.metadata)?;
        }
        match self.execution_identity {
            Patch::Keep => {}
            Patch::Clear => config.execution_identity = service_account(),
            Patch::Set(identity) => config.execution_identity = identity,
        }
        config.check()?;
        config.multiagent = None;
        let own = (&stored.id, stored.version);
        let kept: Option<Multiagent> = stored
            .multiagent
            .as_ref()
            .map(|value| serde_json::from_value(value.clone()))
            .transpose()
            // Only this crate writes that value.
            .map_err(|_| ApiError::internal())?;
        let (multiagent, looks_up) = match self.multiagent {
            Patch::Keep => (kept.as_ref().map(|kept| Draft::of(kept, own)), false),
            Patch::Clear => (None, false),
            Patch::Set(param) => (Some(param.merge(kept.as_ref(), Some(own))?), true),
        };
        check_advisors(multiagent.as_ref(), models)?;
        Ok(AgentUpdate {
            draft: AgentDraft { config, multiagent },
            looks_up,
        })
    }
}

/// An advisor must be a model of this installation. Whether it is strong enough for the agent's
/// model cannot be judged here.
fn check_advisors(draft: Option<&Draft>, models: &dyn Models) -> Decode<()> {
    draft
        .map(Draft::models)
        .unwrap_or_default()
        .into_iter()
        .try_for_each(|model| models.facts(model).map(|_| ()))
}

fn replace<T>(patch: Patch<Vec<T>>, stored: &mut Vec<T>) {
    match patch {
        Patch::Keep => {}
        Patch::Clear => stored.clear(),
        Patch::Set(new) => *stored = new,
    }
}

/// An empty text is no text (contract 10, "Update request"; on create we do the same).
pub(crate) fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|t| !t.is_empty())
}
