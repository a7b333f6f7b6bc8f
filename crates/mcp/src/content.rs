//! From what a tool gave to content blocks. Only blocks that carry their own bytes are made: a link
//! is named, and fetched by nobody.

use freehold_wire::content::{Base64Source, ContentBlock, DocumentBlock, ImageBlock, Source};
use rmcp::model::CallToolResult;
use serde_json::Value;

use crate::endpoint::Endpoint;
use crate::outcome::ToolOutcome;

const IMAGES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/// Blocks of one result.
const MAX_BLOCKS: usize = freehold_base::limits::MAX_CONTENT_BLOCKS;
/// Tokens shorter than this are no secret that could be told from ordinary text.
const MIN_MASKED: usize = 8;

/// The outcome of a result.
pub(crate) fn outcome(result: CallToolResult, to: &Endpoint) -> ToolOutcome {
    // Serialising what was just read cannot fail.
    let result = serde_json::to_value(&result).unwrap_or_default();
    let received = result.to_string().len() as u64;
    let items = result["content"].as_array().map_or(&[][..], Vec::as_slice);
    let mut content: Vec<_> = items
        .iter()
        .take(MAX_BLOCKS)
        .map(|b| block(b, to))
        .collect();
    if items.len() > MAX_BLOCKS {
        let left = items.len() - MAX_BLOCKS + 1;
        content.truncate(MAX_BLOCKS - 1);
        content.push(ContentBlock::text(format!(
            "({left} more blocks were left out)"
        )));
    }
    if content.is_empty() {
        let text = match &result["structuredContent"] {
            Value::Null => "(no output)".to_owned(),
            structured => structured.to_string(),
        };
        content.push(ContentBlock::text(masked(text, to)));
    }
    ToolOutcome {
        content,
        is_error: result["isError"] == true,
        received,
    }
}

fn block(item: &Value, to: &Endpoint) -> ContentBlock {
    let text = |text: String| ContentBlock::text(masked(text, to));
    let str = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = item["type"].as_str().unwrap_or_default();
    match kind {
        "text" => text(str(&item["text"])),
        "image" => bytes(&str(&item["mimeType"]), str(&item["data"])),
        "audio" => text(format!(
            "(audio of type {} was left out)",
            str(&item["mimeType"])
        )),
        "resource" => {
            let resource = &item["resource"];
            match (resource["text"].as_str(), resource["blob"].as_str()) {
                (Some(said), _) => text(said.to_owned()),
                (_, Some(data)) => bytes(&str(&resource["mimeType"]), data.to_owned()),
                _ => text("(an empty resource)".to_owned()),
            }
        }
        "resource_link" => text(format!("{}: {}", str(&item["name"]), str(&item["uri"]))),
        _ => text("(content of a kind that is not known here was left out)".to_owned()),
    }
}

/// Base 64 of a type that models look at; of any other only its type is told.
fn bytes(media_type: &str, data: String) -> ContentBlock {
    let valid = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
    if !data.bytes().all(valid) || data.is_empty() {
        return ContentBlock::text("(content that is not base 64 was left out)");
    }
    let source = Source::Base64(Base64Source {
        media_type: media_type.to_owned(),
        data,
    });
    if IMAGES.contains(&media_type) {
        return ContentBlock::Image(ImageBlock { source });
    }
    if media_type == "application/pdf" {
        return ContentBlock::Document(DocumentBlock {
            source,
            title: None,
            context: None,
        });
    }
    let named: String = media_type
        .chars()
        .filter(|c| !c.is_control())
        .take(80)
        .collect();
    ContentBlock::text(format!("(content of type {named} was left out)"))
}

/// A server that says our own credential back must not thereby show it to the model.
pub(crate) fn masked(text: String, to: &Endpoint) -> String {
    match &to.bearer {
        Some(token)
            if token.expose().len() >= MIN_MASKED && text.contains(token.expose().as_str()) =>
        {
            text.replace(token.expose().as_str(), "[credential]")
        }
        _ => text,
    }
}
