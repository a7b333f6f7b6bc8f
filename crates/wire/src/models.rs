//! `GET /v1/models` (contract 82 §7).

use freehold_base::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The constant `model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelTag {
    /// `model`.
    #[default]
    Model,
}

/// Whether a model is still offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// In use.
    #[default]
    Active,
    /// Will be retired.
    Deprecated,
    /// Gone.
    Retired,
}

impl Lifecycle {
    /// All, with their names on the wire.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("active", Self::Active),
        ("deprecated", Self::Deprecated),
        ("retired", Self::Retired),
    ];
}

/// A model as shown; every key is always present.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The id clients name.
    pub id: String,
    /// Always `model`.
    pub r#type: ModelTag,
    /// For people.
    pub display_name: String,
    /// When it was released.
    pub created_at: Timestamp,
    /// Whether it is still offered.
    pub lifecycle: Lifecycle,
    /// `haiku`, `sonnet`, `opus`, `fable`, `mythos`; null for others.
    pub line: Option<String>,
    /// Context window in tokens.
    pub max_input_tokens: Option<u64>,
    /// Longest answer in tokens.
    pub max_tokens: Option<u64>,
    /// When it was deprecated.
    pub deprecated_at: Option<Timestamp>,
    /// When it will be retired.
    pub retires_at: Option<Timestamp>,
    /// What it can do; null when the operator has not said. Kept as JSON.
    pub capabilities: Option<Value>,
    /// Models that may stand in for it; beta clients read it.
    pub allowed_fallback_models: Option<Vec<String>>,
}

/// `{"input_tokens"}` of `POST /v1/messages/count_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCount {
    /// Tokens of the prompt.
    pub input_tokens: u64,
}
