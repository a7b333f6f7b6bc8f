//! One call, and what it gave: for the model, and for the client, whose blocks hold text alone.

use freehold_mcp::catalogue::Why;
use freehold_mcp::{McpError, ToolCall};
use freehold_runtime::mcp::{Judged, Verdict};
use freehold_wire::content::ContentBlock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::offer::Target;
use super::turn::Clients;

/// Characters of a result's text, all blocks together.
const MAX_TEXT: usize = 100_000;
/// Bytes of base 64 of a result's pictures and documents, all together.
const MAX_MEDIA: usize = 8 << 20;

/// What a call gave.
pub(super) struct Outcome {
    pub(super) is_error: bool,
    /// Content for the model.
    pub(super) shown: Vec<Value>,
    /// Text blocks for the client.
    pub(super) told: Vec<Value>,
}

/// Makes a call. Failures are outcomes that the model can read.
///
/// # Errors
/// It was cancelled.
pub(super) async fn make(
    clients: &Clients,
    target: &Target,
    call: &ToolCall,
    cancel: &CancellationToken,
) -> Result<Outcome, McpError> {
    match attempt(clients, target, call, cancel).await {
        Ok(outcome) => Ok(cut(outcome.content, outcome.is_error)),
        Err(McpError::Cancelled) => Err(McpError::Cancelled),
        Err(error) => Ok(failure(&format!("The MCP server's tool failed: {error}."))),
    }
}

/// A failure as an outcome.
pub(super) fn failure(why: &str) -> Outcome {
    cut(vec![ContentBlock::text(why)], true)
}

async fn attempt(
    clients: &Clients,
    target: &Target,
    call: &ToolCall,
    cancel: &CancellationToken,
) -> Result<freehold_mcp::ToolOutcome, McpError> {
    let to = &target.endpoint;
    let judged = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(McpError::Cancelled),
        judged = clients.catalogue.list(&clients.connector, to) => judged?,
    };
    let now = judged.iter().find(|t| t.definition.name == target.tool);
    if let Some(why) = objection(clients, target, now).await {
        return Err(McpError::Refused(why.to_owned()));
    }
    let call = ToolCall {
        input_schema: now.map(|now| now.definition.input_schema.clone()),
        ..call.clone()
    };
    clients.connector.call(to, &call, cancel).await
}

/// Why the call may not go out; `now` is what the server says of the tool.
async fn objection(
    clients: &Clients,
    target: &Target,
    now: Option<&Judged>,
) -> Option<&'static str> {
    let Some(now) = now else {
        return Some(Why::Unknown.text());
    };
    // What the client itself said of a tool cannot be compared: it is judged as it is now.
    let shown = target.fingerprint.as_ref().unwrap_or(&now.fingerprint);
    let to = &target.endpoint;
    let verdict = clients
        .catalogue
        .check(&to.workspace, &to.url, &to.owner, &target.tool, shown);
    match verdict.await {
        Ok(Verdict::Go { ask: true, .. }) => {
            Some("calls of the tool must be confirmed by a person, who cannot be asked here")
        }
        // Somebody else's list may be newer than ours, or other.
        Ok(Verdict::Go { .. }) if now.fingerprint != *shown => Some(Why::Changed.text()),
        Ok(Verdict::Go { .. }) => None,
        Ok(Verdict::Stop(why)) => Some(why.text()),
        Err(error) => {
            tracing::error!(%error, "MCP call not made");
            Some("the server's tools cannot be looked up")
        }
    }
}

/// Cuts a result to what a conversation bears.
fn cut(content: Vec<ContentBlock>, is_error: bool) -> Outcome {
    let mut outcome = Outcome {
        is_error,
        shown: Vec::new(),
        told: Vec::new(),
    };
    let (mut text_left, mut media_left) = (MAX_TEXT, MAX_MEDIA);
    for block in content {
        let value = serde_json::to_value(&block).unwrap_or_default();
        if let Some(said) = value["text"].as_str() {
            let text = shortened(said, &mut text_left);
            if !text.is_empty() {
                let block = json!({"type": "text", "text": text});
                outcome.told.push(block.clone());
                outcome.shown.push(block);
            }
            continue;
        }
        let size = value["source"]["data"].as_str().map_or(0, str::len);
        let media = value["source"]["media_type"].as_str().unwrap_or("unknown");
        let fits = size <= media_left;
        let note = if fits {
            format!("(content of type {media}, shown to the model)")
        } else {
            format!("(content of type {media} was left out: it is too large)")
        };
        let note = json!({"type": "text", "text": note});
        if fits {
            media_left -= size;
            outcome.shown.push(value);
        } else {
            outcome.shown.push(note.clone());
        }
        outcome.told.push(note);
    }
    outcome
}

fn shortened(text: &str, left: &mut usize) -> String {
    let chars = text.chars().count();
    if chars <= *left {
        *left -= chars;
        return text.to_owned();
    }
    let kept: String = text.chars().take(*left).collect();
    let gone = chars - *left;
    *left = 0;
    format!("{kept}\n({gone} more characters were left out)")
}
