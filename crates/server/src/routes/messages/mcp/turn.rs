//! The loop: the model is asked, the calls it makes of MCP tools are made here, and it is asked
//! again, in one message.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{IdSource, McpToolUseId, RequestId};
use freehold_mcp::{Connector, ToolCall};
use freehold_model::{
    Accumulator, EventStream, Message, ModelEntry, ModelError, ModelRequest, RawObject, StreamEvent,
};
use freehold_runtime::mcp::Catalogue;
use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{self, Outcome};
use super::history::{object_of, raw_of};
use super::offer::{Offer, Target};
use super::out::{Out, Stop};

/// Times the model is asked in one message.
const MAX_ROUNDS: usize = 10;
/// After this long the model is not asked again in one message.
const MAX_TIME: Duration = Duration::from_secs(600);
/// Calls of one round; the others get an error.
const MAX_CALLS: usize = 64;
/// Calls made at the same time.
const CONCURRENT: usize = 8;
/// Events that a slow reader may be behind.
const BEHIND: usize = 64;

/// A message that is being made.
pub(in super::super) struct Turn {
    pub(super) entry: Arc<ModelEntry>,
    /// As the provider is to get it.
    pub(super) request: ModelRequest,
    pub(super) messages: Vec<Box<RawValue>>,
    pub(super) offer: Offer,
    pub(super) clients: Clients,
    pub(super) ids: IdSource,
}

/// The connections of one request, which end with it.
pub(super) struct Clients {
    pub(super) connector: Connector,
    pub(super) catalogue: Catalogue,
    pub(super) owner: RequestId,
}

impl Drop for Clients {
    fn drop(&mut self) {
        let (connector, owner) = (self.connector.clone(), self.owner.clone());
        // Ending a session takes a request to its server.
        tokio::spawn(async move { connector.close(owner.as_str()).await });
    }
}

/// A call of this round.
struct Call {
    id: McpToolUseId,
    target: Target,
}

impl Turn {
    /// What the provider is asked first, for those who do not want an answer.
    pub(in super::super) fn first(self) -> (Arc<ModelEntry>, ModelRequest) {
        (self.entry, self.request)
    }

