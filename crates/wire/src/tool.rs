//! Tools as an agent stores them, fully resolved (contract 10, "Tools"). Requests are parsed and
//! resolved in [`crate::agent`]'s request half.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod builtin_request;
mod custom_request;
pub(crate) mod mcp_request;
pub mod request;
mod url_sources;
mod user_location;

pub use mcp_request::servers;
pub use request::tools;

/// When a tool call may run (contract 10, "Permission policy").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum PermissionPolicy {
    /// Runs at once.
    AlwaysAllow,
    /// Waits for `user.tool_confirmation`.
    AlwaysAsk,
    /// The server judges; without a judge every call is `indeterminate` and asks.
    Auto,
}

/// Defaults of a toolset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDefaults {
    /// Whether tools without an override are offered.
    pub enabled: bool,
    /// Policy of tools without an override.
    pub permission_policy: PermissionPolicy,
}

impl ToolDefaults {
    /// The policy of a tool that has these settings of its own, if any; `None` if it is not enabled.
    fn policy(&self, own: Option<(bool, PermissionPolicy)>) -> Option<PermissionPolicy> {
        let (enabled, policy) = own.unwrap_or((self.enabled, self.permission_policy));
        enabled.then_some(policy)
    }
}

/// The eight built-in tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuiltinTool {
    /// A shell command.
    Bash,
    /// Reads a file.
    Read,
    /// Writes a file.
    Write,
    /// Replaces text in a file.
    Edit,
    /// Finds files by pattern.
    Glob,
    /// Searches file contents.
    Grep,
    /// Fetches a web page, on the server.
    WebFetch,
    /// Searches the web, on the server.
    WebSearch,
}

impl BuiltinTool {
    /// All, in the order they are offered to a model.
    pub const ALL: [Self; 8] = [
        Self::Bash,
        Self::Read,
        Self::Write,
        Self::Edit,
        Self::Glob,
        Self::Grep,
        Self::WebFetch,
        Self::WebSearch,
    ];
    /// The name a model and the wire use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Read => "read",
            Self::Write => "write",
            Self::Edit => "edit",
            Self::Glob => "glob",
            Self::Grep => "grep",
            Self::WebFetch => "web_fetch",
            Self::WebSearch => "web_search",
        }
    }
    /// The tool of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.name() == name)
    }
    /// Whether it runs on the server, whatever the environment.
    pub const fn is_server_side(self) -> bool {
        matches!(self, Self::WebFetch | Self::WebSearch)
    }
    /// Whether running it twice is the same as once, so that a lost call may be repeated.
    pub const fn is_repeatable(self) -> bool {
        matches!(
            self,
            Self::Read | Self::Glob | Self::Grep | Self::WebFetch | Self::WebSearch
        )
    }
}

/// Resolved override of one built-in tool. Keys beyond the common four are those of the web tools;
/// which tool may carry which is enforced when a request is resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuiltinToolConfig {
    /// The tool.
    pub name: BuiltinTool,
    /// The same value as `name`.
    pub r#type: BuiltinTool,
    /// Whether it is offered.
    pub enabled: bool,
    /// Its policy.
    pub permission_policy: PermissionPolicy,
    /// web_search, web_fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_domains: Option<Vec<String>>,
    /// web_search, web_fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_domains: Option<Vec<String>>,
    /// web_fetch: text tokens, positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_content_tokens: Option<u64>,
    /// web_fetch: normalised object or [`Value::Null`] when unset; absent on other tools.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "null_is_a_value"
    )]
    pub url_sources: Option<Value>,
    /// web_search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_location: Option<Value>,
}

/// `web_fetch` entries always show `url_sources`, so null read back must stay null, not absent.
fn null_is_a_value<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

/// `agent_toolset_20260401`, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentToolset {
    /// Defaults of every tool not in `configs`.
    pub default_config: ToolDefaults,
    /// Overrides, in the order given.
    pub configs: Vec<BuiltinToolConfig>,
}

impl AgentToolset {
    /// The tools that are offered.
    pub fn enabled(&self) -> impl Iterator<Item = BuiltinTool> {
        BuiltinTool::ALL
            .into_iter()
            .filter(|tool| self.policy(*tool).is_some())
    }

    /// The policy of a tool; `None` if it is not enabled.
    pub fn policy(&self, tool: BuiltinTool) -> Option<PermissionPolicy> {
        let own = self.configs.iter().find(|c| c.name == tool);
        self.default_config
            .policy(own.map(|c| (c.enabled, c.permission_policy)))
    }
}

/// Resolved override of one MCP tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpToolConfig {
    /// Bare MCP tool name.
    pub name: String,
    /// Whether it is offered.
    pub enabled: bool,
    /// Its policy.
    pub permission_policy: PermissionPolicy,
}

/// `mcp_toolset`, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpToolset {
    /// Names one of the agent's `mcp_servers`.
    pub mcp_server_name: String,
    /// Defaults; the policy is `always_ask` unless set.
    pub default_config: ToolDefaults,
    /// Overrides.
    pub configs: Vec<McpToolConfig>,
}

impl McpToolset {
    /// The policy of a tool; `None` if it is not enabled.
    pub fn policy(&self, tool: &str) -> Option<PermissionPolicy> {
        let own = self.configs.iter().find(|c| c.name == tool);
        self.default_config
            .policy(own.map(|c| (c.enabled, c.permission_policy)))
    }
}

/// A tool the client executes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomTool {
    /// `[A-Za-z0-9_-]{1,128}`, unique in the agent.
    pub name: String,
    /// What the model is told.
    pub description: String,
    /// JSON schema of type `object`, kept as sent.
    pub input_schema: Map<String, Value>,
}

/// A tool or toolset of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Tool {
    /// The built-in tools.
    #[serde(rename = "agent_toolset_20260401")]
    AgentToolset(AgentToolset),
    /// Tools of an MCP server.
    #[serde(rename = "mcp_toolset")]
    McpToolset(McpToolset),
    /// A client-side tool.
    #[serde(rename = "custom")]
    Custom(CustomTool),
}

/// An MCP server of an agent; carries no credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum McpServer {
    /// Reached by URL.
    Url(McpUrlServer),
}

/// `{"type":"url","name","url"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpUrlServer {
    /// 1 to 255 characters, unique in the agent.
    pub name: String,
    /// At most 2048 characters.
    pub url: String,
}
