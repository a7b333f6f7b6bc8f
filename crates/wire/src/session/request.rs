//! Create and update of sessions (contract 30).

use freehold_base::limits::{MAX_INITIAL_EVENTS, MAX_SESSION_VAULTS, MAX_SYSTEM};
use freehold_base::{AgentId, EnvironmentId, VaultId};
use serde_json::Value;

use crate::agent::{Agent, Metadata, SessionAgent, Skill, request::check_config, skills};
use crate::budget::{self, budget, not_budgetable};
use crate::decode::{At, Decode, Object, integer, list, reference, text};
use crate::event::params::{EventParams, check_initial};
use crate::metadata::{self, MetadataPatch};
use crate::model_config::{ModelParam, Models};
use crate::request::Request;
use crate::resource::{MemoryStoreParam, ResourceParam, resources};
use crate::tool::{McpServer, Tool};
use crate::usage::Budget;
use crate::{ApiError, Patch, tool};

/// Characters of a title; our own bound, the contract names none.
const MAX_TITLE: usize = 1024;

/// `POST /v1/sessions`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSession {
    /// The agent in one of its three forms.
    pub agent: AgentParam,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// For people.
    pub title: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// Where its credentials come from; the first that has one wins.
    pub vault_ids: Vec<VaultId>,
    /// Files, repositories, memory stores.
    pub resources: Vec<ResourceParam>,
    /// `user.message` and `user.define_outcome`.
    pub initial_events: Vec<EventParams>,
    /// A cap on list cost.
    pub budget: Option<Budget>,
}

impl Request for CreateSession {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            agent: o.required("agent", AgentParam::decode)?,
            environment_id: o.required("environment_id", reference("Environment"))?,
            title: o.optional("title", text(0, MAX_TITLE))?,
            metadata: o.present("metadata", metadata::bag)?.unwrap_or_default(),
            vault_ids: o.present("vault_ids", vaults)?.unwrap_or_default(),
            resources: o.present("resources", resources)?.unwrap_or_default(),
            initial_events: o
                .present("initial_events", |value, at| {
                    let events = list(0, MAX_INITIAL_EVENTS, EventParams::decode)(value, at)?;
                    check_initial(&events, at)?;
                    Ok(events)
                })?
                .unwrap_or_default(),
            budget: o.present("budget", budget)?,
        };
        o.finish()?;
        Ok(request)
    }
}

fn vaults(value: Value, at: &At<'_>) -> Decode<Vec<VaultId>> {
    list(0, MAX_SESSION_VAULTS, reference("Vault"))(value, at)
}

/// The agent of a new session.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentParam {
    /// Which.
    pub id: AgentId,
    /// At which version; `None` is the latest.
    pub version: Option<u64>,
    /// What the session replaces; nothing in the first two forms.
    pub overrides: AgentOverrides,
}

/// What a session replaces of its agent. Nothing is merged.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentOverrides {
    model: Option<ModelParam>,
    system: Patch<String>,
    tools: Patch<Vec<Tool>>,
    mcp_servers: Patch<Vec<McpServer>>,
    skills: Patch<Vec<Skill>>,
}

