//! Handing items out, and taking back those whose worker is not heard of.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use freehold_base::{EnvironmentId, EnvironmentKeyId, IdSource, Timestamp, WorkId};
use freehold_wire::work::WorkState;

use super::queue::{End, end};
use super::{COLUMNS, WorkRow, work};
use crate::backend::{Announcement, Scope, Tx, one, params};
use crate::sql::{in_rows, rows};
use crate::together::{Each, Together};
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
    /// The worker that asks, if it has a name.
    pub worker: Option<String>,
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
        let found = self.write_together(Scope::Single, poll.clone()).await?;
        if !found.lapsed || self.reclaim_work().await? == 0 {
            return Ok(found.item);
        }
        Ok(self.write_together(Scope::Single, poll).await?.item)
    }

    /// Ends items whose worker was not heard of in time, and forgets who polled long ago; gives how many
    /// ended. Polls that find nothing end items, too: call it now and then, for queues that nobody polls.
    ///
    /// # Errors
    /// The store failed.
    pub async fn reclaim_work(&self) -> Result<usize, StoreError> {
        let found = self.read(|tx| {
            let now = tx.now();
            let sql = format!("SELECT 1 {FORGOTTEN} LIMIT 1");
            let forgotten = tx.query(&sql, params![forgotten(now)])?;
            Ok::<_, StoreError>(!forgotten.is_empty() || !lapsed(tx, now, 1)?.is_empty())
        });
        if !found.await? {
            return Ok(0);
        }
        let ids = self.ids().clone();
        self.write(move |tx| reclaim(tx, &ids)).await
    }
}

/// A worker counts as polling for this long after it did (contract 50 §3), in milliseconds.
const POLLING_MS: i64 = 30_000;
/// When it polls on, that is noted again after this long: it may count for so much less.
const NOTED_MS: i64 = 5_000;

/// Notes which workers poll.
fn note(tx: &mut dyn Tx, polls: &[&NewPoll]) -> Result<(), StoreError> {
    let now = tx.now();
    let named = polls
        .iter()
        .filter_map(|poll| Some((&poll.environment, poll.worker.as_ref()?)));
    // Each once, and in one order for all.
    let named: BTreeSet<_> = named.collect();
    let seen = named
        .into_iter()
        .map(|(environment, worker)| [environment.into(), worker.into(), now.into()]);
    in_rows(seen, |rows, params| {
        let sql = format!(
            "INSERT INTO poller (environment_id, worker, at) VALUES {rows}
             ON CONFLICT (environment_id, worker) DO UPDATE SET at = excluded.at
               WHERE poller.at < excluded.at - {NOTED_MS} * 1000"
        );
        tx.execute(&sql, params).map(drop)
    })
}

/// How many workers poll an environment's queue, at whatever replica.
pub(super) fn polling(tx: &mut dyn Tx, environment: &EnvironmentId) -> Result<u64, StoreError> {
    let since = tx.now().plus_millis(-POLLING_MS);
    let sql = "SELECT COUNT(*) FROM poller WHERE environment_id = ?1 AND at > ?2";
    let counted = one(tx.query(sql, params![environment, since])?);
    counted.map_or(Ok(0), |mut row| row.count("poller count"))
}

/// Notes that no longer count.
const FORGOTTEN: &str = "FROM poller WHERE at < ?1";

fn forgotten(now: Timestamp) -> Timestamp {
    now.plus_millis(-2 * POLLING_MS)
}

fn lapsed(tx: &mut dyn Tx, now: Timestamp, limit: usize) -> Result<Vec<WorkRow>, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM work WHERE {LAPSED} ORDER BY lease_until LIMIT {limit}");
    let rows = tx.query(&sql, params![now])?;
    rows.into_iter().map(work).collect()
}

