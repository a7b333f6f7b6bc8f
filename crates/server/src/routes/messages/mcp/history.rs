//! Earlier answers, as the provider knows them: calls that were made here become tool uses of its
//! own kind, and their results the user's.

use std::collections::{BTreeMap, BTreeSet};

use freehold_mcp::ToolDefinition;
use freehold_model::RawObject;
use freehold_wire::ApiError;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::fields::{list, object, text, wrong};
use super::offer::shown_name;
use super::request::definitions;

/// What a call says whose answer ended before it was made.
const NOT_MADE: &str = "This call was not made.";

/// The messages for the provider.
#[derive(Default)]
pub(super) struct History {
    pub(super) messages: Vec<Box<RawValue>>,
    /// Listings by server; the last one counts.
    pub(super) listings: BTreeMap<String, Vec<ToolDefinition>>,
}

/// Translates `messages`. Those without blocks of MCP stay the bytes they are.
///
/// # Errors
/// 400 with the place in the request.
pub(super) fn read(body: &RawObject) -> Result<History, ApiError> {
    let mut history = History::default();
    // Results that belong before what the user says next.
    let mut owed: Vec<Box<RawValue>> = Vec::new();
    for (i, raw) in list(body, "messages", "messages")?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        let at = format!("messages.{i}");
        let message = object(&raw, &at)?;
        let role: Option<String> = message.read("role");
        if role.as_deref() != Some("user") && !owed.is_empty() {
            history.say("user", std::mem::take(&mut owed));
        }
        if role.as_deref() == Some("user") && !owed.is_empty() {
            let mut content = std::mem::take(&mut owed);
            content.extend(blocks(&message, &at)?);
            let mut message = message;
            message.set_raw("content", raw_of(&content));
            refuse_foreign(&message, &at)?;
            history.messages.push(message.to_raw());
        } else if !raw.get().contains("mcp_tool") {
            history.messages.push(raw);
        } else if role.as_deref() == Some("assistant") {
            owed = history.assistant(message, &at)?;
        } else {
            refuse_foreign(&message, &at)?;
            history.messages.push(raw);
        }
    }
    if !owed.is_empty() {
        history.say("user", owed);
    }
    Ok(history)
}

impl History {
    fn say(&mut self, role: &str, content: Vec<Box<RawValue>>) {
        if !content.is_empty() {
            let message = json!({"role": role, "content": content});
            self.messages.push(raw_of(&message));
        }
    }

    /// Takes in one answer, which may be several rounds; gives the results of the last.
    fn assistant(
        &mut self,
        mut message: RawObject,
        at: &str,
    ) -> Result<Vec<Box<RawValue>>, ApiError> {
        let mut said = Vec::new();
        let mut results = Vec::new();
        let mut ids = BTreeSet::new();
        let mut open: Vec<String> = Vec::new();
        for (j, raw) in blocks(&message, at)?.into_iter().enumerate() {
            let at = format!("{at}.content.{j}");
            let block = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
            let kind: Option<String> = block.read("type");
            match kind.as_deref() {
                Some("mcp_tool_listing") => {
                    let server = text(&block, &at, "mcp_server_name")?;
                    let place = format!("{at}.tools");
                    let tools = list(&block, "tools", &place)?
                        .ok_or_else(|| wrong(&place, "Field required"))?;
                    self.listings.insert(server, definitions(&tools, &place)?);
                    continue;
                }
                Some("mcp_tool_result") => {
                    let id = text(&block, &at, "tool_use_id")?;
                    let Some(place) = open.iter().position(|o| *o == id) else {
                        let why = "no mcp_tool_use before it waits for this result";
                        return Err(wrong(&format!("{at}.tool_use_id"), why));
                    };
                    open.swap_remove(place);
                    results.push(result(block));
                    continue;
                }
                _ => {}
            }
            if !results.is_empty() {
                // The model went on: what it says now is another of its answers.
                results.extend(open.drain(..).map(|id| not_made(&id)));
                self.say("assistant", std::mem::take(&mut said));
                self.say("user", std::mem::take(&mut results));
            }
            if kind.as_deref() == Some("mcp_tool_use") {
                let (id, used) = tool_use(block, &at)?;
                if !ids.insert(id.clone()) {
                    return Err(wrong(&format!("{at}.id"), "ids must be unique"));
                }
                open.push(id);
                said.push(used);
            } else {
                said.push(raw);
            }
        }
        results.extend(open.iter().map(|id| not_made(id)));
        if !said.is_empty() {
            message.set_raw("content", raw_of(&said));
            self.messages.push(message.to_raw());
        }
        Ok(results)
    }
}

/// The content of a message, as blocks.
fn blocks(message: &RawObject, at: &str) -> Result<Vec<Box<RawValue>>, ApiError> {
    if let Some(text) = message.read::<String>("content") {
        return Ok(vec![raw_of(&json!({"type": "text", "text": text}))]);
    }
    let place = format!("{at}.content");
    list(message, "content", &place)?.ok_or_else(|| wrong(&place, "Field required"))
}

/// Blocks of MCP are said by assistants alone.
fn refuse_foreign(message: &RawObject, at: &str) -> Result<(), ApiError> {
    for (j, raw) in message
        .read::<Vec<Box<RawValue>>>("content")
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let block = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
        let kind: String = block.read("type").unwrap_or_default();
        if matches!(
            kind.as_str(),
            "mcp_tool_use" | "mcp_tool_result" | "mcp_tool_listing"
        ) {
            let why = format!("{kind} blocks are allowed in messages of the assistant only");
            return Err(wrong(&format!("{at}.content.{j}"), &why));
        }
    }
    Ok(())
}

fn tool_use(mut block: RawObject, at: &str) -> Result<(String, Box<RawValue>), ApiError> {
    let id = text(&block, at, "id")?;
    let (server, tool) = (text(&block, at, "server_name")?, text(&block, at, "name")?);
    if block.read::<RawObject>("input").is_none() {
        return Err(wrong(&format!("{at}.input"), "expected an object"));
    }
    block.set("type", "tool_use");
    block.set("name", shown_name(&server, &tool));
    block.remove("server_name");
    Ok((id, block.to_raw()))
}

fn result(mut block: RawObject) -> Box<RawValue> {
    block.set("type", "tool_result");
    block.to_raw()
}

fn not_made(id: &str) -> Box<RawValue> {
    let block = json!({"type": "tool_result", "tool_use_id": id, "is_error": true,
        "content": NOT_MADE});
    raw_of(&block)
}

/// JSON of plain data.
pub(super) fn raw_of<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    // Only non-string keys fail, and there are none.
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Plain data as an object.
pub(super) fn object_of(value: Value) -> RawObject {
    RawObject::try_from(value).unwrap_or_default()
}
