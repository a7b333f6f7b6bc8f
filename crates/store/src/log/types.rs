//! What the log's operations take and give.

use std::sync::Arc;

use freehold_base::{EventId, SessionId, Timestamp};
use freehold_wire::event::{self, EventBody};
use freehold_wire::session::Status;

use crate::StoreError;

/// An event to be appended or queued.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// Its wire `type`.
    pub kind: String,
    /// Wire JSON without `processed_at`.
    pub payload: String,
    /// The event it answers or refers to.
    pub ref_id: Option<EventId>,
    /// Server-private JSON; never on the wire.
    pub detail: Option<String>,
}

impl NewEvent {
    /// The stored form of `body`.
    pub fn new(id: EventId, body: &EventBody) -> Self {
        Self {
            kind: body.kind().to_owned(),
            payload: body.payload(&id),
            ref_id: body.ref_id().cloned(),
            detail: None,
            id,
        }
    }
    /// The same with server-private JSON beside it.
    pub fn with_detail(self, detail: String) -> Self {
        Self {
            detail: Some(detail),
            ..self
        }
    }
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place, gapless from 1.
    pub seq: i64,
    /// Its id.
    pub id: EventId,
    /// Its wire `type`.
    pub kind: String,
    /// Lease epoch of its writer; 0 for an external one.
    pub epoch: i64,
    /// The event it answers or refers to.
    pub ref_id: Option<EventId>,
    /// When it entered the log; rises strictly with `seq`.
    pub processed_at: Timestamp,
    /// Wire JSON without `processed_at`.
    pub payload: String,
    /// Server-private JSON; `None` where it was not asked for.
    pub detail: Option<String>,
}

impl StoredEvent {
    /// The event as clients see it.
    pub fn wire(&self) -> String {
        event::with_processed_at(&self.payload, Some(self.processed_at))
    }
}

/// Input that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxItem {
    /// Its place in the inbox, from 1.
    pub seq: i64,
    /// The id its event has and keeps.
    pub id: EventId,
    /// Its wire `type`.
    pub kind: String,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Wire JSON without `processed_at`.
    pub payload: String,
}

impl InboxItem {
    /// The event as clients see it: `processed_at` is null.
    pub fn wire(&self) -> String {
        event::with_processed_at(&self.payload, None)
    }
}

/// What becomes of the lease after an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Keep it.
    Stay,
    /// Compare-and-idle: give up the lease and clear the wake-up time iff no input was accepted
    /// since the inbox stood at `inbox_head`; otherwise the whole append fails with
    /// [`AppendError::InputArrived`]. Items the caller knows of and leaves open do not matter.
    Idle {
        /// The inbox's head as the caller last saw it.
        inbox_head: i64,
    },
    /// Keep it; if this process dies, another driver is wanted after so many milliseconds, or at
    /// once if input is waiting.
    WakeAfter(i64),
}

/// One atomic change of a session by its driver.
#[derive(Debug, Clone)]
pub struct Append {
    /// The session.
    pub session: SessionId,
    /// The writer's lease epoch; 0 is external and not checked, and must `Stay`.
    pub epoch: i64,
    /// Only if the log still ends here.
    pub expected_head: Option<i64>,
    /// The events, in order.
    pub events: Vec<NewEvent>,
    /// Inbox places that leave the inbox.
    pub consume: Vec<i64>,
    /// The session's new status.
    pub status: Option<Status>,
    /// Whether the session is idle with `requires_action`.
    pub blocked: Option<bool>,
    /// The new effective `SessionAgent`, JSON.
    pub agent: Option<String>,
    /// Opaque JSON kept on the session's row.
    pub summary: Option<String>,
    /// What becomes of the lease.
    pub then: Then,
}

/// What an append gave.
#[derive(Debug, Clone)]
pub struct Appended {
    /// The log's last `seq`.
    pub head: i64,
    /// The events as stored.
    pub events: Vec<Arc<StoredEvent>>,
}

