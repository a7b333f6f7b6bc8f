//! `url_sources` of `web_fetch` (contract 10): which parts of a conversation may give the tool its
//! URLs. Stored in the object form the response shows, all three keys present.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::decode::{At, Decode, Object, echo, list, string};

/// Tools named in one filter.
const MAX_NAMES: usize = 128;
/// Characters of a tool's name.
const MAX_NAME: usize = 128;
const KEYS: [&str; 3] = ["client_tool_results", "server_tool_results", "user_input"];

/// Reads and normalises it.
pub(super) fn decode(value: Value, at: &At<'_>) -> Decode<Value> {
    let mut o = Object::new(value, at)?;
    let user_input = o.optional("user_input", |value, at| {
        filter(value, at, &["all", "none"], None)
    })?;
    let all = ["all", "none", "only", "except"];
    let server = o.optional("server_tool_results", |value, at| {
        filter(value, at, &all, Some(&["web_search", "web_fetch"]))
    })?;
    let client = o.optional("client_tool_results", |value, at| {
        filter(value, at, &all, None)
    })?;
    o.finish()?;
    let or_all = |filter: Option<Value>| filter.unwrap_or_else(|| json!({"type": "all"}));
    let mut sources = Map::new();
    for (key, filter) in KEYS.into_iter().zip([client, server, user_input]) {
        sources.insert(key.to_owned(), or_all(filter));
    }
    if sources.values().all(|filter| filter["type"] == "none") {
        return Err(at.error("At least one source must not be none"));
    }
    Ok(Value::Object(sources))
}

fn filter(
    value: Value,
    at: &At<'_>,
    types: &[&'static str],
    tools: Option<&[&str]>,
) -> Decode<Value> {
    if let Value::String(shorthand) = &value {
        return match shorthand.as_str() {
            "all" | "none" => Ok(json!({ "type": shorthand })),
            _ => Err(at.error("Input should be 'all' or 'none', or an object")),
        };
    }
    let mut o = Object::new(value, at)?;
    let kind = o.tag(types)?;
    let mut out = Map::new();
    out.insert("type".into(), kind.into());
    if matches!(kind, "only" | "except") {
        let mut seen = BTreeSet::new();
        let names = o.required(
            "tools",
            list(1, MAX_NAMES, |value, at| {
                let name = tool_reference(value, at)?;
                if tools.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
                    return Err(at.key("name").error(format_args!(
                        "Input should be 'web_search' or 'web_fetch', not '{}'",
                        echo(&name)
                    )));
                }
                if !seen.insert(name.clone()) {
                    return Err(at.key("name").error("Tool names must be distinct"));
                }
                Ok(json!({ "type": "tool_reference", "name": name }))
            }),
        )?;
        out.insert("tools".into(), Value::Array(names));
    }
    o.finish()?;
    Ok(Value::Object(out))
}

fn tool_reference(value: Value, at: &At<'_>) -> Decode<String> {
    let mut o = Object::new(value, at)?;
    o.tag(&["tool_reference"])?;
    let name = o.required("name", |value, at| {
        let name = string(value, at)?;
        crate::decode::check_length(&name, 1, MAX_NAME, at)?;
        Ok(name)
    })?;
    o.finish()?;
    Ok(name)
}

/// The custom tools a normalised value names.
pub(super) fn client_tools(sources: &Value) -> impl Iterator<Item = &str> {
    sources["client_tool_results"]["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["name"].as_str())
}
