//! The work queue of self-hosted environments (contract 50).
//!
//! - A session has at most one item that has not stopped (a unique index, not a convention).
//! - An item is queued in the transaction that makes it needed: the session is made, input is
//!   accepted, the agent goes on or waits, or the item before it ended with something left to do.
//! - Every item in a worker's hands has a time at which it ends unless the worker is heard of
//!   (`lease_until`). A stopped item never comes back; the session gets another one.
//! - A token is known by its hash, belongs to one handing out of one item to one key, and opens
//!   nothing once the item has stopped or the key is revoked.

mod lease;
mod poll;
mod queue;
mod read;

use freehold_base::{EnvironmentId, SessionId, Timestamp, WorkId};
use freehold_wire::agent::Metadata;
use freehold_wire::work::WorkState;

pub use lease::{AckError, Beat, BeatError, NewBeat, StopError};
pub use poll::NewPoll;
pub(crate) use poll::take_back;
pub(crate) use queue::{ensure, forget_session};
pub use read::{QueueStats, WorkQuery};

use crate::StoreError;
use crate::backend::{Row, Tx, one, params};

/// A work item.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkRow {
    /// Its id.
    pub id: WorkId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// The session it is about; may be gone.
    pub session_id: SessionId,
    /// Where it is.
    pub state: WorkState,
    /// Metadata.
    pub metadata: Metadata,
    /// Items before it that ended without progress.
    pub attempt: i64,
    /// When it ends unless it is extended.
    pub lease_until: Option<Timestamp>,
    /// When it was queued.
    pub created_at: Timestamp,
    /// When a worker acknowledged it.
    pub acknowledged_at: Option<Timestamp>,
    /// When its first heartbeat came.
    pub started_at: Option<Timestamp>,
    /// Its latest heartbeat; rises strictly.
    pub latest_heartbeat_at: Option<Timestamp>,
    /// When it was asked to stop.
    pub stop_requested_at: Option<Timestamp>,
    /// When it stopped.
    pub stopped_at: Option<Timestamp>,
}

/// Column order of [`work`].
const COLUMNS: &str = "id, environment_id, session_id, state, metadata, attempt, lease_until, \
   created_at, acknowledged_at, started_at, latest_heartbeat_at, stop_requested_at, stopped_at";

fn work(mut row: Row) -> Result<WorkRow, StoreError> {
    Ok(WorkRow {
        id: row.id("work id")?,
        environment_id: row.id("work environment")?,
        session_id: row.id("work session")?,
        state: WorkState::from_name(&row.text("work state")?)
            .ok_or(StoreError::Corrupt { what: "work state" })?,
        metadata: serde_json::from_str(&row.text("work metadata")?).map_err(|_| {
            StoreError::Corrupt {
                what: "work metadata",
            }
        })?,
        attempt: row.int("work attempt")?,
        lease_until: row.opt_time("work time")?,
        created_at: row.time("work time")?,
        acknowledged_at: row.opt_time("work time")?,
        started_at: row.opt_time("work time")?,
        latest_heartbeat_at: row.opt_time("work time")?,
        stop_requested_at: row.opt_time("work time")?,
        stopped_at: row.opt_time("work time")?,
    })
}

fn get(
    tx: &mut dyn Tx,
    environment: &EnvironmentId,
    id: &WorkId,
) -> Result<Option<WorkRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM work WHERE id = ?1 AND environment_id = ?2");
    one(tx.query(&sql, params![id, environment])?)
        .map(work)
        .transpose()
}

/// The time so many seconds after `now`.
fn after(now: Timestamp, seconds: u64) -> Timestamp {
    now.plus_millis(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX))
}