/// Why an append was refused; nothing of it happened.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else holds the lease.
    #[error("the lease was lost")]
    Fenced,
    /// Somebody appended since the caller looked, or an input it consumes is not open.
    #[error("the log has moved on")]
    HeadMoved,
    /// Input arrived since the caller looked.
    #[error("input arrived")]
    InputArrived,
    /// The tool use has a result already.
    #[error("{0} is answered already")]
    AlreadyAnswered(EventId),
    /// The session does not exist any more.
    #[error("the session is gone")]
    SessionGone,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Client input.
#[derive(Debug, Clone)]
pub enum Input {
    /// Waits in the inbox for the driver.
    Queue {
        /// The event it becomes.
        event: NewEvent,
        /// Whether an idle session starts to run on it.
        starts_turn: bool,
    },
    /// Processed on receipt: appended to the log at once, as an external write.
    Record {
        /// The event.
        event: NewEvent,
    },
}

impl Input {
    /// The event.
    pub fn event(&self) -> &NewEvent {
        match self {
            Self::Queue { event, .. } | Self::Record { event } => event,
        }
    }
}

/// Accepted input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: EventId,
    /// Wire JSON without `processed_at`.
    pub payload: String,
    /// `None` while it waits.
    pub processed_at: Option<Timestamp>,
}

impl Accepted {
    /// The event as clients see it.
    pub fn wire(&self) -> String {
        event::with_processed_at(&self.payload, self.processed_at)
    }
}

/// Why input was refused; none of it was taken.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// No such session.
    #[error("the session is gone")]
    SessionGone,
    /// The session is archived or terminated.
    #[error("the session takes no more input")]
    Closed,
    /// The tool use has a result, or a verdict, already.
    #[error("{0} is answered already")]
    AlreadyAnswered(EventId),
    /// Too much is waiting ([`freehold_base::limits::MAX_QUEUED_EVENTS`] or
    /// [`freehold_base::limits::MAX_QUEUED_BYTES`]).
    #[error("too much input is waiting")]
    InboxFull,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// A lease taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The new epoch; every older one is fenced.
    pub epoch: i64,
    /// The log's last `seq`.
    pub head: i64,
    /// The inbox's last `seq`.
    pub inbox_head: i64,
}

/// Which events to list. Ascending is the log and then what waits; descending is what waits, newest
/// first, and then the log.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Only these types; empty is all.
    pub types: Vec<String>,
    /// Only processed after. With any time bound set, waiting input is left out.
    pub gt: Option<Timestamp>,
    /// Only processed at or after.
    pub gte: Option<Timestamp>,
    /// Only processed before.
    pub lt: Option<Timestamp>,
    /// Only processed at or before.
    pub lte: Option<Timestamp>,
    /// Newest first.
    pub descending: bool,
    /// Only what comes after this position, `(log seq, inbox seq)`; see [`EventQuery::position`].
    pub after: Option<(i64, i64)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

impl EventQuery {
    /// The position after a page of this query: the `after` of the next. `page` without the surplus
    /// item; `None` if it is empty.
    pub fn position(&self, page: &[Listed]) -> Option<(i64, i64)> {
        let (log, inbox) = self.after.unwrap_or(if self.descending {
            (i64::MAX, i64::MAX)
        } else {
            (0, 0)
        });
        Some(match (page.last()?, self.descending) {
            (Listed::Event(e), false) => (e.seq, inbox),
            (Listed::Event(e), true) => (e.seq, 0),
            (Listed::Queued(i), true) => (log, i.seq),
            (Listed::Queued(i), false) => {
                let last = page.iter().rev().find_map(|l| match l {
                    Listed::Event(e) => Some(e.seq),
                    Listed::Queued(_) => None,
                });
                (last.unwrap_or(log), i.seq)
            }
        })
    }
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// In the log; its `detail` is left out.
    Event(StoredEvent),
    /// Still waiting.
    Queued(InboxItem),
}

impl Listed {
    /// The event as clients see it.
    pub fn wire(&self) -> String {
        match self {
            Self::Event(event) => event.wire(),
            Self::Queued(item) => item.wire(),
        }
    }
    /// Its id.
    pub fn id(&self) -> &EventId {
        match self {
            Self::Event(event) => &event.id,
            Self::Queued(item) => &item.id,
        }
    }
}
