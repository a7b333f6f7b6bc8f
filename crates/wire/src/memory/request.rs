//! Create and update of memories (contract 74 §2).

use freehold_base::limits::MAX_MEMORY;
use serde_json::Value;

use super::check_path;
use crate::decode::{At, Decode, Object, string};
use crate::request::Request;

/// `POST /v1/memory_stores/{id}/memories`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateMemory {
    /// Where.
    pub path: String,
    /// What; a null is read as empty.
    pub content: String,
}

impl Request for CreateMemory {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            path: o.required("path", path)?,
            content: o.required("content", |value, at| match value {
                Value::Null => Ok(String::new()),
                value => content(value, at),
            })?,
        };
        o.finish()?;
        Ok(request)
    }
}

/// `POST /v1/memory_stores/{id}/memories/{id}`: what is null or left out keeps its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMemory {
    /// The new path.
    pub path: Option<String>,
    /// The new content.
    pub content: Option<String>,
    /// SHA-256 that the content must have before.
    pub expected_sha256: Option<String>,
}

impl Request for UpdateMemory {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            path: o.optional("path", path)?,
            content: o.optional("content", content)?,
            expected_sha256: o.optional("precondition", precondition)?,
        };
        o.finish()?;
        Ok(request)
    }
}

fn path(value: Value, at: &At<'_>) -> Decode<String> {
    let path = string(value, at)?;
    check_path(&path).map_err(|problem| at.error(problem))?;
    Ok(path)
}

fn content(value: Value, at: &At<'_>) -> Decode<String> {
    let content = string(value, at)?;
    if MAX_MEMORY < content.len() {
        return Err(at.error(format_args!(
            "Content should have at most {MAX_MEMORY} bytes, not {}",
            content.len()
        )));
    }
    Ok(content)
}

fn precondition(value: Value, at: &At<'_>) -> Decode<String> {
    let mut o = Object::new(value, at)?;
    o.tag(&["content_sha256"])?;
    let sha = o.required("content_sha256", |value, at| {
        let sha = string(value, at)?;
        sha256(&sha).map_err(|problem| at.error(problem))?;
        Ok(sha)
    })?;
    o.finish()?;
    Ok(sha)
}

/// Checks the text of a SHA-256.
///
/// # Errors
/// It is none.
pub fn sha256(text: &str) -> Result<(), &'static str> {
    let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if text.len() == 64 && text.bytes().all(digit) {
        return Ok(());
    }
    Err("Input should be a SHA-256 of 64 lower-case hexadecimal digits")
}
