//! What is due, once the clock it was due by has been put back.
//!
//! Wake-ups, leases and delays are kept as times of the database's clock. If that is put back by an
//! hour, all of them lie an hour further ahead than was meant, and sessions stand still for as long.
//! So every process looks now and then whether the clock ran as it should, and mends what is there.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_base::Timestamp;

use crate::backend::{Tx, params};
use crate::{Store, StoreError};

/// A clock that loses less between two looks was not put back: what is due is late by no more.
const SLACK: Duration = Duration::from_secs(1);

/// What the database's clock showed when it was last looked at.
#[derive(Default)]
pub(crate) struct LastLook(Mutex<Option<(Timestamp, Instant)>>);

impl LastLook {
    /// Notes what it shows; gives how much less that is than it should be, `None` the first time.
    fn note(&self, now: Timestamp) -> Option<Duration> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.replace((now, Instant::now()));
        before.map(|(shown, at)| shown.plus(at.elapsed()).since(now))
    }
}

impl Store {
    /// Looks whether the clock that decides what is due was put back since the last call, and if it
    /// was makes everything due that waits for a time: whoever has to wait on finds that out. Leases
    /// last from now as long as they were to last. So does the first call of a process, because nobody
    /// may have looked before. Call it every few seconds. Gives by how much the clock was put back, if
    /// it was.
    ///
    /// `lease_ms` is how long replicas say that they live, in milliseconds.
    ///
    /// # Errors
    /// The store failed.
    pub async fn look_at_clock(&self, lease_ms: i64) -> Result<Option<Duration>, StoreError> {
        let now = self.read(|tx| Ok::<_, StoreError>(tx.now())).await?;
        let missing = self.last_look().note(now);
        if missing.is_none_or(|missing| SLACK <= missing) {
            self.write(move |tx| make_due(tx, lease_ms)).await?;
        }
        Ok(missing.filter(|missing| SLACK <= *missing))
    }
}

fn make_due(tx: &mut dyn Tx, lease_ms: i64) -> Result<(), StoreError> {
    let now = tx.now();
    for sql in [
        "UPDATE session SET wake_at = ?1 WHERE wake_at > ?1",
        "UPDATE work SET available_at = ?1 WHERE state = 'queued' AND available_at > ?1",
        "UPDATE work SET polled_at = ?1 WHERE state = 'queued' AND polled_at > ?1",
        "UPDATE poller SET at = ?1 WHERE at > ?1",
    ] {
        tx.execute(sql, params![now])?;
    }
    let sql = "UPDATE replica SET lease_until = ?1 WHERE lease_until > ?1";
    tx.execute(sql, params![now.plus_millis(lease_ms)])?;
    // The latest decides how long a worker was to have its item. One that was heard of since the
    // clock was put back has a lease that ends before the time of its heartbeat, which never goes
    // back.
    for began in [
        "stop_requested_at",
        "latest_heartbeat_at",
        "acknowledged_at",
    ] {
        let sql = format!(
            "UPDATE work SET lease_until = ?1 + (lease_until - {began})
             WHERE lease_until IS NOT NULL AND {began} > ?1 AND lease_until > {began}"
        );
        tx.execute(&sql, params![now])?;
    }
    Ok(())
}
