//! The Messages API request that asks for the next answer.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use freehold_wire::agent::{Effort, SessionAgent};
use freehold_wire::tool::{BuiltinTool, Tool};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::call::policy;
use crate::conversation::{CacheControl, EPHEMERAL, Media, Message, Writing};
use crate::decide::Purpose;
use crate::mcp::McpTool;
use crate::memory;
use crate::state::{Placement, State};

/// What is known of the agent's model and of the tools on this server.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Tokens the model's context holds.
    pub context_window: u64,
    /// Tokens an answer may have.
    pub max_output_tokens: u64,
    /// The model takes system-role messages in mid-conversation.
    pub system_messages: bool,
    /// The model takes `output_config.effort`.
    pub effort: bool,
    /// Built-in tools this server cannot offer now.
    pub unavailable: Vec<BuiltinTool>,
    /// Tools of the agent's MCP servers; `None` until they have been asked in this turn.
    pub mcp: Option<Arc<[McpTool]>>,
}

impl Facts {
    /// The MCP tool that the model calls by this name.
    pub(crate) fn mcp_tool(&self, shown: &str) -> Option<&McpTool> {
        self.mcp.as_deref()?.iter().find(|t| t.shown == shown)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<SystemText<'a>>,
    messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Definition<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_geo: Option<&'a str>,
}

#[derive(Serialize)]
struct SystemText<'a> {
    r#type: &'static str,
    text: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<CacheControl>,
}

#[derive(Serialize)]
struct OutputConfig {
    effort: &'static str,
}

#[derive(Serialize)]
struct Definition<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: Schema<'a>,
}

#[derive(Serialize)]
#[serde(untagged)] // Serialised only.
enum Schema<'a> {
    Builtin(&'a RawValue),
    Custom(&'a Map<String, Value>),
}

/// Characters of one tool result a compaction request keeps.
const COMPACTION_RESULT_CHARS: usize = 2_000;
/// Tokens a summary may have.
const SUMMARY_TOKENS: u64 = 8_192;

const COMPACTION_PROMPT: &str = "The context is nearly full and will be replaced by your summary. \
     Write a summary that lets you continue this work without the conversation: what the user \
     asked for, in their words where they matter; what was done and found; files, commands and \
     values that will be needed; decisions and their reasons; what remains. Answer with the \
     summary only.";

const CLOUD_NOTE: &str = "You work in a sandbox. The working directory is /workspace. Files the \
     user attached are under /mnt/session/uploads (read-only). Files you write to \
     /mnt/session/outputs are delivered to the user.";
const SELF_HOSTED_NOTE: &str =
    "You work in a sandbox on the user's own infrastructure. The working directory is /workspace.";

const SKILLS_NOTE: &str = "Skills are folders of instructions, scripts and other files for \
     particular kinds of work. Before you begin with something that one of them is for, read its \
     SKILL.md, and follow what applies; paths in it are relative to its folder. The skills here:";
/// Where skills lie in the sandboxes of the server (contract 55 §15), and where a worker puts them
/// (contract 55 §13).
const CLOUD_SKILLS: &str = "/skills";
const SELF_HOSTED_SKILLS: &str = "/workspace/skills";

/// Builds the request's body; `model` is our own id of the model.
///
/// # Errors
/// Only if a stored schema could not be written out, which stored JSON always can.
pub fn build(
    state: &State,
    facts: &Facts,
    media: &Media,
    purpose: Purpose,
) -> serde_json::Result<Box<RawValue>> {
    let agent = &state.agent;
    let compacting = purpose == Purpose::Compact;
    let writing = Writing {
        media,
        system_role: facts.system_messages,
        result_chars: if compacting {
            COMPACTION_RESULT_CHARS
        } else {
            usize::MAX
        },
    };
    let closing = compacting.then_some(COMPACTION_PROMPT);
    let output = facts.max_output_tokens;
    let body = Body {
        model: &agent.model.id,
        max_tokens: if compacting {
            output.min(SUMMARY_TOKENS)
        } else {
            output
        },
        system: system(state),
        messages: state.conversation.messages(writing, closing),
        // A context with tool calls in it needs their definitions even where none may be made.
        tools: tools(agent, facts)?,
        output_config: (facts.effort && agent.model.effort != Effort::High).then(|| OutputConfig {
            effort: agent.model.effort.as_str(),
        }),
        speed: (agent.model.speed == freehold_wire::agent::Speed::Fast).then_some("fast"),
        inference_geo: agent.model.inference_geo.as_deref(),
    };
    serde_json::value::to_raw_value(&body)
}

fn system(state: &State) -> Vec<SystemText<'_>> {
    let agent = &*state.agent;
    let has_sandbox_tool = BuiltinTool::ALL
        .iter()
        .any(|t| !t.is_server_side() && policy(agent, *t).is_some());
    let note = has_sandbox_tool.then_some(match state.placement {
        Placement::Cloud => CLOUD_NOTE,
        Placement::SelfHosted => SELF_HOSTED_NOTE,
    });
    let own = agent.system.as_deref().filter(|s| !s.is_empty());
    // Without a tool that reaches them (they can be changed later) the stores are not there.
    let memory = Some(&state.memory).filter(|m| has_sandbox_tool && !m.is_empty());
    let mut out: Vec<_> = own
        .into_iter()
        .chain(note)
        .map(Cow::Borrowed)
        .chain(skills(state).map(Cow::Owned))
        .chain(memory.map(|m| Cow::Owned(memory::note(m))))
        .map(|text| SystemText {
            r#type: "text",
            text,
            cache_control: None,
        })
        .collect();
    if let Some(last) = out.last_mut() {
        last.cache_control = Some(EPHEMERAL);
    }
    out
}

/// Each skill by name, description and the path of its SKILL.md; nothing where they cannot be read
/// any more, because the session's tools were changed.
fn skills(state: &State) -> Option<String> {
    if state.skills.is_empty() || policy(&state.agent, BuiltinTool::Read).is_none() {
        return None;
    }
    let root = match state.placement {
        Placement::Cloud => CLOUD_SKILLS,
        Placement::SelfHosted => SELF_HOSTED_SKILLS,
    };
    let mut text = SKILLS_NOTE.to_owned();
    for skill in &*state.skills {
        // One line each, whatever the description holds.
        let words: Vec<_> = skill.description.split_whitespace().collect();
        let (name, description) = (&skill.name, words.join(" "));
        // Writing to a string cannot fail.
        let _ = write!(text, "\n- {name}: {description} ({root}/{name}/SKILL.md)");
    }
    Some(text)
}

fn tools<'a>(agent: &'a SessionAgent, facts: &'a Facts) -> serde_json::Result<Vec<Definition<'a>>> {
    let mut out = Vec::new();
    for tool in BuiltinTool::ALL {
        if policy(agent, tool).is_some() && !facts.unavailable.contains(&tool) {
            let (description, schema) = crate::toolset::definition(tool);
            let input_schema = Schema::Builtin(serde_json::from_str(schema)?);
            out.push(Definition {
                name: tool.name(),
                description,
                input_schema,
            });
        }
    }
    for tool in &agent.tools {
        if let Tool::Custom(custom) = tool {
            out.push(Definition {
                name: &custom.name,
                description: &custom.description,
                input_schema: Schema::Custom(&custom.input_schema),
            });
        }
    }
    for tool in facts.mcp.iter().flat_map(|tools| tools.iter()) {
        out.push(Definition {
            name: &tool.shown,
            description: &tool.description,
            input_schema: Schema::Custom(&tool.input_schema),
        });
    }
    Ok(out)
}
