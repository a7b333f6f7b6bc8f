//! Folds the events of a stream into a message.

mod block;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{ModelError, ModelErrorKind};
use crate::message::{Delta, Message};
use crate::raw::{RawObject, to_raw};
use crate::{StreamEvent, Usage};
use block::OpenBlock;

/// Content blocks of one answer; more is a protocol error.
pub const MAX_BLOCKS: usize = 4_096;
/// Bytes of content of one answer, all blocks together; more is a protocol error.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The stream was not one message. Every case is worth another attempt at the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccumulateError {
    /// An event's data did not have the shape its name promises.
    #[error("malformed `{event}` event from the model")]
    Malformed {
        /// The event's name.
        event: String,
    },
    /// An event came where it cannot come.
    #[error("unexpected `{event}` event from the model")]
    Order {
        /// The event's name.
        event: String,
    },
    /// The input of a tool call is not a JSON object.
    #[error("the model's input for tool call {index} is not a JSON object")]
    ToolInput {
        /// Place of the block in the content.
        index: usize,
        /// The model's id of the call.
        id: String,
        /// The tool.
        name: String,
    },
    /// The stream ended before the message did.
    #[error("the model's answer ended early")]
    Incomplete,
    /// More blocks or bytes than [`MAX_BLOCKS`] and [`MAX_ANSWER_BYTES`].
    #[error("the model's answer is too large")]
    TooLarge,
}

impl From<AccumulateError> for ModelError {
    fn from(error: AccumulateError) -> Self {
        Self::new(ModelErrorKind::Protocol, error.to_string())
    }
}

/// The fold. Pings, and events of kinds it does not know, change nothing.
#[derive(Debug, Default)]
pub struct Accumulator {
    /// The message object without content; `None` before `message_start`.
    envelope: Option<RawObject>,
    usage: RawObject,
    done: Vec<Box<RawValue>>,
    open: Option<OpenBlock>,
    /// A tool call whose input is unreadable; whether that is an error depends on the stop reason.
    bad_input: Option<AccumulateError>,
    last_is_tool_use: bool,
    stopped: bool,
    bytes: usize,
}

#[derive(Deserialize)]
struct BlockEvent<'a> {
    index: usize,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
}

impl Accumulator {
    /// An empty fold.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event. Gives what a preview may show of it.
    ///
    /// # Errors
    /// [`AccumulateError`] when the stream is not a well-formed message; the fold is then of no
    /// further use, save for [`Accumulator::usage`].
    pub fn push(&mut self, event: &StreamEvent) -> Result<Option<Delta>, AccumulateError> {
        self.bytes = self.bytes.saturating_add(event.data.get().len());
        if MAX_ANSWER_BYTES < self.bytes {
            return Err(AccumulateError::TooLarge);
        }
        match event.name.as_str() {
            "message_start" => self.message_start(event),
            "content_block_start" => self.block_start(event),
            "content_block_delta" => self.block_delta(event),
            "content_block_stop" => self.block_stop(event),
            "message_delta" => self.message_delta(event),
            "message_stop" => {
                if self.envelope.is_none() || self.open.is_some() || self.stopped {
                    return Err(order(event));
                }
                self.stopped = true;
                Ok(Some(Delta::MessageStop))
            }
            _ => Ok(None),
        }
    }

    /// The counts so far: what an interrupted or failed answer has used.
    pub fn usage(&self) -> Usage {
        Usage::from_fields(&self.usage)
    }

    /// Whether `message_start` has come.
    pub fn started(&self) -> bool {
        self.envelope.is_some()
    }

    /// The whole message.
    ///
    /// # Errors
    /// [`AccumulateError::Incomplete`] before the end (a missing `message_stop` is forgiven when
    /// the stop reason is known and no block is open), [`AccumulateError::ToolInput`] when the
    /// model wrote a tool call nobody can read.
    pub fn finish(mut self) -> Result<Message, AccumulateError> {
        let usage = self.usage();
        let Some(mut envelope) = self.envelope.take() else {
            return Err(AccumulateError::Incomplete);
        };
        let Some(stop_reason) = envelope.read::<String>("stop_reason") else {
            return Err(AccumulateError::Incomplete);
        };
        if self.open.is_some() {
            return Err(AccumulateError::Incomplete);
        }
        let out_of_room = matches!(
            stop_reason.as_str(),
            "max_tokens" | "model_context_window_exceeded"
        );
        let truncated_tool_use = out_of_room && self.last_is_tool_use;
        if truncated_tool_use {
            self.done.pop();
            // Only the last call can be cut short; an earlier unreadable one stays an error.
            if matches!(&self.bad_input, Some(AccumulateError::ToolInput { index, .. }) if *index == self.done.len())
            {
                self.bad_input = None;
            }
        }
        if let Some(error) = self.bad_input {
            return Err(error);
        }
        envelope.set_raw("usage", self.usage.to_raw());
        Ok(Message {
            id: envelope.read("id").unwrap_or_default(),
            model: envelope.read("model").unwrap_or_default(),
            content: self.done,
            stop_details: envelope
                .get("stop_details")
                .filter(|d| d.get() != "null")
                .map(ToOwned::to_owned),
            stop_reason,
            usage,
            truncated_tool_use,
            envelope,
        })
    }