impl AgentParam {
    /// Reads any of the three forms.
    ///
    /// # Errors
    /// It is none of them.
    pub fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        if value.is_string() {
            return Ok(Self {
                id: reference("Agent")(value, at)?,
                version: None,
                overrides: AgentOverrides::default(),
            });
        }
        if !value.is_object() {
            return Err(at.error("Input should be an agent id or an agent object"));
        }
        let mut o = Object::new(value, at)?;
        let tag = o.tag(&["agent", "agent_with_overrides"])?;
        let id = o.required("id", reference("Agent"))?;
        let version = o.present("version", integer(1, i64::MAX as u64))?;
        let mut overrides = AgentOverrides::default();
        if tag == "agent_with_overrides" {
            overrides = AgentOverrides {
                model: match o.patch("model", ModelParam::decode)? {
                    Patch::Keep => None,
                    Patch::Set(model) => Some(model),
                    Patch::Clear => {
                        return Err(at
                            .key("model")
                            .error("A session needs a model; omit the key to use the agent's (agent_model_required).")
                            .with_code("agent_model_required"));
                    }
                },
                system: o.patch("system", text(0, MAX_SYSTEM))?,
                tools: o.patch("tools", tool::tools)?,
                mcp_servers: o.patch("mcp_servers", tool::servers)?,
                skills: o.patch("skills", skills)?,
            };
        }
        o.finish()?;
        Ok(Self {
            id,
            version,
            overrides,
        })
    }

    /// The snapshot a session of `agent` takes. The agent must be the one named.
    ///
    /// # Errors
    /// The agent is archived, or the effective configuration breaks a rule.
    pub fn resolve(self, agent: &Agent, models: &dyn Models) -> Decode<SessionAgent> {
        if agent.archived_at.is_some() {
            return Err(ApiError::invalid(format!(
                "agent: Agent `{}` is archived and cannot be used for new sessions.",
                agent.id
            )));
        }
        let mut snapshot = agent.session_agent();
        let o = self.overrides;
        match o.model {
            Some(model) => snapshot.model = model.resolve_override(models)?,
            // The model may have been taken out of the configuration since.
            None => models.facts(&snapshot.model.id).map(|_| ())?,
        }
        o.system.apply(&mut snapshot.system);
        snapshot.system = snapshot.system.filter(|s| !s.is_empty());
        replace(o.tools, &mut snapshot.tools);
        replace(o.mcp_servers, &mut snapshot.mcp_servers);
        replace(o.skills, &mut snapshot.skills);
        check_config(&snapshot.tools, &snapshot.mcp_servers, &snapshot.skills)?;
        Ok(snapshot)
    }
}

impl CreateSession {
    /// Checks that the budget can be enforced for the agent the session will run.
    ///
    /// # Errors
    /// `model_not_budgetable`.
    pub fn check_budget(&self, agent: &SessionAgent, models: &dyn Models) -> Decode<()> {
        if self.budget.is_some() && !models.facts(&agent.model.id)?.priced {
            return Err(not_budgetable());
        }
        Ok(())
    }

    /// The memory stores to attach, in order.
    pub fn memory_stores(&self) -> Vec<&MemoryStoreParam> {
        let stores = self.resources.iter().filter_map(|resource| match resource {
            ResourceParam::MemoryStore(store) => Some(store),
            _ => None,
        });
        stores.collect()
    }

    /// Checks that the agent has a tool to reach attached memory stores with (contract 74 §4).
    ///
    /// # Errors
    /// It has none.
    pub fn check_memory(&self, agent: &SessionAgent) -> Decode<()> {
        let reaches = agent.tools.iter().any(|tool| match tool {
            Tool::AgentToolset(set) => set.enabled().any(|tool| !tool.is_server_side()),
            _ => false,
        });
        if !self.memory_stores().is_empty() && !reaches {
            return Err(ApiError::invalid(
                "resources: Memory stores need an agent with the agent_toolset_20260401 and at least one of its file tools or bash enabled.",
            ));
        }
        Ok(())
    }
}

/// `POST /v1/sessions/{sid}`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateSession {
    /// Set or cleared.
    pub title: Patch<String>,
    /// Changes, by key.
    pub metadata: Option<MetadataPatch>,
    /// Replaced or removed.
    pub budget: Patch<Budget>,
    /// New tools; only while the session is not running.
    pub tools: Option<Vec<Tool>>,
    /// New MCP servers; only while the session is not running.
    pub mcp_servers: Option<Vec<McpServer>>,
    /// All its vaults; only while the session is not running.
    pub vault_ids: Option<Vec<VaultId>>,
}

