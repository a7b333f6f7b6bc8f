//! What a request says of MCP servers (contract 62 §2). No text here repeats a value that may be a
//! token.

use std::collections::{BTreeMap, BTreeSet};

use freehold_base::Secret;
use freehold_mcp::ToolDefinition;
use freehold_model::RawObject;
use freehold_wire::ApiError;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{extra, known, list, object, optional, text, wrong};

/// Servers of one request.
const MAX_SERVERS: usize = 20;
/// Characters of a URL.
const MAX_URL: usize = 2_048;
/// Characters of a server's name.
const MAX_NAME: usize = 255;
/// Characters of a token.
const MAX_TOKEN: usize = 16_384;
/// The beta whose servers say themselves which of their tools are allowed.
const OLD_BETA: &str = "mcp-client-2025-04-04";
/// The betas in which toolsets do.
const BETAS: [&str; 2] = ["mcp-client-2025-11-20", "mcp-client-2026-09-15"];

/// One entry of `mcp_servers`.
pub(super) struct Server {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) token: Option<Secret<String>>,
}

/// What a toolset says of a tool, or of all.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Choice {
    enabled: Option<bool>,
    defer_loading: Option<bool>,
}

/// One `mcp_toolset`.
#[derive(Default)]
pub(super) struct Toolset {
    /// Where it is in the request, for errors.
    pub(super) at: String,
    /// Index of its server.
    pub(super) server: usize,
    default: Choice,
    configs: BTreeMap<String, Choice>,
    pub(super) cache_control: Option<Box<RawValue>>,
    /// The listing that the client has from an earlier answer.
    pub(super) pinned: Option<Vec<ToolDefinition>>,
}

impl Toolset {
    /// Whether a tool may be used.
    pub(super) fn enabled(&self, tool: &str) -> bool {
        let own = self.configs.get(tool).and_then(|c| c.enabled);
        own.or(self.default.enabled).unwrap_or(true)
    }
    /// Whether the model finds it only by searching.
    pub(super) fn deferred(&self, tool: &str) -> bool {
        let own = self.configs.get(tool).and_then(|c| c.defer_loading);
        own.or(self.default.defer_loading).unwrap_or(false)
    }
}

/// An entry of `tools`.
pub(super) enum Entry {
    /// Not ours.
    Plain(Box<RawValue>),
    /// A server's tools.
    Mcp(Toolset),
}

/// Servers, and `tools` in order.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) servers: Vec<Server>,
    pub(super) tools: Vec<Entry>,
}

/// Which rules a request follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Toolsets,
    Old,
}

/// Whether the betas let a request have MCP blocks.
pub(super) fn permitted(beta: &[String]) -> bool {
    rules(beta).is_some()
}

/// Whether a beta is about MCP; those are not for the provider.
pub(super) fn is_ours(beta: &str) -> bool {
    beta == OLD_BETA || BETAS.contains(&beta)
}

fn rules(beta: &[String]) -> Option<Rules> {
    let has = |name: &str| beta.iter().any(|b| b == name);
    if BETAS.iter().any(|b| has(b)) {
        return Some(Rules::Toolsets);
    }
    has(OLD_BETA).then_some(Rules::Old)
}

/// Reads `mcp_servers` and `tools`.
///
/// # Errors
/// 400 with the place in the request.
pub(super) fn read(body: &RawObject, beta: &[String]) -> Result<Asked, ApiError> {
    let Some(rules) = rules(beta) else {
        return Err(extra("mcp_servers"));
    };
    let given: Vec<Box<RawValue>> = list(body, "mcp_servers", "mcp_servers")?.unwrap_or_default();
    if given.len() > MAX_SERVERS {
        return Err(wrong("mcp_servers", "at most 20 servers"));
    }
    let mut asked = Asked::default();
    let mut old = Vec::new();
    for (i, raw) in given.iter().enumerate() {
        let at = format!("mcp_servers.{i}");
        let (server, toolset) = server(raw, &at, i, rules)?;
        if asked.servers.iter().any(|s| s.name == server.name) {
            return Err(wrong(&format!("{at}.name"), "names must be unique"));
        }
        asked.servers.push(server);
        old.extend(toolset.map(Entry::Mcp));
    }
    let entries: Vec<Box<RawValue>> = list(body, "tools", "tools")?.unwrap_or_default();
    let mut used = BTreeSet::new();
    for (i, raw) in entries.into_iter().enumerate() {
        let fields = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
        if fields.read::<String>("type").as_deref() != Some("mcp_toolset") {
            asked.tools.push(Entry::Plain(raw));
            continue;
        }
        let at = format!("tools.{i}");
        if rules == Rules::Old {
            return Err(extra(&at));
        }
        let toolset = toolset(&fields, &at, &asked.servers)?;
        if !used.insert(toolset.server) {
            let why = "another toolset is of this server already";
            return Err(wrong(&format!("{at}.mcp_server_name"), why));
        }
        asked.tools.push(Entry::Mcp(toolset));
    }
    let unused = (0..asked.servers.len()).find(|i| !used.contains(i));
    if let (Some(i), Rules::Toolsets) = (unused, rules) {
        let why = "no mcp_toolset in tools refers to this server";
        return Err(wrong(&format!("mcp_servers.{i}"), why));
    }
    asked.tools.extend(old);
    Ok(asked)
}

