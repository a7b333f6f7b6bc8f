//! From a result of `tools/call` to content blocks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freehold_wire::content::{Base64Source, ContentBlock, DocumentBlock, ImageBlock, Source};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mask;
use crate::options::MAX_BLOCKS;

/// Images that a model may be shown.
const IMAGES: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";

/// A result as its server sent it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallResult {
    /// `complete` if the server does not say.
    #[serde(default)]
    pub(crate) result_type: Option<String>,
    #[serde(default)]
    content: Vec<Box<RawValue>>,
    #[serde(default)]
    structured_content: Option<Value>,
    #[serde(default)]
    pub(crate) is_error: bool,
    #[serde(default)]
    pub(crate) input_requests: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    pub(crate) request_state: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item {
    Text { text: String },
    Image(Blob),
    Audio(Blob),
    Resource { resource: Resource },
    ResourceLink(Link),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    data: String,
    mime_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    #[serde(default)]
    uri: String,
    #[serde(default)]
    mime_type: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    blob: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    uri: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: Option<String>,
}

impl CallResult {
    /// The blocks; at least one, and in none of them the credential.
    pub(crate) fn blocks(&self, bearer: Option<&str>) -> Vec<ContentBlock> {
        let mut blocks: Vec<ContentBlock> = self
            .content
            .iter()
            .take(MAX_BLOCKS)
            .filter_map(|item| block(item, bearer))
            .collect();
        if self.content.len() > MAX_BLOCKS {
            let more = self.content.len() - MAX_BLOCKS;
            blocks.push(ContentBlock::text(format!(
                "[{more} more pieces of content were left out]"
            )));
        }
        if blocks.is_empty() {
            let text = match &self.structured_content {
                Some(value) => mask::mask_value(value.clone(), bearer).to_string(),
                None => "[no content]".into(),
            };
            blocks.push(ContentBlock::text(text));
        }
        blocks
    }
}

fn block(raw: &RawValue, bearer: Option<&str>) -> Option<ContentBlock> {
    let text = |text: String| Some(ContentBlock::text(mask::mask(text, bearer)));
    let Ok(item) = serde_json::from_str(raw.get()) else {
        return text("[content of an unknown kind was left out]".into());
    };
    match item {
        Item::Text { text: empty } if empty.is_empty() => None,
        Item::Text { text: found } => text(found),
        Item::Image(Blob { data, mime_type }) => Some(binary(&data, &mime_type, bearer)),
        Item::Audio(blob) => Some(left_out(&blob.mime_type, bearer)),
        Item::Resource { resource } => match (resource.text, resource.blob) {
            (Some(found), _) if found.is_empty() => None,
            (Some(found), _) => text(found),
            (None, Some(data)) => {
                let kind = resource.mime_type.as_deref().unwrap_or_default();
                Some(binary(&data, kind, bearer))
            }
            (None, None) => {
                let uri = mask::quote(&resource.uri, 500, bearer);
                Some(ContentBlock::text(format!("[resource {uri}]")))
            }
        },
        Item::ResourceLink(link) => {
            let mut line = format!("[resource {}: {}", link.name, link.uri);
            if let Some(description) = link.description {
                line = format!("{line}: {description}");
            }
            let line = mask::quote(&line, 2000, bearer);
            Some(ContentBlock::text(format!("{line}]")))
        }
    }
}

fn left_out(kind: &str, bearer: Option<&str>) -> ContentBlock {
    let kind = mask::quote(kind, 100, bearer);
    ContentBlock::text(format!("[content of type {kind} was left out]"))
}

/// An image or a document, if a model can be shown it.
fn binary(data: &str, named: &str, bearer: Option<&str>) -> ContentBlock {
    let kind = named
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let source = || {
        Source::Base64(Base64Source {
            media_type: kind.clone(),
            data: data.to_owned(),
        })
    };
    let sound = !data.is_empty() && STANDARD.decode(data).is_ok();
    match kind.as_str() {
        image if sound && IMAGES.contains(&image) => {
            ContentBlock::Image(ImageBlock { source: source() })
        }
        PDF if sound => ContentBlock::Document(DocumentBlock {
            source: source(),
            title: None,
            context: None,
        }),
        _ => left_out(named, bearer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn blocks(result: Value) -> Vec<ContentBlock> {
        let result: CallResult = serde_json::from_str(&result.to_string()).unwrap();
        result.blocks(Some("secret-token"))
    }

    #[test]
    fn each_kind_has_its_block() {
        let found = blocks(json!({"content": [
            {"type": "text", "text": "hello secret-token"},
            {"type": "image", "data": "AAAA", "mimeType": "image/PNG"},
            {"type": "image", "data": "AAAA", "mimeType": "image/tiff"},
            {"type": "image", "data": "!", "mimeType": "image/png"},
            {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": "a:b", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "a:b", "blob": "AAAA", "mimeType": "application/pdf"}},
            {"type": "resource_link", "uri": "a:c", "name": "n"},
            {"type": "dance"},
            {"type": "text", "text": ""},
        ]}));
        let shown: Vec<String> = found
            .iter()
            .map(|block| match block {
                ContentBlock::Text(text) => text.text.clone(),
                ContentBlock::Image(_) => "image".into(),
                ContentBlock::Document(_) => "document".into(),
                _ => "other".into(),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "hello [redacted]",
                "image",
                "[content of type image/tiff was left out]",
                "[content of type image/png was left out]",
                "[content of type audio/wav was left out]",
                "inside",
                "document",
                "[resource n: a:c]",
                "[content of an unknown kind was left out]",
            ]
        );
    }

    #[test]
    fn structured_content_stands_in_and_there_is_always_a_block() {
        let found = blocks(json!({"structuredContent": {"a": 1}, "content": []}));
        assert_eq!(found, [ContentBlock::text("{\"a\":1}")]);
        assert_eq!(blocks(json!({})), [ContentBlock::text("[no content]")]);
        let many: Vec<Value> = (0..1200)
            .map(|_| json!({"type": "text", "text": "x"}))
            .collect();
        assert_eq!(blocks(json!({"content": many})).len(), 1001);
    }
}
