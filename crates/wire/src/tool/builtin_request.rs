//! `agent_toolset_20260401` of a request.

use std::collections::BTreeSet;

use serde_json::Value;

use super::request::{defaults, policy};
use super::{AgentToolset, BuiltinTool, BuiltinToolConfig, PermissionPolicy, Tool, ToolDefaults};
use super::{url_sources, user_location};
use crate::decode::{At, Decode, Object, boolean, echo, integer, list, one_of, string};
use crate::domains;

/// Entries of a domain list (contract 10).
const MAX_DOMAINS: usize = 64;
/// Characters of one domain.
const MAX_DOMAIN: usize = 255;

const NAMES: &[(&str, BuiltinTool)] = &[
    ("bash", BuiltinTool::Bash),
    ("read", BuiltinTool::Read),
    ("write", BuiltinTool::Write),
    ("edit", BuiltinTool::Edit),
    ("glob", BuiltinTool::Glob),
    ("grep", BuiltinTool::Grep),
    ("web_fetch", BuiltinTool::WebFetch),
    ("web_search", BuiltinTool::WebSearch),
];

pub(super) fn toolset(mut o: Object<'_>) -> Decode<AgentToolset> {
    let default_config = defaults(&mut o, PermissionPolicy::AlwaysAllow)?;
    let mut seen = BTreeSet::new();
    let configs = o.present(
        "configs",
        list(0, BuiltinTool::ALL.len(), |value, at| {
            let entry = config(value, at, &default_config)?;
            if !seen.insert(entry.name) {
                return Err(at.key("name").error(format_args!(
                    "Only one entry per tool is allowed; `{}` has two",
                    entry.name.name()
                )));
            }
            Ok(entry)
        }),
    )?;
    o.finish()?;
    Ok(AgentToolset {
        default_config,
        configs: configs.unwrap_or_default(),
    })
}

fn config(value: Value, at: &At<'_>, defaults: &ToolDefaults) -> Decode<BuiltinToolConfig> {
    let mut o = Object::new(value, at)?;
    let name = o.required("name", one_of(NAMES))?;
    let r#type = o.present("type", |value, at| {
        let given = string(value, at)?;
        if given == name.name() {
            Ok(name)
        } else {
            Err(at.error(format_args!(
                "Input should be '{}', the same as `name`, not '{}'",
                name.name(),
                echo(&given)
            )))
        }
    })?;
    let mut config = BuiltinToolConfig {
        name,
        r#type: r#type.unwrap_or(name),
        enabled: o.optional("enabled", boolean)?.unwrap_or(defaults.enabled),
        permission_policy: o
            .optional("permission_policy", policy)?
            .unwrap_or(defaults.permission_policy),
        allowed_domains: None,
        blocked_domains: None,
        max_content_tokens: None,
        url_sources: None,
        user_location: None,
    };
    if name.is_server_side() {
        let allows_path = name == BuiltinTool::WebSearch;
        let read = |value: Value, at: &At<'_>| domain_list(value, at, allows_path);
        config.allowed_domains = o.optional("allowed_domains", read)?;
        config.blocked_domains = o.optional("blocked_domains", read)?;
        if config.allowed_domains.is_some() && config.blocked_domains.is_some() {
            return Err(at.error("Only one of allowed_domains or blocked_domains may be set."));
        }
    }
    match name {
        BuiltinTool::WebFetch => {
            config.max_content_tokens =
                o.optional("max_content_tokens", integer(1, i64::MAX as u64))?;
            config.url_sources = Some(
                o.optional("url_sources", url_sources::decode)?
                    .unwrap_or(Value::Null),
            );
        }
        BuiltinTool::WebSearch => {
            config.user_location = o.optional("user_location", user_location::decode)?;
        }
        _ => {}
    }
    o.finish()?;
    Ok(config)
}

fn domain_list(value: Value, at: &At<'_>, allows_path: bool) -> Decode<Vec<String>> {
    if value.as_array().is_some_and(Vec::is_empty) {
        return Err(
            at.error("Empty list of domains is ambiguous. Provide at least one domain or null.")
        );
    }
    let domains = list(1, MAX_DOMAINS, |value, at| {
        let domain = string(value, at)?;
        crate::decode::check_length(&domain, 1, MAX_DOMAIN, at)?;
        Ok(domain)
    })(value, at)?;
    domains::validate(&domains, allows_path)
        .map_err(|(index, message)| at.index(index).error(message))?;
    Ok(domains)
}

/// `url_sources.client_tool_results` may only name custom tools of the same array.
pub(super) fn check_client_sources(tools: &[Tool], at: &At<'_>) -> Decode<()> {
    let custom: BTreeSet<&str> = tools
        .iter()
        .filter_map(|tool| match tool {
            Tool::Custom(tool) => Some(tool.name.as_str()),
            _ => None,
        })
        .collect();
    for (n, tool) in tools.iter().enumerate() {
        let Tool::AgentToolset(set) = tool else {
            continue;
        };
        for (m, config) in set.configs.iter().enumerate() {
            let Some(sources) = &config.url_sources else {
                continue;
            };
            for name in url_sources::client_tools(sources) {
                if !custom.contains(name) {
                    let at = at.index(n);
                    let at = at.key("configs");
                    let at = at.index(m);
                    let at = at.key("url_sources");
                    return Err(at.key("client_tool_results").error(format_args!(
                        "`{}` is not a custom tool of this agent",
                        echo(name)
                    )));
                }
            }
        }
    }
    Ok(())
}
