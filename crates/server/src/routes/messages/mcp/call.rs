//! One call, and what it gave: for the model, and for the client, whose blocks hold text alone.

use freehold_mcp::{McpError, ToolCall};
use freehold_wire::content::ContentBlock;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::offer::{self, Target};
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
    let now = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(McpError::Cancelled),
        offered = offer::offered(clients, &target.endpoint) => offered?,
    };
    let now = now.iter().find(|t| t.definition.name == target.tool);
    let refused = |why: &str| Err(McpError::Refused(why.to_owned()));
    match (now, &target.fingerprint) {
        (None, _) => refused("the server has no such tool, or it may not be called from here"),
        (Some(now), Some(shown)) if now.fingerprint != *shown => {
            refused("the server changed the tool since it was shown")
        }
        _ => clients.connector.call(&target.endpoint, call, cancel).await,
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
