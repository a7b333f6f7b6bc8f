//! `user.define_outcome` (contracts 40 and 45): read and checked, run by a later version.

use freehold_base::FileId;
use serde_json::Value;

use crate::decode::{At, Decode, Object, integer, reference, text};

/// Characters of a rubric given as text (contract 40).
const MAX_RUBRIC: usize = 262_144;
/// Characters of a description; our own bound, that of a system prompt.
const MAX_DESCRIPTION: usize = freehold_base::limits::MAX_SYSTEM;
/// Cycles before the agent gives up.
const MAX_ITERATIONS: u64 = 20;

/// What the agent should produce and how it is graded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefineOutcome {
    /// The task.
    pub description: String,
    /// How to grade it.
    pub rubric: Rubric,
    /// 1 to 20; omitted is 3.
    pub max_iterations: Option<u64>,
}

/// How an outcome is graded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rubric {
    /// Given as text.
    Text(String),
    /// An uploaded file.
    File(FileId),
}

impl DefineOutcome {
    pub(super) fn decode(o: &mut Object<'_>) -> Decode<Self> {
        Ok(Self {
            description: o.required("description", text(1, MAX_DESCRIPTION))?,
            rubric: o.required("rubric", rubric)?,
            max_iterations: o.optional("max_iterations", integer(1, MAX_ITERATIONS))?,
        })
    }
}

fn rubric(value: Value, at: &At<'_>) -> Decode<Rubric> {
    let mut o = Object::new(value, at)?;
    let rubric = match o.tag(&["text", "file"])? {
        "text" => Rubric::Text(o.required("content", text(1, MAX_RUBRIC))?),
        _ => Rubric::File(o.required("file_id", reference("File"))?),
    };
    o.finish()?;
    Ok(rubric)
}