fn reclaim(tx: &mut dyn Tx, ids: &IdSource) -> Result<usize, StoreError> {
    let now = tx.now();
    tx.execute(&format!("DELETE {FORGOTTEN}"), params![forgotten(now)])?;
    let rows = lapsed(tx, now, LAPSED_AT_ONCE)?;
    for row in &rows {
        end(tx, ids, row, End::Lapsed)?;
    }
    Ok(rows.len())
}

impl NewPoll {
    /// What was handed out before counts as lost.
    fn lost(&self, now: Timestamp) -> Timestamp {
        let older = i64::try_from(self.reclaim_older_than_ms).unwrap_or(i64::MAX);
        now.plus_millis(older.saturating_neg())
    }
}

/// What a poll found.
pub(crate) struct Found {
    item: Option<WorkRow>,
    /// Nothing was ready, but some item's worker was not heard of in time.
    lapsed: bool,
}

impl Together for NewPoll {
    type Done = Found;
    type Refusal = StoreError;

    fn run(tx: &mut dyn Tx, all: &[&Self]) -> Result<Each<Self>, StoreError> {
        let mut queues = BTreeMap::<_, Vec<&Self>>::new();
        for poll in all {
            let queue = (&poll.environment, poll.reclaim_older_than_ms);
            queues.entry(queue).or_default().push(poll);
        }
        let mut taken = HashMap::new();
        for polls in queues.values() {
            taken.extend(hand_out(tx, polls)?);
        }
        note(tx, all)?;
        let now = tx.now();
        let lapsed = taken.len() < all.len() && !lapsed(tx, now, 1)?.is_empty();
        let found = all.iter().map(|poll| {
            let item = taken.remove(&poll.token_hash);
            let lapsed = lapsed && item.is_none();
            Ok(Found { item, lapsed })
        });
        Ok(found.collect())
    }
}

/// Gives an item to each of these polls of one queue, while there are some; by the hash of its token.
fn hand_out(tx: &mut dyn Tx, polls: &[&NewPoll]) -> Result<HashMap<[u8; 32], WorkRow>, StoreError> {
    let Some(first) = polls.first() else {
        return Ok(HashMap::new());
    };
    let now = tx.now();
    let sql = format!(
        "SELECT id FROM work WHERE {READY} ORDER BY available_at, id LIMIT ?4 {}",
        tx.skipping_locked()
    );
    let asked = params![&first.environment, now, first.lost(now), polls.len()];
    let ready = tx.query(&sql, asked)?.into_iter();
    let ready: Vec<WorkId> = ready
        .map(|mut row| row.id("work id"))
        .collect::<Result<_, _>>()?;
    if ready.is_empty() {
        return Ok(HashMap::new());
    }
    let mut params = vec![now.into()];
    let rows = rows(
        &mut params,
        (ready.iter().zip(polls))
            .map(|(item, poll)| [item.into(), poll.token_hash[..].into(), (&poll.key).into()]),
    );
    // A poll may have waited since its key was looked at, and the token it would be given is not
    // taken back again: so the key is looked at here, where revoking it cannot come between.
    let sql = format!(
        "WITH p (item, new_token, new_key) AS (VALUES {rows})
         UPDATE work SET polled_at = ?1, handed_out = handed_out + 1, token_hash = new_token,
           polled_with = new_key
         FROM p WHERE id = item AND NOT EXISTS (
           SELECT 1 FROM environment_key k WHERE k.id = new_key AND k.revoked_at IS NOT NULL)
         RETURNING handed_out, {COLUMNS}"
    );
    let mut taken = HashMap::new();
    let mut again = false;
    for mut row in tx.query(&sql, &params)? {
        again |= row.int("work count")? > 1;
        let row = work(row)?;
        let mut given = ready.iter().zip(polls);
        if let Some((_, poll)) = given.find(|(item, _)| **item == row.id) {
            taken.insert(poll.token_hash, row);
        }
    }
    if again {
        tx.announce(Announcement::WorkEnded);
    }
    Ok(taken)
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
