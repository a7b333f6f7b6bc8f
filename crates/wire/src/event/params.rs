//! Events that clients send (contract 40, "Inbound events"; contract 30, `initial_events`).

use freehold_base::limits::MAX_EVENTS_PER_SEND;
use freehold_base::{EventId, ThreadId};
use serde_json::Value;

use super::blocks::{Allowed, content};
pub use super::deltas::{Deltas, event_deltas};
use super::outcome::DefineOutcome;
use super::{
    ContentOnly, CustomToolResult, EventBody, ToolConfirmation, ToolResult, UserInterrupt, Verdict,
};
use crate::ApiError;
use crate::content::{ContentBlock, Source};
use crate::decode::{At, Decode, Object, boolean, id, list, one_of, text};
use crate::request::Request;

/// Characters of a `deny_message`; our own bound, the contract names none.
const MAX_DENY_MESSAGE: usize = 100_000;
/// File-sourced document blocks over all initial events (contract 30).
const MAX_INITIAL_DOCUMENTS: usize = 100;

/// An event that a client sends.
#[derive(Debug, Clone, PartialEq)]
pub enum EventParams {
    /// `user.message`.
    Message(ContentOnly),
    /// `user.interrupt`.
    Interrupt(UserInterrupt),
    /// `user.tool_confirmation`.
    Confirmation(ToolConfirmation),
    /// `user.custom_tool_result`.
    CustomToolResult(CustomToolResult),
    /// `user.tool_result`; only in self-hosted environments.
    ToolResult(ToolResult),
    /// `user.define_outcome`; not run by this version.
    DefineOutcome(DefineOutcome),
    /// `system.message`.
    System(ContentOnly),
}

const TAGS: [&str; 7] = [
    "user.message",
    "user.interrupt",
    "user.tool_confirmation",
    "user.custom_tool_result",
    "user.tool_result",
    "user.define_outcome",
    "system.message",
];

impl EventParams {
    /// Reads one event.
    ///
    /// # Errors
    /// It breaks a rule of its type.
    pub fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let tag = o.tag(&TAGS)?;
        let event = match tag {
            "user.message" => Self::Message(ContentOnly {
                content: o.required("content", content(Allowed::Message, 1))?,
            }),
            "user.interrupt" => Self::Interrupt(UserInterrupt {
                session_thread_id: o.optional("session_thread_id", id)?,
            }),
            "user.tool_confirmation" => Self::Confirmation(confirmation(&mut o)?),
            "user.custom_tool_result" => Self::CustomToolResult(CustomToolResult {
                custom_tool_use_id: o.required("custom_tool_use_id", id)?,
                content: result_content(&mut o)?,
                is_error: o.optional("is_error", boolean)?,
            }),
            "user.tool_result" => Self::ToolResult(ToolResult {
                tool_use_id: o.required("tool_use_id", id)?,
                content: result_content(&mut o)?,
                is_error: o.optional("is_error", boolean)?,
            }),
            "user.define_outcome" => Self::DefineOutcome(DefineOutcome::decode(&mut o)?),
            _ => Self::System(ContentOnly {
                content: o.required("content", content(Allowed::System, 1))?,
            }),
        };
        if event.answers().is_some() {
            // Older clients send it here; the server routes by the tool use instead (contract 40).
            o.ignore("session_thread_id");
        }
        o.finish()?;
        Ok(event)
    }

    /// The `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Message(_) => "user.message",
            Self::Interrupt(_) => "user.interrupt",
            Self::Confirmation(_) => "user.tool_confirmation",
            Self::CustomToolResult(_) => "user.custom_tool_result",
            Self::ToolResult(_) => "user.tool_result",
            Self::DefineOutcome(_) => "user.define_outcome",
            Self::System(_) => "system.message",
        }
    }

    /// The tool use event it answers.
    pub fn answers(&self) -> Option<&EventId> {
        match self {
            Self::Confirmation(c) => Some(&c.tool_use_id),
            Self::CustomToolResult(r) => Some(&r.custom_tool_use_id),
            Self::ToolResult(r) => Some(&r.tool_use_id),
            _ => None,
        }
    }

    /// The thread it is addressed to.
    pub fn thread(&self) -> Option<&ThreadId> {
        match self {
            Self::Interrupt(i) => i.session_thread_id.as_ref(),
            _ => None,
        }
    }

    /// Whether it is accepted once the budget is spent (contract 30, "Budgets").
    pub fn is_accepted_at_cap(&self) -> bool {
        self.answers().is_some() || matches!(self, Self::Interrupt(_))
    }

    /// Its content blocks.
    pub fn content(&self) -> &[ContentBlock] {
        match self {
            Self::Message(c) | Self::System(c) => &c.content,
            Self::CustomToolResult(r) => &r.content,
            Self::ToolResult(r) => &r.content,
            Self::Interrupt(_) | Self::Confirmation(_) | Self::DefineOutcome(_) => &[],
        }
    }

    /// The uploaded files its blocks name; they must exist in the workspace.
    pub fn file_ids(&self) -> impl Iterator<Item = &str> {
        self.content().iter().filter_map(|block| {
            let source = match block {
                ContentBlock::Image(image) => &image.source,
                ContentBlock::Document(document) => &document.source,
                _ => return None,
            };
            match source {
                Source::File(file) => Some(file.file_id.as_str()),
                _ => None,
            }
        })
    }

    /// The event as it is stored and echoed.
    ///
    /// # Errors
    /// `not_supported_yet` for `user.define_outcome`.
    pub fn into_body(self) -> Decode<EventBody> {
        Ok(match self {
            Self::Message(c) => EventBody::UserMessage(c),
            Self::Interrupt(i) => EventBody::UserInterrupt(i),
            Self::Confirmation(c) => EventBody::UserToolConfirmation(c),
            Self::CustomToolResult(r) => EventBody::UserCustomToolResult(r),
            Self::ToolResult(r) => EventBody::UserToolResult(r),
            Self::System(c) => EventBody::SystemMessage(c),
            Self::DefineOutcome(_) => {
                return Err(crate::unsupported::not_yet("user.define_outcome events"));
            }
        })
    }
}