impl Request for UpdateSession {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let agent = o.present("agent", |value, at| {
            let mut o = Object::new(value, at)?;
            let tools = o.present("tools", tool::tools)?;
            let mcp_servers = o.present("mcp_servers", tool::servers)?;
            o.finish()?;
            Ok((tools, mcp_servers))
        })?;
        let (tools, mcp_servers) = agent.unwrap_or_default();
        let request = Self {
            title: o.patch("title", text(0, MAX_TITLE))?,
            metadata: o.optional("metadata", metadata::patch)?,
            budget: o.patch("budget", budget)?,
            tools,
            mcp_servers,
            vault_ids: o.present("vault_ids", vaults)?,
        };
        o.finish()?;
        Ok(request)
    }
}

/// The parts of a session that an update may change.
#[derive(Debug, Clone)]
pub struct Updatable<'a> {
    /// The configuration in force.
    pub agent: &'a SessionAgent,
    /// The title.
    pub title: Option<&'a str>,
    /// The metadata.
    pub metadata: &'a Metadata,
    /// The budget.
    pub budget: Option<&'a Budget>,
    /// The vaults.
    pub vault_ids: &'a [VaultId],
    /// Exact list cost so far in millionths of a millionth of a US dollar; `None` when a model
    /// without a list price was used.
    pub consumed: Option<u128>,
}

/// What an update changes; `None` for what stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionChanges {
    /// The new configuration.
    pub agent: Option<SessionAgent>,
    /// The new title, or none.
    pub title: Option<Option<String>>,
    /// The whole new bag.
    pub metadata: Option<Metadata>,
    /// The new budget, or none.
    pub budget: Option<Option<Budget>>,
    /// All its vaults. The event has no field for them.
    pub vault_ids: Option<Vec<VaultId>>,
}

impl SessionChanges {
    /// Whether nothing changes; then nothing is stored and no event is emitted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
    /// The `session.updated` event of the change.
    pub fn event(&self) -> crate::event::SessionUpdated {
        crate::event::SessionUpdated {
            agent: self.agent.clone(),
            // Absent when emptied (contract 40).
            metadata: self.metadata.clone().filter(|m| !m.is_empty()),
            title: self.title.clone(),
            budget: self.budget.clone(),
        }
    }
}

impl UpdateSession {
    /// The part that a running session refuses to change, if it is touched.
    pub fn needs_rest(&self) -> Option<&'static str> {
        if self.touches_agent() {
            Some("agent")
        } else {
            self.vault_ids.as_ref().map(|_| "vault_ids")
        }
    }

    fn touches_agent(&self) -> bool {
        self.tools.is_some() || self.mcp_servers.is_some()
    }

    /// What would change.
    ///
    /// # Errors
    /// The result breaks a rule.
    pub fn changes(self, now: &Updatable<'_>, models: &dyn Models) -> Decode<SessionChanges> {
        let mut changes = SessionChanges::default();
        if self.touches_agent() {
            let mut agent = now.agent.clone();
            if let Some(tools) = self.tools {
                agent.tools = tools;
            }
            if let Some(servers) = self.mcp_servers {
                agent.mcp_servers = servers;
            }
            check_config(&agent.tools, &agent.mcp_servers, &agent.skills)?;
            changes.agent = (agent != *now.agent).then_some(agent);
        }
        let title = match self.title {
            Patch::Keep => now.title.map(str::to_owned),
            Patch::Clear => None,
            Patch::Set(title) => Some(title),
        };
        changes.title = (title.as_deref() != now.title).then_some(title);
        if let Some(patch) = self.metadata {
            let bag = patch.apply(now.metadata)?;
            changes.metadata = (bag != *now.metadata).then_some(bag);
        }
        let priced = || models.facts(&now.agent.model.id).is_ok_and(|f| f.priced);
        let priced = matches!(self.budget, Patch::Set(_)) && priced();
        let budget = budget::update(now.budget, &self.budget, priced, now.consumed)?;
        changes.budget = (budget.as_ref() != now.budget).then_some(budget);
        changes.vault_ids = self.vault_ids.filter(|ids| ids != now.vault_ids);
        Ok(changes)
    }
}

fn replace<T>(patch: Patch<Vec<T>>, stored: &mut Vec<T>) {
    match patch {
        Patch::Keep => {}
        Patch::Clear => stored.clear(),
        Patch::Set(new) => *stored = new,
    }
}
