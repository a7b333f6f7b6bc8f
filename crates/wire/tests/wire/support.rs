//! Shared by all tests.

use freehold_base::Timestamp;
use freehold_wire::agent::{Agent, CreateAgent, Effort, UpdateAgent};
use freehold_wire::{ApiError, ModelFacts, Models, Request, parse};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Knows every `claude-…` model, `chat` (which has no effort, no fast mode and no price) and nothing
/// else.
pub struct TestModels;

impl Models for TestModels {
    fn facts(&self, id: &str) -> Result<ModelFacts, ApiError> {
        let full = id.starts_with("claude-");
        if !full && id != "chat" {
            return Err(ApiError::invalid(format!(
                "model: `{id}` is not configured"
            )));
        }
        Ok(ModelFacts {
            default_effort: Effort::High,
            effort: full,
            fast: full,
            priced: full,
        })
    }
}

pub fn read<T: Request>(body: &Value) -> Result<T, ApiError> {
    parse(body.to_string().as_bytes())
}

/// The message of the refusal of a body.
pub fn refusal<T: Request>(body: &Value) -> String {
    match read::<T>(body) {
        Ok(_) => panic!("accepted: {body}"),
        Err(e) => e.message,
    }
}

/// `base` with the keys of `extra` put in.
pub fn with(base: &Value, extra: Value) -> Value {
    let mut base = base.clone();
    if let (Value::Object(base), Value::Object(extra)) = (&mut base, extra) {
        base.extend(extra);
    }
    base
}

pub fn minimal_agent() -> Value {
    json!({"model": "claude-opus-5-5", "name": "helper"})
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// Creates an agent from a body without references to others.
pub fn create(body: &Value) -> Result<Agent, ApiError> {
    let id = "agent_01a".parse().unwrap();
    let config = read::<CreateAgent>(body)?
        .resolve(&TestModels)?
        .finish(&id, &BTreeMap::new())?;
    Ok(config.into_agent(id, 1, at(0), at(0)))
}

/// The refusal of an agent, whether on reading or on resolving.
pub fn agent_refusal(body: &Value) -> String {
    match create(body) {
        Ok(_) => panic!("accepted: {body}"),
        Err(e) => e.message,
    }
}

/// Updates an agent; `None` when nothing changes.
pub fn update(stored: &Agent, body: &Value) -> Result<Option<Agent>, ApiError> {
    let config = read::<UpdateAgent>(body)?
        .resolve(stored, &TestModels)?
        .finish(stored, &BTreeMap::new())?;
    Ok(config.map(|c| {
        c.into_agent(
            stored.id.clone(),
            stored.version + 1,
            stored.created_at,
            at(1),
        )
    }))
}
