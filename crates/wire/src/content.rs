//! Content blocks of events (contract 40, "Content blocks").

use serde::{Deserialize, Serialize};

/// A block of a message or a tool result. Which variants an event may carry is checked where the
/// event is accepted ([`crate::event`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Text.
    Text(TextBlock),
    /// An image: png, jpeg, gif or webp.
    Image(ImageBlock),
    /// A document: PDF or text.
    Document(DocumentBlock),
    /// A search result with citable text.
    SearchResult(SearchResultBlock),
    /// Output only: content withheld by policy.
    Redacted(Redacted),
}

impl ContentBlock {
    /// A text block.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextBlock { text: text.into() })
    }
}

/// `{"type":"redacted"}`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redacted {}

/// `{"type":"text","text"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextBlock {
    /// The text.
    pub text: String,
}

/// `{"type":"image","source"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageBlock {
    /// Where the bytes are.
    pub source: Source,
}

/// `{"type":"document","source","title"?,"context"?}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentBlock {
    /// Where the bytes are.
    pub source: Source,
    /// A title the model sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Context the model sees, not citable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

/// A source of an image or a document. `Text` is for documents only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Source {
    /// Inline bytes.
    Base64(Base64Source),
    /// Inline text, `media_type` `text/plain`.
    Text(Base64Source),
    /// Fetched by the model provider.
    Url(UrlSource),
    /// An uploaded file of the same workspace.
    File(FileSource),
}

/// Inline data: base 64, or plain text in a `text` source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base64Source {
    /// IANA media type.
    pub media_type: String,
    /// The data.
    pub data: String,
}

/// A URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UrlSource {
    /// http or https.
    pub url: String,
}

/// A file of the Files API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSource {
    /// `file_…`.
    pub file_id: String,
}

/// `{"type":"search_result",…}`, all fields required.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchResultBlock {
    /// Where the result was found.
    pub source: String,
    /// Its title.
    pub title: String,
    /// Text blocks.
    pub content: Vec<TypedText>,
    /// Whether the model may cite it.
    pub citations: Citations,
}

/// A text block that states its type, where the union is narrowed to text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TypedText {
    /// Text.
    Text(TextBlock),
}

/// Citation switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Citations {
    /// On or off.
    pub enabled: bool,
}