    /// Asks the model. Errors known before the first event come here, later ones in the stream.
    /// Dropping the stream ends everything it leads to. `streamed` says that the events are for a
    /// client, and not to be folded.
    pub(in super::super) async fn stream(self, streamed: bool) -> Result<EventStream, ModelError> {
        let first = self.entry.provider.stream(self.request.clone()).await?;
        let (sender, receiver) = mpsc::channel(BEHIND);
        let cancel = CancellationToken::new();
        let guard = cancel.clone().drop_guard();
        tokio::spawn(self.run(first, sender, streamed, cancel));
        let events = stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
            let event = receiver.recv().await?;
            Some((event, (receiver, guard)))
        });
        Ok(Box::pin(events))
    }

    async fn run(
        mut self,
        first: EventStream,
        events: mpsc::Sender<Result<StreamEvent, ModelError>>,
        streamed: bool,
        cancel: CancellationToken,
    ) {
        let mut out = Out {
            events,
            index: 0,
            usage: Value::Null,
            started: false,
            streamed,
        };
        if let Err(Stop::Failed(error)) = self.rounds(first, &mut out, &cancel).await {
            // If nobody listens any more there is nobody to tell.
            let _ = out.events.send(Err(error)).await;
        }
    }

    async fn rounds(
        &mut self,
        first: EventStream,
        out: &mut Out,
        cancel: &CancellationToken,
    ) -> Result<(), Stop> {
        let begun = Instant::now();
        let mut events = first;
        for round in 1.. {
            let (message, calls) = self.answer(events, out, cancel).await?;
            let ended = !matches!(
                message.stop_reason.as_str(),
                "tool_use" | "end_turn" | "pause_turn"
            );
            if ended || calls.is_empty() {
                return out.end(&message, &message.stop_reason).await;
            }
            let mine = self.follow(&message, &calls, out, cancel).await?;
            if !mine {
                return out.end(&message, "tool_use").await;
            }
            if round >= MAX_ROUNDS || begun.elapsed() >= MAX_TIME {
                return out.end(&message, "pause_turn").await;
            }
            self.request
                .body
                .set_raw("messages", raw_of(&self.messages));
            unforced(&mut self.request.body);
            events = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Stop::Gone),
                events = self.entry.provider.stream(self.request.clone()) => events?,
            };
        }
        Ok(())
    }

    /// Passes one answer on, and gives it whole with the calls that are to be made here.
    async fn answer(
        &self,
        mut events: EventStream,
        out: &mut Out,
        cancel: &CancellationToken,
    ) -> Result<(Message, BTreeMap<String, Call>), Stop> {
        let mut fold = Accumulator::new();
        let mut calls = BTreeMap::new();
        loop {
            let event = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Stop::Gone),
                event = events.next() => event,
            };
            let Some(event) = event else { break };
            let event = event?;
            fold.push(&event)?;
            match event.name.as_str() {
                "message_start" if out.started => {}
                "message_start" => {
                    out.started = true;
                    out.send(event).await?;
                    for listing in &self.offer.listings {
                        out.block(listing).await?;
                    }
                }
                "message_delta" | "message_stop" => {}
                "content_block_start" => {
                    let mut data = parsed(&event);
                    let mut block: RawObject = data.read("content_block").unwrap_or_default();
                    if let Some((theirs, call)) = self.called(&block) {
                        become_mcp(&mut block, &call);
                        data.set_raw("content_block", block.to_raw());
                        calls.insert(theirs, call);
                    }
                    out.place(event.name, data).await?;
                }
                "content_block_delta" | "content_block_stop" => {
                    let data = parsed(&event);
                    out.place(event.name, data).await?;
                }
                _ => out.send(event).await?,
            }
        }
        let message = fold.finish()?;
        out.add(&message);
        Ok((message, calls))
    }

    /// The call that a block is, if it is one of a server's tool.
    fn called(&self, block: &RawObject) -> Option<(String, Call)> {
        if block.read::<String>("type")? != "tool_use" {
            return None;
        }
        let target = self.offer.targets.get(&block.read::<String>("name")?)?;
        let call = Call {
            id: self.ids.next(),
            target: target.clone(),
        };
        Some((block.read("id")?, call))
    }

    /// Makes the calls of an answer and tells their results; adds both to the conversation. Whether
    /// the model can go on: `false` if it also waits for the client.
    async fn follow(
        &mut self,
        message: &Message,
        calls: &BTreeMap<String, Call>,
        out: &mut Out,
        cancel: &CancellationToken,
    ) -> Result<bool, Stop> {
        let mut said = Vec::new();
        let mut asked = Vec::new();
        let mut mine = true;
        for raw in &message.content {
            let mut block = RawObject::parse(raw.get().as_bytes()).unwrap_or_default();
            let is_use = block.read::<String>("type").as_deref() == Some("tool_use");
            let call = block.read::<String>("id").and_then(|id| calls.get(&id));
            match call.filter(|_| is_use) {
                Some(call) => {
                    block.set("id", call.id.as_str());
                    let input = block.get("input").map(ToOwned::to_owned);
                    asked.push((call, input.unwrap_or_default()));
                    said.push(block.to_raw());
                }
                None => {
                    mine &= !is_use;
                    said.push(raw.clone());
                }
            }
        }
        let outcomes = asked.iter().enumerate().map(|(i, (call, input))| {
            let request = ToolCall {
                name: call.target.tool.clone(),
                arguments: input.clone(),
                input_schema: None,
                request_id: self.ids.next(),
            };
            let clients = &self.clients;
            async move {
                if i >= MAX_CALLS {
                    return Ok(call::failure("Too many calls at once; make it again."));
                }
                call::make(clients, &call.target, &request, cancel).await
            }
        });
        let outcomes: Vec<_> = outcomes.collect();
        let mut outcomes = stream::iter(outcomes).buffered(CONCURRENT);
        let mut results = Vec::new();
        for (call, _) in &asked {
            let outcome = match outcomes.next().await {
                Some(Ok(outcome)) => outcome,
                // Only a cancelled call has no outcome.
                Some(Err(_)) | None => return Err(Stop::Gone),
            };
            results.push(result(call, &outcome));
            out.block(&told(call, &outcome)).await?;
        }
        drop(outcomes);
        let answer = json!({"role": "assistant", "content": said});
        let user = json!({"role": "user", "content": results});
        self.messages.extend([raw_of(&answer), raw_of(&user)]);
        Ok(mine)
    }
}

/// A choice of tool is for the first answer: it would be made for ever.
fn unforced(body: &mut RawObject) {
    let Some(mut choice) = body.read::<RawObject>("tool_choice") else {
        return;
    };
    let kind: Option<String> = choice.read("type");
    if matches!(kind.as_deref(), Some("any" | "tool")) {
        choice.set("type", "auto");
        choice.remove("name");
        body.set_raw("tool_choice", choice.to_raw());
    }
}

fn become_mcp(block: &mut RawObject, call: &Call) {
    let input = block.get("input").map(ToOwned::to_owned);
    *block = object_of(json!({"type": "mcp_tool_use", "id": call.id.as_str(),
        "name": call.target.tool, "server_name": call.target.server}));
    block.set_raw("input", input.unwrap_or_else(|| raw_of(&json!({}))));
}

fn told(call: &Call, outcome: &Outcome) -> Value {
    json!({"type": "mcp_tool_result", "tool_use_id": call.id.as_str(),
        "is_error": outcome.is_error, "content": outcome.told})
}

fn result(call: &Call, outcome: &Outcome) -> Value {
    json!({"type": "tool_result", "tool_use_id": call.id.as_str(),
        "is_error": outcome.is_error, "content": outcome.shown})
}

fn parsed(event: &StreamEvent) -> RawObject {
    RawObject::parse(event.data.get().as_bytes()).unwrap_or_default()
}
