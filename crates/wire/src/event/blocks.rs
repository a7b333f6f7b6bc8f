//! Content blocks of inbound events: which an event may carry, and their limits (contract 40,
//! "Content blocks").

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freehold_base::FileId;
use freehold_base::limits::MAX_CONTENT_BLOCKS;
use serde_json::Value;

use crate::content::{
    Base64Source, Citations, ContentBlock, DocumentBlock, FileSource, ImageBlock,
    SearchResultBlock, Source, TextBlock, TypedText, UrlSource,
};
use crate::decode::{At, Decode, Object, boolean, echo, http_url, list, quoted, reference, string};

/// Characters of a URL.
const MAX_URL: usize = 8192;
const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const DOCUMENT_TYPES: [&str; 2] = ["application/pdf", "text/plain"];

/// Which blocks an event takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Text, image, document.
    Message,
    /// The same and search results.
    Result,
    /// Text only.
    System,
}

impl Allowed {
    const fn tags(self) -> &'static [&'static str] {
        match self {
            Self::Message => &["text", "image", "document"],
            Self::Result => &["text", "image", "document", "search_result"],
            Self::System => &["text"],
        }
    }
}

/// Reads a `content` array of at least `min` blocks.
pub(super) fn content(
    allowed: Allowed,
    min: usize,
) -> impl FnMut(Value, &At<'_>) -> Decode<Vec<ContentBlock>> {
    list(min, MAX_CONTENT_BLOCKS, move |value, at| {
        block(value, at, allowed)
    })
}

fn block(value: Value, at: &At<'_>, allowed: Allowed) -> Decode<ContentBlock> {
    if value["type"] == "redacted" {
        return Err(at.error("`redacted` blocks are output only and cannot be sent"));
    }
    let mut o = Object::new(value, at)?;
    let block = match o.tag(allowed.tags())? {
        "text" => ContentBlock::Text(TextBlock {
            text: o.required("text", |value, at| {
                let text = string(value, at)?;
                // Models refuse empty text in messages; a tool may well print nothing.
                if text.is_empty() && allowed != Allowed::Result {
                    return Err(at.error("String should have at least 1 character"));
                }
                Ok(text)
            })?,
        }),
        "image" => ContentBlock::Image(ImageBlock {
            source: o.required("source", image_source)?,
        }),
        "document" => ContentBlock::Document(DocumentBlock {
            source: o.required("source", document_source)?,
            title: o.optional("title", string)?,
            context: o.optional("context", string)?,
        }),
        _ => ContentBlock::SearchResult(SearchResultBlock {
            source: o.required("source", string)?,
            title: o.required("title", string)?,
            content: o.required("content", list(0, MAX_CONTENT_BLOCKS, typed_text))?,
            citations: o.required("citations", |value, at| {
                let mut o = Object::new(value, at)?;
                let enabled = o.required("enabled", boolean)?;
                o.finish()?;
                Ok(Citations { enabled })
            })?,
        }),
    };
    o.finish()?;
    Ok(block)
}

fn typed_text(value: Value, at: &At<'_>) -> Decode<TypedText> {
    let mut o = Object::new(value, at)?;
    o.tag(&["text"])?;
    let text = o.required("text", string)?;
    o.finish()?;
    Ok(TypedText::Text(TextBlock { text }))
}

fn image_source(value: Value, at: &At<'_>) -> Decode<Source> {
    let mut o = Object::new(value, at)?;
    let source = match o.tag(&["base64", "url", "file"])? {
        "base64" => Source::Base64(base64_source(&mut o, &IMAGE_TYPES)?),
        tag => by_reference(&mut o, tag)?,
    };
    o.finish()?;
    Ok(source)
}

fn document_source(value: Value, at: &At<'_>) -> Decode<Source> {
    let mut o = Object::new(value, at)?;
    let source = match o.tag(&["base64", "text", "url", "file"])? {
        "base64" => Source::Base64(base64_source(&mut o, &DOCUMENT_TYPES)?),
        "text" => Source::Text(Base64Source {
            media_type: o.required("media_type", |v, at| media_type(v, at, &["text/plain"]))?,
            data: o.required("data", string)?,
        }),
        tag => by_reference(&mut o, tag)?,
    };
    o.finish()?;
    Ok(source)
}

fn by_reference(o: &mut Object<'_>, tag: &str) -> Decode<Source> {
    Ok(if tag == "url" {
        Source::Url(UrlSource {
            url: o.required("url", http_url(MAX_URL))?,
        })
    } else {
        let file_id: FileId = o.required("file_id", reference("File"))?;
        Source::File(FileSource {
            file_id: file_id.to_string(),
        })
    })
}

fn base64_source(o: &mut Object<'_>, types: &[&str]) -> Decode<Base64Source> {
    Ok(Base64Source {
        media_type: o.required("media_type", |v, at| media_type(v, at, types))?,
        data: o.required("data", |value, at| {
            let data = string(value, at)?;
            if data.is_empty() || !is_base64(data.as_bytes()) {
                return Err(at.error("Input should be valid base64"));
            }
            Ok(data)
        })?,
    })
}

fn media_type(value: Value, at: &At<'_>, types: &[&str]) -> Decode<String> {
    let given = string(value, at)?;
    if types.contains(&given.as_str()) {
        Ok(given)
    } else {
        Err(at.error(format_args!(
            "Input should be {}, not '{}'",
            quoted(types),
            echo(&given)
        )))
    }
}

/// Decodes in pieces on the stack, so that checking a body of many megabytes allocates nothing.
fn is_base64(data: &[u8]) -> bool {
    const PIECE: usize = 4096;
    let mut out = [0u8; PIECE];
    let last = data.len().saturating_sub(1) / PIECE;
    data.chunks(PIECE).enumerate().all(|(n, piece)| {
        // Padding ends the data; every earlier piece is a whole number of groups.
        (n == last || !piece.ends_with(b"=")) && STANDARD.decode_slice(piece, &mut out).is_ok()
    })
}