#[derive(Deserialize)]
struct OldConfiguration {
    enabled: Option<bool>,
    allowed_tools: Option<Vec<String>>,
}

fn server(
    raw: &RawValue,
    at: &str,
    index: usize,
    rules: Rules,
) -> Result<(Server, Option<Toolset>), ApiError> {
    let fields = object(raw, at)?;
    known(
        &fields,
        at,
        &[
            "type",
            "url",
            "name",
            "authorization_token",
            "tool_configuration",
        ],
    )?;
    if text(&fields, at, "type")? != "url" {
        return Err(wrong(&format!("{at}.type"), "expected \"url\""));
    }
    let (name, url) = (text(&fields, at, "name")?, text(&fields, at, "url")?);
    if !(1..=MAX_NAME).contains(&name.chars().count()) {
        return Err(wrong(&format!("{at}.name"), "expected 1 to 255 characters"));
    }
    let place = format!("{at}.url");
    if url.chars().count() > MAX_URL {
        return Err(wrong(&place, "at most 2048 characters"));
    }
    freehold_mcp::Target::parse(&url).map_err(|why| wrong(&place, &why))?;
    let token: Option<String> = optional(&fields, at, "authorization_token", "a string")?;
    let place = format!("{at}.authorization_token");
    if let Some(token) = &token
        && (token.len() > MAX_TOKEN || !token.bytes().all(|b| (0x21..0x7f).contains(&b)))
    {
        let why = "expected at most 16384 visible ASCII characters";
        return Err(wrong(&place, why));
    }
    let configuration: Option<OldConfiguration> =
        optional(&fields, at, "tool_configuration", "a tool configuration")?;
    let toolset = match (rules, configuration) {
        (Rules::Toolsets, None) => None,
        (Rules::Toolsets, Some(_)) => return Err(extra(&format!("{at}.tool_configuration"))),
        (Rules::Old, configuration) => Some(of_old(configuration, at, index)),
    };
    let server = Server {
        name,
        url,
        token: token.filter(|t| !t.is_empty()).map(Secret::new),
    };
    Ok((server, toolset))
}

fn of_old(configuration: Option<OldConfiguration>, at: &str, server: usize) -> Toolset {
    let mut toolset = Toolset {
        at: at.to_owned(),
        server,
        ..Toolset::default()
    };
    let Some(old) = configuration else {
        return toolset;
    };
    let on = old.enabled.unwrap_or(true);
    toolset.default.enabled = Some(on && old.allowed_tools.is_none());
    let choice = Choice {
        enabled: Some(on),
        defer_loading: None,
    };
    let allowed = old.allowed_tools.into_iter().flatten();
    toolset.configs = allowed.map(|name| (name, choice)).collect();
    toolset
}

fn toolset(fields: &RawObject, at: &str, servers: &[Server]) -> Result<Toolset, ApiError> {
    known(
        fields,
        at,
        &[
            "type",
            "mcp_server_name",
            "default_config",
            "configs",
            "cache_control",
            "tools",
        ],
    )?;
    let name = text(fields, at, "mcp_server_name")?;
    let Some(server) = servers.iter().position(|s| s.name == name) else {
        let why = "no server in mcp_servers has this name";
        return Err(wrong(&format!("{at}.mcp_server_name"), why));
    };
    let configs: Option<BTreeMap<String, Choice>> = optional(
        fields,
        at,
        "configs",
        "a map from tools to their configurations",
    )?;
    let default = optional(fields, at, "default_config", "a configuration")?;
    let pinned = match list(fields, "tools", &format!("{at}.tools"))? {
        None => None,
        Some(tools) => Some(definitions(&tools, &format!("{at}.tools"))?),
    };
    Ok(Toolset {
        at: at.to_owned(),
        server,
        default: default.unwrap_or_default(),
        configs: configs.unwrap_or_default(),
        cache_control: fields
            .get("cache_control")
            .filter(|c| c.get() != "null")
            .map(ToOwned::to_owned),
        pinned,
    })
}

/// A listing as a client sends it back.
///
/// # Errors
/// 400 with the place in the request.
pub(super) fn definitions(
    tools: &[Box<RawValue>],
    at: &str,
) -> Result<Vec<ToolDefinition>, ApiError> {
    if tools.len() > freehold_mcp::MAX_TOOLS {
        return Err(wrong(at, "at most 512 tools"));
    }
    let mut names = BTreeSet::new();
    let read = |(i, raw): (usize, &RawValue)| {
        let place = format!("{at}.{i}");
        let why = "expected a tool with name, input_schema and at most a description";
        let tool: ToolDefinition =
            serde_json::from_str(raw.get()).map_err(|_| wrong(&place, why))?;
        if raw.get().len() > freehold_mcp::MAX_DEFINITION {
            return Err(wrong(&place, "larger than 64 KiB"));
        }
        if !(1..=128).contains(&tool.name.chars().count()) {
            return Err(wrong(
                &format!("{place}.name"),
                "expected 1 to 128 characters",
            ));
        }
        if !names.insert(tool.name.clone()) {
            return Err(wrong(&format!("{place}.name"), "names must be unique"));
        }
        Ok(tool)
    };
    tools
        .iter()
        .map(AsRef::as_ref)
        .enumerate()
        .map(read)
        .collect()
}
