//! What a tool hands back.

use serde_json::{Value, json};

use crate::failure::Failure;

/// What a call without output says (contract 55 §4).
const NO_OUTPUT: &str = "(no output)";

/// The result of a call (contract 55 §4).
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutput {
    /// At least one content block: text, image or document. Texts are at most 262,144 bytes, from
    /// `bash` and `grep` 102,400 and a line that says so; media at most 20 MiB before base 64.
    pub content: Vec<Value>,
    /// Whether the call failed.
    pub is_error: bool,
}

impl ToolOutput {
    /// A success with a text.
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![block(text.into())],
            is_error: false,
        }
    }

    /// A success with one block that is not text.
    pub(crate) fn block(block: Value) -> Self {
        Self {
            content: vec![block],
            is_error: false,
        }
    }
}

/// Longest text of a failure, bytes: a shell's output fits, a path or pattern of megabytes does not.
const MAX_FAILURE: usize = 128 * 1024;
/// What is kept at either end of a longer one, bytes: what failed, and why.
const ENDS: usize = 1024;

/// A text that is no longer than a failure may be.
fn shortened(text: String) -> String {
    if text.len() <= MAX_FAILURE {
        return text;
    }
    // A character at a cut may be lost.
    let head = String::from_utf8_lossy(&text.as_bytes()[..ENDS]);
    let tail = String::from_utf8_lossy(&text.as_bytes()[text.len() - ENDS..]);
    format!("{head}\n[truncated]\n{tail}")
}

impl From<Failure> for ToolOutput {
    fn from(failure: Failure) -> Self {
        Self {
            content: vec![block(shortened(failure.0))],
            is_error: true,
        }
    }
}

fn block(mut text: String) -> Value {
    if text.is_empty() {
        text.push_str(NO_OUTPUT);
    }
    json!({ "type": "text", "text": text })
}
