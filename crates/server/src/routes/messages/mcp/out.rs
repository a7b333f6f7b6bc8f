//! The events of a message that is made of several answers.

use freehold_model::{Message, ModelError, RawObject, StreamEvent};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::history::raw_of;

/// What the usage of a whole message has and that of `message_delta` has not (contract 82 §3, §4).
const ONLY_WHOLE: [&str; 4] = ["cache_creation", "inference_geo", "service_tier", "speed"];

/// Why there are no more events.
pub(super) enum Stop {
    /// Nobody listens.
    Gone,
    Failed(ModelError),
}

impl<E: Into<ModelError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Where the events go.
pub(super) struct Out {
    pub(super) events: mpsc::Sender<Result<StreamEvent, ModelError>>,
    /// Blocks so far.
    pub(super) index: usize,
    /// Counts of the rounds that are over.
    pub(super) usage: Value,
    pub(super) started: bool,
    /// The events are for a client, and not for a fold.
    pub(super) streamed: bool,
}

impl Out {
    pub(super) async fn send(&self, event: StreamEvent) -> Result<(), Stop> {
        self.events.send(Ok(event)).await.map_err(|_| Stop::Gone)
    }

    pub(super) async fn make(&self, data: &Value) -> Result<(), Stop> {
        let name = data["type"].as_str().unwrap_or_default().to_owned();
        let data = raw_of(data);
        self.send(StreamEvent { name, data }).await
    }

    /// A whole block of ours.
    pub(super) async fn block(&mut self, block: &Value) -> Result<(), Stop> {
        let index = self.index;
        self.index += 1;
        let start = json!({"type": "content_block_start", "index": index, "content_block": block});
        self.make(&start).await?;
        let stop = json!({"type": "content_block_stop", "index": index});
        self.make(&stop).await
    }

    /// An event of a block of the model's.
    pub(super) async fn place(&mut self, name: String, mut data: RawObject) -> Result<(), Stop> {
        data.set("index", self.index);
        if name == "content_block_stop" {
            self.index += 1;
        }
        let data = data.to_raw();
        self.send(StreamEvent { name, data }).await
    }

    pub(super) fn add(&mut self, message: &Message) {
        let usage = message.field("usage").map(RawValue::get);
        let usage = usage.and_then(|u| serde_json::from_str(u).ok());
        sum(&mut self.usage, &usage.unwrap_or(Value::Null));
    }

    pub(super) async fn end(&mut self, message: &Message, stop_reason: &str) -> Result<(), Stop> {
        let field = |key| message.field(key).map(RawValue::get);
        let field = |key| field(key).and_then(|f| serde_json::from_str::<Value>(f).ok());
        if let (true, Some(usage)) = (self.streamed, self.usage.as_object_mut()) {
            usage.retain(|key, _| !ONLY_WHOLE.contains(&key.as_str()));
        }
        let mut delta = json!({"type": "message_delta", "usage": self.usage, "delta": {
            "stop_reason": stop_reason,
            "stop_sequence": field("stop_sequence"),
            "stop_details": field("stop_details"),
            "container": field("container"),
        }});
        if let Some(managed) = field("context_management") {
            delta["context_management"] = managed;
        }
        self.make(&delta).await?;
        self.make(&json!({"type": "message_stop"})).await
    }
}

/// Adds counts to counts; of what is no number the last one stays.
fn sum(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                sum(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, more) => match (into.as_u64(), more.as_u64()) {
            (Some(a), Some(b)) => *into = a.saturating_add(b).into(),
            _ => *into = more.clone(),
        },
    }
}
