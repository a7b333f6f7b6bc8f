//! One model request: out with the context, in with the answer, previews on the way.

use std::sync::{Arc, Mutex};

use freehold_base::{EventId, SessionId};
use freehold_engine::{Facts, Failure, Layout, Purpose, Reply, Spent, State, build_request};
use freehold_model::{
    Accumulator, BlockKind, Delta, Message, ModelEntry, ModelError, ModelErrorKind, ModelRequest,
    Price, RawObject, Usage,
};
use freehold_wire::event::SessionErrorKind;
use freehold_wire::usage::{CacheCreation, ModelUsage};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;

use crate::hub::Frame;
use crate::media;
use crate::runtime::Shared;

/// How a request went.
pub(crate) enum Outcome {
    /// Answered; the layout holds the ids that previews showed.
    Answer(Reply, Layout),
    /// Given up by us: interrupted, or the server is stopping.
    CutOff,
    /// Failed.
    Failed(Failure),
}

/// What a running request has used so far, readable when it is cut off.
#[derive(Default)]
pub(crate) struct Meter(Mutex<Option<Spent>>);

impl Meter {
    pub(crate) fn spent(&self) -> Spent {
        self.0
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .unwrap_or(Spent::NOTHING)
    }
    fn set(&self, spent: Spent) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(spent);
    }
}

/// What a request is made of.
pub(crate) struct Asking<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) session: &'a SessionId,
    pub(crate) entry: Option<&'a ModelEntry>,
    pub(crate) state: &'a State,
    pub(crate) facts: &'a Facts,
    pub(crate) purpose: Purpose,
    pub(crate) meter: &'a Meter,
}

/// Asks the model.
pub(crate) async fn ask(asking: Asking<'_>) -> Outcome {
    let meter = asking.meter;
    match attempt(&asking).await {
        Ok((reply, layout)) => Outcome::Answer(reply, layout),
        Err(error) => Outcome::Failed(failure(&error, meter.spent())),
    }
}

async fn attempt(asking: &Asking<'_>) -> Result<(Reply, Layout), ModelError> {
    let Some(entry) = asking.entry else {
        let message = format!(
            "the model `{}` is no longer configured on this server",
            asking.state.agent.model.id
        );
        return Err(ModelError::new(ModelErrorKind::InvalidRequest, message));
    };
    let media = media::load(asking.shared, asking.session, &asking.state.conversation).await;
    let unwritable =
        |_| ModelError::new(ModelErrorKind::InvalidRequest, "the request is unwritable");
    let body = build_request(asking.state, asking.facts, &media, asking.purpose)
        .map_err(|e: serde_json::Error| unwritable(e.to_string()))?;
    let body = RawObject::parse(body.get().as_bytes()).map_err(|e| unwritable(e.to_string()))?;
    let mut events = entry.provider.stream(ModelRequest::new(body)).await?;
    let mut fold = Accumulator::new();
    let mut previews = Previews {
        asking,
        layout: Layout::default(),
        places: Vec::new(),
        silent: asking.purpose == Purpose::Compact,
    };
    while let Some(event) = events.next().await {
        if let Some(delta) = fold.push(&event?)? {
            previews.show(&delta);
            if matches!(delta, Delta::MessageStart | Delta::BlockStop { .. }) {
                asking.meter.set(spent(&fold.usage(), entry.price.as_ref()));
            }
        }
    }
    asking.meter.set(spent(&fold.usage(), entry.price.as_ref()));
    let message = fold.finish()?;
    if message.stop_reason == "model_context_window_exceeded" && message.content.is_empty() {
        let text = "the context does not fit the model";
        return Err(ModelError::new(ModelErrorKind::ContextExceeded, text));
    }
    Ok((reply(message, entry.price.as_ref()), previews.layout))
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    category: Option<String>,
    #[serde(default)]
    explanation: Option<String>,
}

fn reply(message: Message, price: Option<&Price>) -> Reply {
    let refusal = (message.stop_reason == "refusal").then(|| {
        let details = message.stop_details.as_ref();
        let said = details.and_then(|d| serde_json::from_str::<Refusal>(d.get()).ok());
        said.map_or((None, None), |r| (r.category, r.explanation))
    });
    Reply {
        spent: spent(&message.usage, price),
        content: message.content,
        stop_reason: Some(message.stop_reason),
        refusal,
    }
}

fn spent(usage: &Usage, price: Option<&Price>) -> Spent {
    let one_hour = usage.cache_creation_1h_input_tokens;
    Spent {
        usage: ModelUsage {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_creation_input_tokens: usage.cache_creation_input_tokens,
            cache_read_input_tokens: usage.cache_read_input_tokens,
        },
        cache_creation: CacheCreation {
            // What upstream did not split is what a request without `ttl` asks for.
            ephemeral_5m_input_tokens: usage.cache_creation_input_tokens.saturating_sub(one_hour),
            ephemeral_1h_input_tokens: one_hour,
        },
        cost: price.map(|p| p.cost(usage)),
    }
}

fn failure(error: &ModelError, spent: Spent) -> Failure {
    use ModelErrorKind as K;
    Failure {
        kind: match error.kind {
            K::Overloaded => SessionErrorKind::ModelOverloaded,
            K::RateLimited => SessionErrorKind::ModelRateLimited,
            K::Billing => SessionErrorKind::Billing,
            _ => SessionErrorKind::ModelRequestFailed,
        },
        message: error.message.clone(),
        retryable: error.retryable(),
        retry_after_ms: error.retry_after_ms,
        context_exceeded: error.kind == K::ContextExceeded,
        spent,
    }
}

/// Turns an answer's progress into preview frames (contract 40, "Event deltas").
struct Previews<'a> {
    asking: &'a Asking<'a>,
    layout: Layout,
    /// Event and content index of each block so far.
    places: Vec<(EventId, usize)>,
    silent: bool,
}

impl Previews<'_> {
    fn show(&mut self, delta: &Delta) {
        match delta {
            Delta::BlockStart { kind, .. } => self.start(kind),
            Delta::Text { index, text } => self.text(*index, text),
            _ => {}
        }
    }

    fn start(&mut self, kind: &BlockKind) {
        let (name, shown) = match kind {
            BlockKind::Text => ("text", Some("agent.message")),
            BlockKind::Thinking => ("thinking", Some("agent.thinking")),
            BlockKind::ToolUse { .. } => ("tool_use", None),
            BlockKind::Other(name) => (name.as_str(), None),
        };
        let (id, index) = self.layout.place(name, || self.asking.shared.ids.next());
        self.places.push((id.clone(), index));
        if let Some(kind) = shown.filter(|_| index == 0) {
            let data = json!({ "type": "event_start", "event": { "type": kind, "id": &id } });
            self.send(Frame::Start {
                id,
                kind,
                data: data.to_string().into(),
            });
        }
    }

    fn text(&self, block: usize, text: &str) {
        let Some((id, index)) = self.places.get(block) else {
            return;
        };
        let data = json!({
            "type": "event_delta",
            "event_id": id,
            "delta": {
                "type": "content_delta",
                "index": index,
                "content": { "type": "text", "text": text },
            },
        });
        self.send(Frame::Delta {
            id: id.clone(),
            data: Arc::from(data.to_string()),
        });
    }

    fn send(&self, frame: Frame) {
        if !self.silent {
            self.asking.shared.hub.preview(self.asking.session, frame);
        }
    }
}
