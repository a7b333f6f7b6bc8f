//! A merged `multiagent` whose references to other agents are looked up and pinned.

use std::collections::BTreeMap;

use freehold_base::AgentId;

use super::AgentTag;
use super::multiagent::{
    Advisor, AgentReference, Coordinator, Members, Multiagent, RosterMember, Spawn, SpawnEnabled,
    Switch,
};
use super::multiagent_request::{Entry, merge_spawn, own_entries};
use crate::decode::{At, Decode};
use crate::{ApiError, Patch};

/// The roster name an advisor takes.
pub const ADVISOR_NAME: &str = "anthropic.advisor";

/// A named agent: its id, and its version if one was named.
pub type Reference = (AgentId, Option<u64>);

/// What the server found for a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAgent {
    /// The id.
    pub id: AgentId,
    /// The version named, or the latest.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// Whether the agent is archived.
    pub archived: bool,
    /// Whether that version has a `multiagent` of its own.
    pub has_multiagent: bool,
    /// Its region pin.
    pub inference_geo: Option<String>,
}

/// A merged configuration whose references are still to be looked up.
#[derive(Debug, Clone, PartialEq)]
pub enum Draft {
    /// `coordinator`.
    Coordinator(Vec<Entry>),
    /// `multiagent_20261001`.
    V20261001 {
        /// Session threads.
        subagents: SpawnDraft,
        /// Workflow runs.
        workflows: SpawnDraft,
        /// Advisor.
        advisor: Advisor,
    },
}

/// A [`Spawn`] whose references are still to be looked up.
#[derive(Debug, Clone, PartialEq)]
pub enum SpawnDraft {
    /// Allowed.
    Enabled(Switch, Vec<Entry>),
    /// Not allowed.
    Disabled,
}

impl Default for SpawnDraft {
    fn default() -> Self {
        Self::Enabled(Switch::Enabled, Vec::new())
    }
}

impl Draft {
    /// A stored configuration as a draft again, so that its copies of the owner follow a new version.
    pub fn of(stored: &Multiagent, own: (&AgentId, u64)) -> Self {
        match stored {
            Multiagent::Coordinator(c) => Self::Coordinator(own_entries(
                c.agents
                    .iter()
                    .map(|member| match member {
                        RosterMember::Agent { id, version } => {
                            Entry::Agent(id.clone(), Some(*version))
                        }
                        RosterMember::Advisor { model } => Entry::Advisor(model.clone()),
                    })
                    .collect(),
                Some(own),
            )),
            Multiagent::V20261001(m) => Self::V20261001 {
                subagents: merge_spawn(Patch::Keep, Some(&m.subagents), Some(own)),
                workflows: merge_spawn(Patch::Keep, Some(&m.workflows), Some(own)),
                advisor: m.advisor.clone(),
            },
        }
    }

