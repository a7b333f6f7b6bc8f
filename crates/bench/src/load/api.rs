//! The few calls of the public API that the measurements make.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};

use super::connection::{Answer, Connection};
use super::upstream::Order;
use crate::plan::PATIENCE;

/// The model id of every agent; no configuration maps it, so it goes to our upstream.
const MODEL: &str = "bench";
/// How often a condition is looked at again.
const AGAIN: Duration = Duration::from_millis(5);

/// An agent without tools.
pub(crate) fn plain_agent() -> Bytes {
    body(&json!({ "name": "plain", "model": MODEL, "system": "Do what is ordered." }))
}

/// An agent with the custom tool `hold`, whose calls wait for the client.
pub(crate) fn holding_agent() -> Bytes {
    let schema = json!({ "type": "object", "properties": {} });
    let tool = json!({
        "type": "custom", "name": "hold", "description": "Waits.", "input_schema": schema,
    });
    body(&json!({ "name": "holding", "model": MODEL, "tools": [tool] }))
}

/// An agent with the sandbox tools.
pub(crate) fn working_agent() -> Bytes {
    let policy = json!({ "enabled": true, "permission_policy": { "type": "always_allow" } });
    let tools = json!([{ "type": "agent_toolset_20260401", "default_config": policy }]);
    body(&json!({ "name": "working", "model": MODEL, "tools": tools }))
}

/// An environment where sandboxes are the client's affair.
pub(crate) fn self_hosted(name: &str) -> Bytes {
    body(&json!({ "name": name, "config": { "type": "self_hosted" } }))
}

/// An environment with a sandbox for each session.
pub(crate) fn cloud() -> Bytes {
    let config = json!({ "type": "cloud", "networking": { "type": "limited" } });
    body(&json!({ "name": "bench-cloud", "config": config }))
}

/// Something with a name.
pub(crate) fn named(name: &str) -> Bytes {
    body(&json!({ "name": name }))
}

/// A session.
pub(crate) fn session(agent: &str, environment: &str) -> Bytes {
    body(&json!({ "agent": agent, "environment_id": environment }))
}

/// A send of one user message that carries an order.
pub(crate) fn message(order: &Order) -> Bytes {
    messages(&order.to_string(), 1)
}

/// A send of `count` user messages of the same text.
pub(crate) fn messages(text: &str, count: usize) -> Bytes {
    let event = json!({ "type": "user.message", "content": [{ "type": "text", "text": text }] });
    body(&json!({ "events": vec![event; count] }))
}

/// A send of one result for each call of `hold`.
pub(crate) fn results(calls: &[String]) -> Bytes {
    let content = json!([{ "type": "text", "text": "held" }]);
    let event = |id: &String| json!({ "type": "user.custom_tool_result", "custom_tool_use_id": id, "content": content });
    body(&json!({ "events": calls.iter().map(event).collect::<Vec<_>>() }))
}

fn body(value: &Value) -> Bytes {
    value.to_string().into()
}

impl Connection {
    /// `POST path`, for the id of what it makes.
    pub(crate) async fn create(&mut self, path: &str, body: Bytes) -> Result<String> {
        let made = self.post(path, body).await?.json()?;
        Ok(made["id"]
            .as_str()
            .with_context(|| format!("POST {path} names no id"))?
            .to_owned())
    }

    /// `POST /v1/sessions/{session}/events`.
    pub(crate) async fn send_events(&mut self, session: &str, body: Bytes) -> Result<Answer> {
        self.post(&format!("/v1/sessions/{session}/events"), body)
            .await
    }

    /// Waits until no session runs.
    pub(crate) async fn quiet(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let page = self
                .get("/v1/sessions?statuses[]=running&limit=1")
                .await?
                .json()?;
            if page["data"].as_array().is_some_and(Vec::is_empty) {
                return Ok(());
            }
            if PATIENCE < begun.elapsed() {
                bail!("sessions do not come to rest");
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
