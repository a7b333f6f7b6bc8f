//! Page cursors (contract 00 §6): opaque, `page_` and base 64. A cursor is bound to its list (and the
//! resource the list belongs to) and to its order. It holds no secret and grants nothing: whoever
//! makes one up only chooses where in a list of their own to start.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use freehold_base::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ApiError;
use crate::query::error;

/// Bytes of a cursor; ours are below 300, but for one that holds the path of a memory.
const MAX_CURSOR: usize = 4096;
const PREFIX: &str = "page_";

/// The list a cursor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum List {
    /// `GET /v1/agents`.
    #[serde(rename = "agents")]
    Agents,
    /// `GET /v1/agents/{id}/versions`.
    #[serde(rename = "versions")]
    AgentVersions,
    /// `GET /v1/environments`.
    #[serde(rename = "environments")]
    Environments,
    /// `GET /v1/sessions`.
    #[serde(rename = "sessions")]
    Sessions,
    /// `GET /v1/sessions/{id}/events`.
    #[serde(rename = "events")]
    Events,
    /// `GET /v1/sessions/{id}/threads`.
    #[serde(rename = "threads")]
    Threads,
    /// `GET /v1/sessions/{id}/threads/{id}/events`.
    #[serde(rename = "thread_events")]
    ThreadEvents,
    /// `GET /v1/sessions/{id}/resources`.
    #[serde(rename = "resources")]
    Resources,
    /// `GET /v1/files`.
    #[serde(rename = "files")]
    Files,
    /// `GET /v1/skills`.
    #[serde(rename = "skills")]
    Skills,
    /// `GET /v1/skills/{id}/versions`.
    #[serde(rename = "skill_versions")]
    SkillVersions,
    /// `GET /v1/memory_stores`.
    #[serde(rename = "memory_stores")]
    MemoryStores,
    /// `GET /v1/memory_stores/{id}/memories`.
    #[serde(rename = "memories")]
    Memories,
    /// `GET /v1/memory_stores/{id}/memory_versions`.
    #[serde(rename = "memory_versions")]
    MemoryVersions,
    /// `GET /v1/environments/{id}/work`.
    #[serde(rename = "work")]
    Work,
    /// `GET /v1/vaults`.
    #[serde(rename = "vaults")]
    Vaults,
    /// `GET /v1/vaults/{id}/credentials`.
    #[serde(rename = "credentials")]
    Credentials,
    /// `GET /v1/tunnels`.
    #[serde(rename = "tunnels")]
    Tunnels,
    /// `GET /v1/tunnels/{id}/certificates`.
    #[serde(rename = "tunnel_certificates")]
    TunnelCertificates,
    /// A list of our own admin endpoints.
    #[serde(rename = "admin")]
    Admin,
}

/// Sort order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Oldest first.
    #[serde(rename = "asc")]
    Asc,
    /// Newest first.
    #[serde(rename = "desc")]
    Desc,
}

impl Order {
    /// Names on the wire.
    pub const NAMES: [(&'static str, Self); 2] = [("asc", Self::Asc), ("desc", Self::Desc)];
}

/// Which page a cursor asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Items after the position, in the list's order.
    #[serde(rename = "n")]
    Next,
    /// Items before it.
    #[serde(rename = "p")]
    Prev,
}

/// Where in a list a page starts; exclusive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// A creation time and the id that breaks ties.
    #[serde(rename = "t")]
    Created(i64, String),
    /// Sequence numbers in the log and in the inbox.
    #[serde(rename = "s")]
    Sequence(i64, i64),
    /// A number, such as an agent's version.
    #[serde(rename = "v")]
    Number(u64),
    /// The path of a memory, or with a `/` at its end of a folder of memories.
    #[serde(rename = "p")]
    Path(String),
}

/// A page cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Which page.
    pub direction: Direction,
    /// From where.
    pub position: Position,
}

/// What a cursor must match: made once for each list request.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// The list.
    pub list: List,
    /// The id of the resource the list belongs to, or empty.
    pub parent: &'a str,
    /// The order asked for.
    pub order: Order,
}

/// What is inside the base 64: list, parent, order, direction, position.
#[derive(Serialize, Deserialize)]
struct Inner(List, String, Order, Direction, Position);

impl Scope<'_> {
    /// The text of a cursor of this list.
    pub fn encode(&self, direction: Direction, position: Position) -> String {
        let inner = Inner(
            self.list,
            self.parent.to_owned(),
            self.order,
            direction,
            position,
        );
        // Our own closed types always serialise.
        let json = serde_json::to_vec(&inner).unwrap_or_default();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    /// Cursor of the page after an item.
    pub fn next(&self, position: Position) -> String {
        self.encode(Direction::Next, position)
    }

    /// Cursor of the page before an item.
    pub fn prev(&self, position: Position) -> String {
        self.encode(Direction::Prev, position)
    }

    /// Reads a cursor of this list.
    ///
    /// # Errors
    /// 400: it is damaged, of another list, or of another order.
    pub fn decode(&self, text: &str) -> Result<Cursor, ApiError> {
        let inner: Inner = text
            .strip_prefix(PREFIX)
            .filter(|_| text.len() <= MAX_CURSOR)
            .and_then(|body| URL_SAFE_NO_PAD.decode(body).ok())
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| error("page", "not a valid page cursor"))?;
        let Inner(list, parent, order, direction, position) = inner;
        if list != self.list || parent != self.parent {
            return Err(error("page", "this page cursor belongs to another list"));
        }
        if order != self.order {
            return Err(error(
                "page",
                "this page cursor was made for another `order`; start again without `page`",
            ));
        }
        let fits = match (&position, list) {
            (
                Position::Created(..),
                List::AgentVersions
                | List::SkillVersions
                | List::Events
                | List::ThreadEvents
                | List::Memories,
            ) => false,
            (Position::Created(..), _) => true,
            (Position::Sequence(..), list) => matches!(list, List::Events | List::ThreadEvents),
            (Position::Number(_), list) => {
                matches!(list, List::AgentVersions | List::SkillVersions)
            }
            (Position::Path(_), list) => list == List::Memories,
        };
        if !fits || (direction == Direction::Prev && list != List::Sessions) {
            return Err(error("page", "not a valid page cursor"));
        }
        Ok(Cursor {
            direction,
            position,
        })
    }
}

/// Bounds on a creation time; `gt` and `lt` exclude, `gte` and `lte` include.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRange {
    /// Later than.
    pub gt: Option<Timestamp>,
    /// At or later than.
    pub gte: Option<Timestamp>,
    /// Earlier than.
    pub lt: Option<Timestamp>,
    /// At or earlier than.
    pub lte: Option<Timestamp>,
}

impl TimeRange {
    /// Whether any bound is set.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }
    /// Whether a time lies within all bounds.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.gt.is_none_or(|t| t < time)
            && self.gte.is_none_or(|t| t <= time)
            && self.lt.is_none_or(|t| time < t)
            && self.lte.is_none_or(|t| time <= t)
    }
    /// Checks that a cursor still lies within the bounds.
    ///
    /// # Errors
    /// 400 when the `created_at` filters now exclude its position (contract 00 §6).
    pub fn check(&self, cursor: &Cursor) -> Result<(), ApiError> {
        match &cursor.position {
            Position::Created(micros, _) if !self.contains(Timestamp::from_micros(*micros)) => {
                Err(error(
                    "page",
                    "the created_at filters exclude the position of this page cursor; start again without `page`",
                ))
            }
            _ => Ok(()),
        }
    }
}
