//! `multiagent` of a request: read, then merged into the stored one. What comes of it is resolved in
//! [`super::multiagent_draft`].

use freehold_base::AgentId;
use freehold_base::limits::MAX_ROSTER;
use serde_json::Value;

use super::multiagent::{Advisor, AgentReference, Multiagent, Spawn, Switch};
pub use super::multiagent_draft::{Draft, FoundAgent, Reference, SpawnDraft};
use crate::Patch;
use crate::decode::{At, Decode, Object, integer, list, reference, text};

/// Characters of an advisor's model id.
const MAX_MODEL_ID: usize = 256;

/// A requested configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum MultiagentParam {
    /// `coordinator`.
    Coordinator(Vec<Entry>),
    /// `multiagent_20261001`.
    V20261001(MembersParam),
}

/// The members of a requested `multiagent_20261001`.
#[derive(Debug, Clone, PartialEq)]
pub struct MembersParam {
    subagents: Patch<SpawnParam>,
    workflows: Patch<SpawnParam>,
    advisor: Patch<Advisor>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum SpawnParam {
    Disabled,
    Enabled {
        inline_agents: Patch<Switch>,
        predefined_agents: Patch<Vec<Entry>>,
    },
}

/// A roster entry before references are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An agent, at a version or the latest.
    Agent(AgentId, Option<u64>),
    /// The agent that owns the configuration.
    SelfCopy,
    /// An advisor and its model.
    Advisor(String),
}

impl MultiagentParam {
    /// Reads either form.
    ///
    /// # Errors
    /// It has not the shape of its type.
    pub fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let param = match o.tag(&["coordinator", "multiagent_20261001"])? {
            "coordinator" => Self::Coordinator(o.required(
                "agents",
                list(1, MAX_ROSTER, |value, at| entry(value, at, true)),
            )?),
            _ => Self::V20261001(MembersParam {
                subagents: o.patch("subagents", spawn)?,
                workflows: o.patch("workflows", spawn)?,
                advisor: o.patch("advisor", advisor)?,
            }),
        };
        o.finish()?;
        Ok(param)
    }

    /// The configuration asked for, with the stored one under it: `coordinator` replaces it whole,
    /// `multiagent_20261001` is merged into a stored one of the same type. `own` is the id and
    /// current version of the agent being updated.
    ///
    /// # Errors
    /// The merged result breaks a rule that needs no look at other agents.
    pub fn merge(self, stored: Option<&Multiagent>, own: Option<(&AgentId, u64)>) -> Decode<Draft> {
        let draft = match self {
            Self::Coordinator(entries) => Draft::Coordinator(own_entries(entries, own)),
            Self::V20261001(param) => {
                let base = match stored {
                    Some(Multiagent::V20261001(members)) => Some(members.as_ref()),
                    _ => None,
                };
                Draft::V20261001 {
                    subagents: merge_spawn(param.subagents, base.map(|b| &b.subagents), own),
                    workflows: merge_spawn(param.workflows, base.map(|b| &b.workflows), own),
                    advisor: match (param.advisor, base) {
                        (Patch::Set(advisor), _) => advisor,
                        (Patch::Keep, Some(base)) => base.advisor.clone(),
                        (Patch::Keep | Patch::Clear, _) => Advisor::Disabled,
                    },
                }
            }
        };
        draft.check()?;
        Ok(draft)
    }
}

fn entry(value: Value, at: &At<'_>, advisor_allowed: bool) -> Decode<Entry> {
    if value.is_string() {
        return Ok(Entry::Agent(reference("Agent")(value, at)?, None));
    }
    let mut o = Object::new(value, at)?;
    let tags: &[&'static str] = if advisor_allowed {
        &["agent", "self", "advisor"]
    } else {
        &["agent", "self"]
    };
    let entry = match o.tag(tags)? {
        "agent" => Entry::Agent(
            o.required("id", reference("Agent"))?,
            o.present("version", integer(1, i64::MAX as u64))?,
        ),
        "self" => Entry::SelfCopy,
        _ => Entry::Advisor(o.required("model", text(1, MAX_MODEL_ID))?),
    };
    o.finish()?;
    Ok(entry)
}

fn spawn(value: Value, at: &At<'_>) -> Decode<SpawnParam> {
    let mut o = Object::new(value, at)?;
    let param = if o.tag(&["enabled", "disabled"])? == "enabled" {
        SpawnParam::Enabled {
            inline_agents: o.patch("inline_agents", switch)?,
            predefined_agents: o.patch(
                "predefined_agents",
                list(0, MAX_ROSTER, |value, at| entry(value, at, false)),
            )?,
        }
    } else {
        SpawnParam::Disabled
    };
    o.finish()?;
    Ok(param)
}

fn switch(value: Value, at: &At<'_>) -> Decode<Switch> {
    let mut o = Object::new(value, at)?;
    let switch = match o.tag(&["enabled", "disabled"])? {
        "enabled" => Switch::Enabled,
        _ => Switch::Disabled,
    };
    o.finish()?;
    Ok(switch)
}

fn advisor(value: Value, at: &At<'_>) -> Decode<Advisor> {
    let mut o = Object::new(value, at)?;
    let advisor = match o.tag(&["enabled", "disabled"])? {
        "enabled" => Advisor::Enabled {
            model: o.required("model", text(1, MAX_MODEL_ID))?,
        },
        _ => Advisor::Disabled,
    };
    o.finish()?;
    Ok(advisor)
}

pub(super) fn merge_spawn(
    param: Patch<SpawnParam>,
    base: Option<&Spawn>,
    own: Option<(&AgentId, u64)>,
) -> SpawnDraft {
    let stored = || match base {
        Some(Spawn::Enabled(on)) => SpawnDraft::Enabled(
            on.inline_agents,
            own_entries(on.predefined_agents.iter().map(kept).collect(), own),
        ),
        Some(Spawn::Disabled) => SpawnDraft::Disabled,
        None => SpawnDraft::default(),
    };
    match param {
        Patch::Keep => stored(),
        Patch::Clear => SpawnDraft::default(),
        Patch::Set(SpawnParam::Disabled) => SpawnDraft::Disabled,
        Patch::Set(SpawnParam::Enabled {
            inline_agents,
            predefined_agents,
        }) => {
            // Keys left out of an object take defaults when the stored object has another type.
            let (stored_inline, stored_agents) = match stored() {
                SpawnDraft::Enabled(inline, agents) => (inline, agents),
                SpawnDraft::Disabled => (Switch::Enabled, Vec::new()),
            };
            SpawnDraft::Enabled(
                match inline_agents {
                    Patch::Keep => stored_inline,
                    Patch::Clear => Switch::Enabled,
                    Patch::Set(switch) => switch,
                },
                match predefined_agents {
                    Patch::Keep => stored_agents,
                    Patch::Clear => Vec::new(),
                    Patch::Set(entries) => own_entries(entries, own),
                },
            )
        }
    }
}

fn kept(reference: &AgentReference) -> Entry {
    Entry::Agent(reference.id.clone(), Some(reference.version))
}

/// An entry that names the owner at its current (or at no) version is the owner itself, and follows
/// it to the version being made.
pub(super) fn own_entries(entries: Vec<Entry>, own: Option<(&AgentId, u64)>) -> Vec<Entry> {
    let Some((own_id, own_version)) = own else {
        return entries;
    };
    entries
        .into_iter()
        .map(|entry| match entry {
            Entry::Agent(id, version)
                if id == *own_id && version.is_none_or(|v| v == own_version) =>
            {
                Entry::SelfCopy
            }
            entry => entry,
        })
        .collect()
}
