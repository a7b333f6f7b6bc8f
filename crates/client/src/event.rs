//! An event as the server sent it.

use freehold_wire::event::EventBody;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::ClientError;

/// A session event. Types and fields this version does not know are kept in [`Event::raw`].
#[derive(Debug, Clone)]
pub struct Event {
    /// `sevt_…`.
    pub id: String,
    /// `type`, for example `agent.message`.
    pub kind: String,
    /// RFC 3339; `None` while a client's event waits to be processed.
    pub processed_at: Option<String>,
    raw: Box<RawValue>,
}

#[derive(Deserialize)]
struct Head {
    id: String,
    r#type: String,
    #[serde(default)]
    processed_at: Option<String>,
}

impl Event {
    /// Reads one event.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] without `id` or `type`.
    pub fn read(raw: Box<RawValue>) -> Result<Self, ClientError> {
        let head: Head = serde_json::from_str(raw.get())
            .map_err(|e| ClientError::Protocol(format!("an event cannot be read: {e}")))?;
        Ok(Self {
            id: head.id,
            kind: head.r#type,
            processed_at: head.processed_at,
            raw,
        })
    }

    /// The JSON exactly as received.
    pub fn raw(&self) -> &str {
        self.raw.get()
    }

    /// The typed form; `None` for a type, or a shape of it, that this version does not know.
    pub fn body(&self) -> Option<EventBody> {
        EventBody::parse(&self.kind, self.raw.get()).ok().flatten()
    }

    /// Whether no further event of the session can follow.
    pub fn is_last(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "session.deleted" | "session.status_terminated"
        )
    }
}
