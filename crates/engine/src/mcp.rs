//! Tools of MCP servers: how a model knows them, and what the agent's configuration says of them.

use std::collections::BTreeSet;

use freehold_wire::agent::SessionAgent;
use freehold_wire::tool::{BuiltinTool, PermissionPolicy, Tool};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A tool that a server offers now and the agent has enabled.
#[derive(Debug, Clone, PartialEq)]
pub struct McpTool {
    /// The agent's name of the server.
    pub server: String,
    /// The server's name of the tool.
    pub name: String,
    /// The name the model knows it by.
    pub shown: String,
    /// What the model is told.
    pub description: String,
    /// JSON Schema of its input.
    pub input_schema: Map<String, Value>,
    /// Of the whole definition: a call is bound to the one the model saw.
    pub fingerprint: String,
    /// A confirmation is needed, whatever the agent's policy says.
    pub ask: bool,
}

/// Longest name that every provider takes.
const MAX_SHOWN: usize = 64;
/// Characters of the digest in a name that would not fit or would not be the only one.
const DIGEST: usize = 8;

/// The policy of a server's tool, or `None` if the agent has it not enabled.
pub fn policy(agent: &SessionAgent, server: &str, tool: &str) -> Option<PermissionPolicy> {
    agent.tools.iter().find_map(|t| match t {
        Tool::McpToolset(set) if set.mcp_server_name == server => set.policy(tool),
        _ => None,
    })
}

/// Names for the tools, in order: `mcp__SERVER__TOOL` where that fits, and where nothing else has the
/// name. The same tools get the same names, whatever else the agent has.
pub fn names<'a>(
    agent: &SessionAgent,
    tools: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<String> {
    let customs = agent.tools.iter().filter_map(|t| match t {
        Tool::Custom(custom) => Some(custom.name.clone()),
        _ => None,
    });
    let mut taken: BTreeSet<String> = customs.collect();
    taken.extend(BuiltinTool::ALL.map(|t| t.name().to_owned()));
    let name = |(server, tool): (&str, &str)| {
        let composed = format!("mcp__{server}__{tool}");
        let mut name = fitted(&composed, server, tool);
        if taken.contains(&name) {
            name = digested(&composed, server, tool);
        }
        taken.insert(name.clone());
        name
    };
    tools.map(name).collect()
}

/// `composed`, a name of a server's tool, if every provider takes it as it is; else as much of it as
/// they take, with a digest.
pub fn fitted(composed: &str, server: &str, tool: &str) -> String {
    if composed.len() <= MAX_SHOWN && plain(composed) == composed {
        composed.to_owned()
    } else {
        digested(composed, server, tool)
    }
}

/// The digest keeps apart what looks the same without the characters that were left out.
fn digested(composed: &str, server: &str, tool: &str) -> String {
    let digest = Sha256::new()
        .chain_update((server.len() as u64).to_be_bytes())
        .chain_update(server)
        .chain_update(tool)
        .finalize();
    let digest = freehold_base::hex::encode(digest);
    let (plain, keep) = (plain(composed), MAX_SHOWN - DIGEST - 1);
    format!("{}_{}", &plain[..plain.len().min(keep)], &digest[..DIGEST])
}

fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    text.chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect()
}