    fn message_start(&mut self, event: &StreamEvent) -> Result<Option<Delta>, AccumulateError> {
        if self.envelope.is_some() {
            return Err(order(event));
        }
        let fields: RawObject = parse(event)?;
        let mut message: RawObject = fields.read("message").ok_or_else(|| malformed(event))?;
        if let Some(usage) = message.read::<RawObject>("usage") {
            self.usage = usage;
        }
        // Its place in the object stays; the content goes there at the end.
        message.set_raw("content", to_raw::<[u8; 0]>(&[]));
        self.envelope = Some(message);
        Ok(Some(Delta::MessageStart))
    }

    fn block_start(&mut self, event: &StreamEvent) -> Result<Option<Delta>, AccumulateError> {
        let Some(envelope) = self.envelope.as_mut().filter(|_| !self.stopped) else {
            return Err(order(event));
        };
        let start: BlockEvent = parse(event)?;
        if self.open.is_some() || start.index != self.done.len() {
            return Err(order(event));
        }
        if self.done.len() == MAX_BLOCKS {
            return Err(AccumulateError::TooLarge);
        }
        let raw = start.content_block.ok_or_else(|| malformed(event))?;
        let block = OpenBlock::start(raw).ok_or_else(|| malformed(event))?;
        if let Some(model) = block.fallback_model() {
            envelope.set("model", model);
        }
        let kind = block.kind();
        self.open = Some(block);
        Ok(Some(Delta::BlockStart {
            index: start.index,
            kind,
        }))
    }

    fn block_delta(&mut self, event: &StreamEvent) -> Result<Option<Delta>, AccumulateError> {
        let step: BlockEvent = parse(event)?;
        let index = self.done.len();
        let Some(block) = self.open.as_mut().filter(|_| step.index == index) else {
            return Err(order(event));
        };
        let raw = step.delta.ok_or_else(|| malformed(event))?;
        block.add(index, raw).map_err(|()| malformed(event))
    }

    fn block_stop(&mut self, event: &StreamEvent) -> Result<Option<Delta>, AccumulateError> {
        let stop: BlockEvent = parse(event)?;
        let index = self.done.len();
        if stop.index != index {
            return Err(order(event));
        }
        let Some(block) = self.open.take() else {
            return Err(order(event));
        };
        self.last_is_tool_use = block.is_tool_use();
        let (raw, readable) = block.finish(index);
        if let Err(error) = readable {
            self.bad_input.get_or_insert(error);
        }
        self.done.push(raw);
        Ok(Some(Delta::BlockStop { index }))
    }

    fn message_delta(&mut self, event: &StreamEvent) -> Result<Option<Delta>, AccumulateError> {
        let fields: RawObject = parse(event)?;
        let Some(envelope) = self.envelope.as_mut().filter(|_| !self.stopped) else {
            return Err(order(event));
        };
        for (key, value) in fields.iter() {
            match key {
                "type" => {}
                "delta" => {
                    let delta: RawObject =
                        serde_json::from_str(value.get()).map_err(|_| malformed(event))?;
                    merge(envelope, &delta);
                }
                // Counts are running totals: they replace what was known.
                "usage" => {
                    let usage: RawObject =
                        serde_json::from_str(value.get()).map_err(|_| malformed(event))?;
                    merge(&mut self.usage, &usage);
                }
                // `context_management` and whatever comes later.
                _ if value.get() == "null" => {}
                _ => envelope.set_raw(key, value.to_owned()),
            }
        }
        Ok(None)
    }
}

/// Overwrites fields; a null never hides a value that is already known.
fn merge(into: &mut RawObject, from: &RawObject) {
    for (key, value) in from.iter() {
        if value.get() != "null" || into.get(key).is_none() {
            into.set_raw(key, value.to_owned());
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(event: &'a StreamEvent) -> Result<T, AccumulateError> {
    serde_json::from_str(event.data.get()).map_err(|_| malformed(event))
}

fn malformed(event: &StreamEvent) -> AccumulateError {
    AccumulateError::Malformed {
        event: event.name.clone(),
    }
}

fn order(event: &StreamEvent) -> AccumulateError {
    AccumulateError::Order {
        event: event.name.clone(),
    }
}

#[cfg(test)]
mod tests;
