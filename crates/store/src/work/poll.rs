//! Handing items out, and taking back those whose worker is not heard of.

use freehold_base::{EnvironmentId, EnvironmentKeyId, IdSource, Timestamp};
use freehold_wire::work::WorkState;

use super::queue::{End, end};
use super::{COLUMNS, WorkRow, work};
use crate::backend::{Announcement, Tx, one, params};
use crate::{Store, StoreError};

/// Lapsed items ended in one transaction.
const LAPSED_AT_ONCE: usize = 100;

/// A poll.
#[derive(Debug, Clone)]
pub struct NewPoll {
    /// Of this environment's queue.
    pub environment: EnvironmentId,
    /// Items handed out and not acknowledged for longer than this, in milliseconds, are handed out
    /// again.
    pub reclaim_older_than_ms: u64,
    /// The key that asks: the token goes with it.
    pub key: EnvironmentKeyId,
    /// SHA-256 of the token that goes out with the item; an earlier token of it stops working.
    pub token_hash: [u8; 32],
}

/// `?1` environment, `?2` now, `?3` when what was handed out before counts as lost.
const READY: &str = "state = 'queued' AND environment_id = ?1 AND available_at <= ?2
   AND (polled_at IS NULL OR polled_at <= ?3)";
const LAPSED: &str = "lease_until IS NOT NULL AND lease_until <= ?1";

impl Store {
    /// Hands out the item that waits longest, if there is one.
    ///
    /// # Errors
    /// The store failed.
    pub async fn poll_work(&self, poll: NewPoll) -> Result<Option<WorkRow>, StoreError> {
        let lost = i64::try_from(poll.reclaim_older_than_ms).unwrap_or(i64::MAX);
        let asked = poll.environment.clone();
        // Most polls find nothing, and a look costs no commit.
        let ready = self.read(move |tx| {
            let now = tx.now();
            let sql = format!("SELECT 1 FROM work WHERE {READY} LIMIT 1");
            let ready = tx.query(&sql, params![&asked, now, now.plus_millis(-lost)])?;
            Ok::<_, StoreError>(!ready.is_empty() || !lapsed(tx, now, 1)?.is_empty())
        });
        if !ready.await? {
            return Ok(None);
        }
        let ids = self.ids().clone();
        self.write(move |tx| {
            reclaim(tx, &ids)?;
            hand_out(tx, &poll, lost)
        })
        .await
    }

    /// Ends items whose worker was not heard of in time; gives how many. Polls do so too: call it now
    /// and then, for queues that nobody polls.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reclaim_work(&self) -> Result<usize, StoreError> {
        let found = self.read(|tx| {
            let now = tx.now();
            Ok::<_, StoreError>(!lapsed(tx, now, 1)?.is_empty())
        });
        if !found.await? {
            return Ok(0);
        }
        let ids = self.ids().clone();
        self.write(move |tx| reclaim(tx, &ids)).await
    }
}

fn lapsed(tx: &mut dyn Tx, now: Timestamp, limit: usize) -> Result<Vec<WorkRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM work WHERE {LAPSED} ORDER BY lease_until LIMIT {limit}");
    let rows = tx.query(&sql, params![now])?;
    rows.into_iter().map(work).collect()
}

fn reclaim(tx: &mut dyn Tx, ids: &IdSource) -> Result<usize, StoreError> {
    let now = tx.now();
    let rows = lapsed(tx, now, LAPSED_AT_ONCE)?;
    for row in &rows {
        end(tx, ids, row, End::Lapsed)?;
    }
    Ok(rows.len())
}

fn hand_out(tx: &mut dyn Tx, poll: &NewPoll, lost: i64) -> Result<Option<WorkRow>, StoreError> {
    let now = tx.now();
    let sql = format!(
        "UPDATE work SET polled_at = ?2, handed_out = handed_out + 1, token_hash = ?4,
           polled_with = ?5
         WHERE id = (SELECT id FROM work WHERE {READY} ORDER BY available_at, id LIMIT 1)
           AND NOT EXISTS (
             SELECT 1 FROM environment_key WHERE id = ?5 AND revoked_at IS NOT NULL)
         RETURNING handed_out, {COLUMNS}"
    );
    // A poll may have waited since its key was looked at, and the token it would be given is not
    // taken back again: so the key is looked at here, where revoking it cannot come between.
    let taken = tx.query(
        &sql,
        params![
            &poll.environment,
            now,
            now.plus_millis(-lost),
            &poll.token_hash[..],
            &poll.key,
        ],
    )?;
    let Some(mut row) = one(taken) else {
        return Ok(None);
    };
    if row.int("work count")? > 1 {
        tx.announce(Announcement::WorkEnded);
    }
    work(row).map(Some)
}

/// Takes back what was handed out to a key, now that it is revoked: whoever got hold of the key must
/// not keep its sessions.
pub(crate) fn take_back(
    tx: &mut dyn Tx,
    ids: &IdSource,
    environment: &EnvironmentId,
    key: &EnvironmentKeyId,
) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM work
         WHERE environment_id = ?1 AND polled_with = ?2 AND state <> 'stopped'"
    );
    for row in tx.query(&sql, params![environment, key])? {
        let row = work(row)?;
        if row.state == WorkState::Queued {
            tx.execute(
                "UPDATE work SET polled_at = NULL, polled_with = NULL, token_hash = NULL
                 WHERE id = ?1",
                params![&row.id],
            )?;
            tx.announce(Announcement::WorkEnded);
            tx.announce(Announcement::Queued(environment.clone()));
        } else {
            end(tx, ids, &row, End::Lapsed)?;
        }
    }
    Ok(())
}
