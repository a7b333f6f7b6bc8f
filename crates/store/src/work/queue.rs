//! When items come and go.

use freehold_base::limits::MAX_METADATA_VALUE;
use freehold_base::{IdSource, SessionId, Timestamp, WorkId};
use freehold_wire::agent::Metadata;
use freehold_wire::work::{LAPSED_AT, LAPSED_WORK, WorkState};

use super::WorkRow;
use crate::StoreError;
use crate::backend::{Announcement, Tx, one, params};

/// Longest delay of an item whose predecessors ended without progress, in milliseconds. Without it
/// a session that every worker gives up at once would keep the whole fleet busy.
const MAX_DELAY_MS: i64 = 60_000;

/// Milliseconds an item waits: none for the first two, then one second, doubling.
fn delay_ms(attempt: i64) -> i64 {
    let doublings = u32::try_from(attempt - 2).ok();
    doublings.map_or(0, |n| {
        1_000i64
            .checked_shl(n.min(6))
            .unwrap_or(i64::MAX)
            .min(MAX_DELAY_MS)
    })
}

/// Queues an item for a session that needs a worker, unless it has one. Call it where something
/// happened that counts as progress: it also takes a delay away.
pub(crate) fn ensure(
    tx: &mut dyn Tx,
    ids: &IdSource,
    session: &SessionId,
) -> Result<(), StoreError> {
    let now = tx.now();
    let sql = "SELECT id, attempt FROM work WHERE session_id = ?1 AND state <> 'stopped'";
    let Some(mut live) = one(tx.query(sql, params![session])?) else {
        // Nothing was left to do when its last item ended, so nothing can have run unheard of.
        return insert(tx, ids, session, 0, &Metadata::new());
    };
    let (id, attempt): (WorkId, _) = (live.id("work id")?, live.int("work attempt")?);
    if attempt > 0 {
        tx.execute(
            "UPDATE work SET attempt = 0,
               available_at = CASE WHEN available_at > ?2 THEN ?2 ELSE available_at END
             WHERE id = ?1",
            params![&id, now],
        )?;
    }
    Ok(())
}

fn insert(
    tx: &mut dyn Tx,
    ids: &IdSource,
    session: &SessionId,
    attempt: i64,
    metadata: &Metadata,
) -> Result<(), StoreError> {
    let now = tx.now();
    let metadata = serde_json::to_string(metadata).unwrap_or_else(|_| "{}".to_owned());
    let id: WorkId = ids.next();
    let made = tx.query(
        "INSERT INTO work (id, environment_id, session_id, state, metadata, attempt, available_at,
           handed_out, created_at)
         SELECT ?1, environment_id, id, 'queued', ?6, ?3, ?4, 0, ?5 FROM session
         WHERE id = ?2 AND self_hosted = 1 AND archived_at IS NULL AND status <> 'terminated'
         RETURNING environment_id",
        params![
            &id,
            session,
            attempt,
            now.plus_millis(delay_ms(attempt)),
            now,
            &metadata,
        ],
    )?;
    if let Some(mut row) = one(made) {
        let environment = row.id("work environment")?;
        tx.announce(Announcement::Queued(environment));
    }
    Ok(())
}

/// Whether a session without an item has something for a worker to do, or soon will.
fn is_needed(tx: &mut dyn Tx, session: &SessionId) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM session s WHERE s.id = ?1 AND (
       s.status NOT IN ('idle', 'terminated') OR s.blocked = 1
       OR EXISTS (SELECT 1 FROM inbox i WHERE i.session_id = s.id))";
    Ok(!tx.query(sql, params![session])?.is_empty())
}

/// Why an item ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody said so.
    Stopped,
    /// Nobody was heard of.
    Lapsed,
    /// Somebody else than its worker said so, who may not have heard of it yet.
    Cut,
}

/// Ends an item, and queues another one if its session still has work to do.
pub(super) fn end(
    tx: &mut dyn Tx,
    ids: &IdSource,
    row: &WorkRow,
    why: End,
) -> Result<WorkRow, StoreError> {
    let now = tx.now();
    let asked = match why {
        End::Stopped | End::Cut => Some(row.stop_requested_at.unwrap_or(now)),
        End::Lapsed => row.stop_requested_at,
    };
    tx.execute(
        "UPDATE work SET state = 'stopped', stopped_at = ?2, stop_requested_at = ?3,
           lease_until = NULL WHERE id = ?1",
        params![&row.id, now, asked],
    )?;
    tx.announce(Announcement::WorkEnded);
    if is_needed(tx, &row.session_id)? {
        // A lapse has taken its time already.
        let attempt = row.attempt + i64::from(why != End::Lapsed);
        // Calls are held against this: none of those in the log may count as later, also if the clock
        // was put back since.
        let last = "SELECT last_processed_at FROM session WHERE id = ?1";
        let last = one(tx.query(last, params![&row.session_id])?);
        let last = last.map_or(Ok(now), |mut found| found.time("last event"))?;
        let lost = lost(row, why, now.max(last));
        insert(tx, ids, &row.session_id, attempt, &lost)?;
    }
    Ok(WorkRow {
        state: WorkState::Stopped,
        stopped_at: Some(now),
        stop_requested_at: asked,
        lease_until: None,
        ..row.clone()
    })
}

/// What the next item says of workers that were lost: those of this item, and those it says itself.
fn lost(row: &WorkRow, why: End, now: Timestamp) -> Metadata {
    let kept = |key: &str| row.metadata.get(key).cloned();
    let (mut at, mut works) = (kept(LAPSED_AT), kept(LAPSED_WORK));
    if why != End::Stopped && row.acknowledged_at.is_some() {
        // Once they were too many to name they stay so.
        works = match (&at, works) {
            (None, _) => Some(row.id.to_string()),
            (Some(_), Some(works)) if !works.is_empty() => Some(format!("{works},{}", row.id)),
            (Some(_), _) => Some(String::new()),
        }
        .map(|works| {
            if MAX_METADATA_VALUE < works.len() {
                String::new()
            } else {
                works
            }
        });
        at = Some(now.to_string());
    }
    let pairs = [(LAPSED_AT, at), (LAPSED_WORK, works)];
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}

/// Ends the item of a session that takes no more work.
pub(crate) fn forget_session(tx: &mut dyn Tx, session: &SessionId) -> Result<(), StoreError> {
    let now: Timestamp = tx.now();
    let ended = tx.execute(
        "UPDATE work SET state = 'stopped', stopped_at = ?2, lease_until = NULL
         WHERE session_id = ?1 AND state <> 'stopped'",
        params![session, now],
    )?;
    if ended > 0 {
        tx.announce(Announcement::WorkEnded);
    }
    Ok(())
}
