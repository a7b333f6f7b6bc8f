//! `mcp_toolset` and `mcp_servers` of a request.

use std::collections::BTreeSet;

use freehold_base::limits::{MAX_MCP_SERVERS, MAX_TOOLS};
use serde_json::Value;

use super::request::{defaults, policy};
use super::{McpServer, McpToolConfig, McpToolset, McpUrlServer, PermissionPolicy, Tool};
use crate::decode::{At, Decode, Object, boolean, echo, http_url, list, text};

/// Characters of a server's name.
const MAX_SERVER_NAME: usize = 255;
/// Characters of an MCP tool's name.
const MAX_TOOL_NAME: usize = 128;
/// Characters of a server's URL.
const MAX_URL: usize = 2048;

pub(super) fn toolset(mut o: Object<'_>) -> Decode<McpToolset> {
    let mcp_server_name = o.required("mcp_server_name", text(1, MAX_SERVER_NAME))?;
    let default_config = defaults(&mut o, PermissionPolicy::AlwaysAsk)?;
    let mut seen = BTreeSet::new();
    let configs = o.present(
        "configs",
        list(0, MAX_TOOLS, |value, at| {
            let mut o = Object::new(value, at)?;
            let config = McpToolConfig {
                name: o.required("name", text(1, MAX_TOOL_NAME))?,
                enabled: o
                    .optional("enabled", boolean)?
                    .unwrap_or(default_config.enabled),
                permission_policy: o
                    .optional("permission_policy", policy)?
                    .unwrap_or(default_config.permission_policy),
            };
            o.finish()?;
            if !seen.insert(config.name.clone()) {
                return Err(at.key("name").error(format_args!(
                    "Only one entry per tool is allowed; `{}` has two",
                    echo(&config.name)
                )));
            }
            Ok(config)
        }),
    )?;
    o.finish()?;
    Ok(McpToolset {
        mcp_server_name,
        default_config,
        configs: configs.unwrap_or_default(),
    })
}

/// Reads an `mcp_servers` array.
///
/// # Errors
/// A server breaks a rule of contract 10, "MCPServer".
pub fn servers(value: Value, at: &At<'_>) -> Decode<Vec<McpServer>> {
    let mut seen = BTreeSet::new();
    list(0, MAX_MCP_SERVERS, |value, at| {
        let mut o = Object::new(value, at)?;
        o.tag(&["url"])?;
        let server = McpUrlServer {
            name: o.required("name", text(1, MAX_SERVER_NAME))?,
            url: o.required("url", http_url(MAX_URL))?,
        };
        o.finish()?;
        if !seen.insert(server.name.clone()) {
            return Err(at.key("name").error(format_args!(
                "MCP server names must be unique; `{}` is used twice",
                echo(&server.name)
            )));
        }
        Ok(McpServer::Url(server))
    })(value, at)
}

/// Every server needs a toolset and every toolset a server.
pub(crate) fn check_pairing(tools: &[Tool], servers: &[McpServer]) -> Decode<()> {
    let root = At::ROOT;
    let at = root.key("tools");
    let mut referenced = BTreeSet::new();
    for (n, tool) in tools.iter().enumerate() {
        let Tool::McpToolset(set) = tool else {
            continue;
        };
        let is_named =
            |s: &McpServer| matches!(s, McpServer::Url(s) if s.name == set.mcp_server_name);
        if !servers.iter().any(is_named) {
            return Err(at.index(n).key("mcp_server_name").error(format_args!(
                "mcp_toolset names MCP server `{}`, which is not in mcp_servers",
                echo(&set.mcp_server_name)
            )));
        }
        referenced.insert(set.mcp_server_name.as_str());
    }
    let at = root.key("mcp_servers");
    for (n, server) in servers.iter().enumerate() {
        let McpServer::Url(server) = server;
        if !referenced.contains(server.name.as_str()) {
            return Err(at.index(n).key("name").error(format_args!(
                "MCP server `{}` is not referenced by any mcp_toolset in tools",
                echo(&server.name)
            )));
        }
    }
    Ok(())
}