    /// The rosters with their places.
    fn rosters(&self) -> Vec<(&'static [&'static str], &[Entry])> {
        match self {
            Self::Coordinator(entries) => vec![(&["multiagent", "agents"], entries)],
            Self::V20261001 {
                subagents,
                workflows,
                ..
            } => {
                let mut rosters: Vec<(&'static [&'static str], &[Entry])> = Vec::new();
                if let SpawnDraft::Enabled(_, entries) = subagents {
                    rosters.push((&["multiagent", "subagents", "predefined_agents"], entries));
                }
                if let SpawnDraft::Enabled(_, entries) = workflows {
                    rosters.push((&["multiagent", "workflows", "predefined_agents"], entries));
                }
                rosters
            }
        }
    }

    pub(super) fn check(&self) -> Decode<()> {
        for (path, entries) in self.rosters() {
            for (n, entry) in entries.iter().enumerate() {
                let earlier = &entries[..n];
                match entry {
                    Entry::SelfCopy if earlier.contains(entry) => {
                        return Err(error(path, n, "At most one `self` entry is allowed"));
                    }
                    Entry::Advisor(_) if earlier.iter().any(|e| matches!(e, Entry::Advisor(_))) => {
                        return Err(error(path, n, "At most one `advisor` entry is allowed"));
                    }
                    _ => {}
                }
            }
        }
        if let Self::V20261001 {
            subagents,
            workflows,
            ..
        } = self
        {
            for (name, spawn) in [("subagents", subagents), ("workflows", workflows)] {
                if matches!(spawn, SpawnDraft::Enabled(Switch::Disabled, agents) if agents.is_empty())
                {
                    let root = At::ROOT;
                    let at = root.key("multiagent");
                    let at = at.key(name);
                    return Err(at
                        .key("predefined_agents")
                        .error("At least one agent is required when inline_agents is disabled"));
                }
            }
        }
        Ok(())
    }

    /// The agents to look up, each once.
    pub fn references(&self) -> Vec<Reference> {
        let mut references = Vec::new();
        for (_, entries) in self.rosters() {
            for entry in entries {
                if let Entry::Agent(id, version) = entry
                    && !references.iter().any(|(i, v)| i == id && v == version)
                {
                    references.push((id.clone(), *version));
                }
            }
        }
        references
    }

    /// Models that the configuration names itself.
    pub fn models(&self) -> Vec<&str> {
        match self {
            Self::Coordinator(entries) => entries
                .iter()
                .filter_map(|entry| match entry {
                    Entry::Advisor(model) => Some(model.as_str()),
                    _ => None,
                })
                .collect(),
            Self::V20261001 {
                advisor: Advisor::Enabled { model },
                ..
            } => vec![model],
            Self::V20261001 { .. } => Vec::new(),
        }
    }

    /// The configuration with every reference at a version. `found` holds what
    /// [`Draft::references`] asked for, by reference; `own` is the owner at the version being made,
    /// with its region pin.
    ///
    /// # Errors
    /// A named agent is missing, archived, has a `multiagent` itself, is named twice or is pinned to
    /// another region than the owner.
    pub fn resolve(
        &self,
        own: (&AgentId, u64),
        own_geo: Option<&str>,
        found: &BTreeMap<Reference, FoundAgent>,
    ) -> Decode<Multiagent> {
        for (path, entries) in self.rosters() {
            check_roster(path, entries, own.0, own_geo, found)?;
        }
        let version = |id: &AgentId, named: Option<u64>| {
            named
                .or_else(|| found.get(&(id.clone(), named)).map(|f| f.version))
                .unwrap_or_default()
        };
        let agent = |entry: &Entry| match entry {
            Entry::Agent(id, named) => Some((id.clone(), version(id, *named))),
            Entry::SelfCopy => Some((own.0.clone(), own.1)),
            Entry::Advisor(_) => None,
        };
        let spawn = |draft: &SpawnDraft| match draft {
            SpawnDraft::Disabled => Spawn::Disabled,
            SpawnDraft::Enabled(inline_agents, entries) => Spawn::Enabled(SpawnEnabled {
                inline_agents: *inline_agents,
                predefined_agents: entries
                    .iter()
                    .filter_map(agent)
                    .map(|(id, version)| AgentReference {
                        r#type: AgentTag::Agent,
                        id,
                        version,
                    })
                    .collect(),
            }),
        };
        Ok(match self {
            Self::Coordinator(entries) => {
                let members = entries
                    .iter()
                    .filter_map(agent)
                    .map(|(id, version)| RosterMember::Agent { id, version });
                let advisor = self
                    .models()
                    .into_iter()
                    .map(|model| RosterMember::Advisor {
                        model: model.to_owned(),
                    });
                Multiagent::Coordinator(Coordinator {
                    agents: members.chain(advisor).collect(),
                })
            }
            Self::V20261001 {
                subagents,
                workflows,
                advisor,
            } => Multiagent::V20261001(Box::new(Members {
                subagents: spawn(subagents),
                workflows: spawn(workflows),
                advisor: advisor.clone(),
            })),
        })
    }
}

fn check_roster(
    path: &[&'static str],
    entries: &[Entry],
    own: &AgentId,
    own_geo: Option<&str>,
    found: &BTreeMap<Reference, FoundAgent>,
) -> Decode<()> {
    let has_advisor = entries.iter().any(|e| matches!(e, Entry::Advisor(_)));
    let mut ids = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        let id = match entry {
            Entry::Advisor(_) => continue,
            Entry::SelfCopy => own,
            Entry::Agent(id, version) => {
                let Some(agent) = found.get(&(id.clone(), *version)) else {
                    let which = version.map(|v| format!(" version {v}")).unwrap_or_default();
                    return Err(error(path, n, format!("Agent `{id}`{which} not found.")));
                };
                let problem = if agent.archived {
                    Some(format!("Agent `{id}` is archived"))
                } else if agent.has_multiagent {
                    Some(format!(
                        "Agent `{id}` has a multiagent configuration itself"
                    ))
                } else if agent.inference_geo.as_deref() != own_geo {
                    Some("All agents must have the same inference_geo, or none".to_owned())
                } else if has_advisor && agent.name == ADVISOR_NAME {
                    Some(format!("The name `{ADVISOR_NAME}` is taken by the advisor"))
                } else {
                    None
                };
                if let Some(problem) = problem {
                    return Err(error(path, n, problem));
                }
                id
            }
        };
        if ids.contains(&id) {
            return Err(error(path, n, "Entries must reference distinct agents"));
        }
        ids.push(id);
    }
    Ok(())
}

fn error(path: &[&'static str], index: usize, message: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("{}.{index}: {message}", path.join(".")))
}