fn confirmation(o: &mut Object<'_>) -> Decode<ToolConfirmation> {
    let confirmation = ToolConfirmation {
        tool_use_id: o.required("tool_use_id", id)?,
        result: o.required(
            "result",
            one_of(&[("allow", Verdict::Allow), ("deny", Verdict::Deny)]),
        )?,
        deny_message: o.optional("deny_message", text(0, MAX_DENY_MESSAGE))?,
    };
    if confirmation.result == Verdict::Allow && confirmation.deny_message.is_some() {
        return Err(o
            .at()
            .key("deny_message")
            .error("Only allowed when result is 'deny'"));
    }
    Ok(confirmation)
}

fn result_content(o: &mut Object<'_>) -> Decode<Vec<ContentBlock>> {
    Ok(o.present("content", content(Allowed::Result, 0))?
        .unwrap_or_default())
}

/// `POST /v1/sessions/{sid}/events`.
#[derive(Debug, Clone, PartialEq)]
pub struct SendEvents {
    /// In the order they take effect.
    pub events: Vec<EventParams>,
}

impl Request for SendEvents {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let events = o.required("events", |value, at| {
            let events = list(1, MAX_EVENTS_PER_SEND, EventParams::decode)(value, at)?;
            check_system(&events, at)?;
            Ok(events)
        })?;
        o.finish()?;
        Ok(Self { events })
    }
}

impl SendEvents {
    /// Whether the request is a `system.message` and nothing else, which a session that waits for a
    /// client refuses (contract 40).
    pub fn is_lone_system(&self) -> bool {
        matches!(self.events.as_slice(), [EventParams::System(_)])
    }
}

/// The refusal of a `system.message` by a model that takes none (contract 40).
pub fn no_system_messages(model: &str) -> ApiError {
    ApiError::invalid(format!(
        "Model `{}` does not support mid-conversation system messages (model_does_not_support_mid_conversation_system).",
        crate::decode::echo(model)
    ))
    .with_code("model_does_not_support_mid_conversation_system")
}

/// `system.message`: at most one, last, and directly after the input it accompanies or alone.
fn check_system(events: &[EventParams], at: &At<'_>) -> Decode<()> {
    let is_system = |e: &EventParams| matches!(e, EventParams::System(_));
    let Some(first) = events.iter().position(is_system) else {
        return Ok(());
    };
    if events.iter().filter(|e| is_system(e)).nth(1).is_some() {
        return Err(at.error("At most one system.message is allowed per request"));
    }
    if first + 1 != events.len() {
        return Err(at
            .index(first)
            .error("system.message must be the last event of the request"));
    }
    let Some(before) = first.checked_sub(1).and_then(|n| events.get(n)) else {
        return Ok(());
    };
    match before {
        EventParams::Message(_)
        | EventParams::ToolResult(_)
        | EventParams::CustomToolResult(_) => Ok(()),
        _ => Err(at.index(first).error(
            "system.message must directly follow a user.message, user.tool_result or user.custom_tool_result",
        )),
    }
}

/// The rules of `initial_events` beyond those of each event.
pub(crate) fn check_initial(events: &[EventParams], at: &At<'_>) -> Decode<()> {
    let mut outcomes = 0;
    let mut documents = 0;
    for (n, event) in events.iter().enumerate() {
        match event {
            EventParams::Message(message) => {
                documents += message
                    .content
                    .iter()
                    .filter(|block| {
                        matches!(block, ContentBlock::Document(d) if matches!(d.source, Source::File(_)))
                    })
                    .count();
            }
            EventParams::DefineOutcome(_) => outcomes += 1,
            other => {
                return Err(at.index(n).key("type").error(format_args!(
                    "Input tag '{}' is not allowed in initial_events; expected 'user.message' or 'user.define_outcome'",
                    other.kind()
                )));
            }
        }
        if 1 < outcomes {
            return Err(at
                .index(n)
                .error("At most one user.define_outcome is allowed in initial_events"));
        }
    }
    if MAX_INITIAL_DOCUMENTS < documents {
        return Err(at.error(format_args!(
            "At most {MAX_INITIAL_DOCUMENTS} file-sourced document blocks are allowed across initial_events, not {documents}"
        )));
    }
    Ok(())
}
