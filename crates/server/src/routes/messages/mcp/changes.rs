//! Tools that come and go in the middle of a conversation, where they are of MCP servers.

use freehold_model::RawObject;
use freehold_wire::ApiError;
use serde_json::json;
use serde_json::value::RawValue;

use super::fields::{text, wrong};
use super::history::raw_of;
use super::offer::Offer;

/// Puts the names that the model knows in the place of references to servers' tools.
///
/// # Errors
/// 400 `tool_reference_unresolved`.
pub(super) fn resolve(messages: &mut [Box<RawValue>], offer: &Offer) -> Result<(), ApiError> {
    for raw in messages.iter_mut() {
        // Most messages have none, and are not read.
        if !(raw.get().contains("tool_addition") || raw.get().contains("tool_removal")) {
            continue;
        }
        let mut message = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
        let Some(content) = message.read::<Vec<Box<RawValue>>>("content") else {
            continue;
        };
        let mut changed = Vec::with_capacity(content.len());
        for block in content {
            changed.extend(resolved(block, offer)?);
        }
        message.set_raw("content", raw_of(&changed));
        *raw = message.to_raw();
    }
    Ok(())
}

fn resolved(raw: Box<RawValue>, offer: &Offer) -> Result<Vec<Box<RawValue>>, ApiError> {
    let mut block = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
    let kind: String = block.read("type").unwrap_or_default();
    if !matches!(kind.as_str(), "tool_addition" | "tool_removal") {
        return Ok(vec![raw]);
    }
    let at = format!("{kind}.tool");
    let tool: RawObject = block.read("tool").unwrap_or_default();
    let only = match tool.read::<String>("type").as_deref() {
        Some("mcp_tool_reference") => Some(text(&tool, &at, "name")?),
        Some("mcp_toolset_reference") => None,
        Some("tool_definition") if defines_toolset(&tool) => {
            return Err(wrong(&at, "an mcp_toolset is taken in tools only"));
        }
        _ => return Ok(vec![raw]),
    };
    let server = text(&tool, &at, "server_name")?;
    let named = offer.targets.iter().filter(|(_, target)| {
        target.server == server && only.as_ref().is_none_or(|name| *name == target.tool)
    });
    let blocks: Vec<_> = named
        .map(|(name, _)| {
            let reference = json!({"type": "tool_reference", "name": name});
            block.set("tool", reference);
            block.to_raw()
        })
        .collect();
    if blocks.is_empty() {
        let why = "no MCP tool that is offered has this name";
        return Err(wrong(&at, why).with_code("tool_reference_unresolved"));
    }
    Ok(blocks)
}

fn defines_toolset(tool: &RawObject) -> bool {
    let definition: RawObject = tool.read("definition").unwrap_or_default();
    definition.read::<String>("type").as_deref() == Some("mcp_toolset")
}
