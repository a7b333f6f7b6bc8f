//! What a server says its tools are.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A tool as its server describes it, within our limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolDefinition {
    /// 1 to 128 characters.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of type `object`.
    pub input_schema: Map<String, Value>,
    /// JSON Schema of structured results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// `readOnlyHint`, `destructiveHint`, …: claims of the server, not facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Value>,
}

/// All tools of a server, in the order it lists them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The tools that can be offered.
    pub tools: Vec<ToolDefinition>,
    /// Tools that were left out, and why: a name that breaks the rules, a definition that is too
    /// large, a schema that points elsewhere.
    pub left_out: Vec<(String, String)>,
}
