//! The `tools` of a request, resolved on the spot: what is stored is what the agent runs with.

use std::collections::BTreeSet;

use freehold_base::limits::MAX_TOOLS;
use serde_json::Value;

use super::{PermissionPolicy, Tool, ToolDefaults};
use crate::decode::{At, Decode, Object, boolean, list};

use super::{builtin_request, custom_request, mcp_request};

const AGENT_TOOLSET: &str = "agent_toolset_20260401";
const MCP_TOOLSET: &str = "mcp_toolset";
const CUSTOM: &str = "custom";

/// Reads and resolves a `tools` array, with every rule that concerns the array alone.
///
/// # Errors
/// A tool breaks a rule of contract 10, "Tools".
pub fn tools(value: Value, at: &At<'_>) -> Decode<Vec<Tool>> {
    let tools = list(0, MAX_TOOLS, tool)(value, at)?;
    check_unique(&tools, at)?;
    check_count(&tools, at)?;
    builtin_request::check_client_sources(&tools, at)?;
    Ok(tools)
}

fn tool(value: Value, at: &At<'_>) -> Decode<Tool> {
    let mut o = Object::new(value, at)?;
    match o.tag(&[AGENT_TOOLSET, MCP_TOOLSET, CUSTOM])? {
        AGENT_TOOLSET => builtin_request::toolset(o).map(Tool::AgentToolset),
        MCP_TOOLSET => mcp_request::toolset(o).map(Tool::McpToolset),
        _ => custom_request::tool(o).map(Tool::Custom),
    }
}

/// `default_config` of either toolset, resolved against the toolset's own default policy.
pub(super) fn defaults(o: &mut Object<'_>, policy: PermissionPolicy) -> Decode<ToolDefaults> {
    let given = o.optional("default_config", |value, at| {
        let mut o = Object::new(value, at)?;
        let enabled = o.optional("enabled", boolean)?;
        let policy = o.optional("permission_policy", self::policy)?;
        o.finish()?;
        Ok((enabled, policy))
    })?;
    let (enabled, given_policy) = given.unwrap_or_default();
    Ok(ToolDefaults {
        enabled: enabled.unwrap_or(true),
        permission_policy: given_policy.unwrap_or(policy),
    })
}

/// A permission policy.
pub(super) fn policy(value: Value, at: &At<'_>) -> Decode<PermissionPolicy> {
    let mut o = Object::new(value, at)?;
    let policy = match o.tag(&["always_allow", "always_ask", "auto"])? {
        "always_allow" => PermissionPolicy::AlwaysAllow,
        "always_ask" => PermissionPolicy::AlwaysAsk,
        _ => PermissionPolicy::Auto,
    };
    o.finish()?;
    Ok(policy)
}

fn check_unique(tools: &[Tool], at: &At<'_>) -> Decode<()> {
    let mut names = BTreeSet::new();
    let mut servers = BTreeSet::new();
    let mut toolsets = 0;
    for (n, tool) in tools.iter().enumerate() {
        let at = at.index(n);
        match tool {
            Tool::AgentToolset(_) => {
                toolsets += 1;
                if toolsets == 2 {
                    return Err(at.error(format_args!("Only one {AGENT_TOOLSET} is allowed")));
                }
            }
            Tool::McpToolset(set) => {
                if !servers.insert(set.mcp_server_name.as_str()) {
                    return Err(at
                        .key("mcp_server_name")
                        .error("Only one mcp_toolset per MCP server is allowed"));
                }
            }
            Tool::Custom(tool) => {
                if !names.insert(tool.name.as_str()) {
                    return Err(at.key("name").error(format_args!(
                        "Tool names must be unique; `{}` is used twice",
                        tool.name
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Counts enabled built-in tools, configured MCP tools and custom tools: the tools of an MCP server
/// are unknown until it is asked.
fn check_count(tools: &[Tool], at: &At<'_>) -> Decode<()> {
    let total: usize = tools
        .iter()
        .map(|tool| match tool {
            Tool::AgentToolset(set) => set.enabled().count(),
            Tool::McpToolset(set) => set.configs.len(),
            Tool::Custom(_) => 1,
        })
        .sum();
    if MAX_TOOLS < total {
        return Err(at.error(format_args!(
            "At most {MAX_TOOLS} tools across all toolsets are allowed, not {total}"
        )));
    }
    Ok(())
}
