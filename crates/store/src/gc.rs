//! Removing what nothing refers to: blobs whose rows are gone, the events of sessions whose deletion
//! a crash cut off, and old work items.

use std::collections::HashSet;

use freehold_base::SessionId;
use futures_util::{TryStreamExt, stream};

use crate::backend::{Value, one, params};
use crate::{Blob, Store, StoreError};

/// Blobs younger than this are left alone by [`Store::gc`], in milliseconds: one day.
const MIN_AGE_MS: i64 = 24 * 60 * 60 * 1000;
/// Blobs looked at together.
const BLOBS_AT_ONCE: usize = 1_000;
/// Blobs removed at a time when many lose their references together.
const DROPS_AT_ONCE: usize = 16;
/// Tables whose rows refer to blobs.
pub(crate) const REFERRING: [&str; 4] =
    ["file", "skill_version", "session_skill", "session_sandbox"];
/// Events deleted in one transaction: long enough to be quick, short enough that others get their
/// turn at the writer.
const EVENTS_AT_ONCE: usize = 500;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: usize,
    /// Sessions whose events were still there.
    pub sessions: usize,
    /// Work items that stopped long ago.
    pub work: usize,
}

impl Store {
    /// Removes unreferenced blobs older than a day, finishes deletions that a crash cut off, forgets
    /// work items that stopped long ago, and clears the database's log of what was deleted.
    /// Call it at start and now and then; it may run beside everything else.
    ///
    /// # Errors
    /// The store failed; what was removed until then stays removed.
    pub async fn gc(&self) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        let pending: Vec<SessionId> = self
            .read(|tx| {
                let rows = tx.query("SELECT session_id FROM session_deletion", &[])?;
                rows.into_iter()
                    .map(|mut row| row.id("session"))
                    .collect::<Result<_, StoreError>>()
            })
            .await?;
        for session in pending {
            self.purge(&session).await?;
            collected.sessions += 1;
        }
        collected.work = self.collect_work().await?;
        let before = self.ids().clock().now().plus_millis(-MIN_AGE_MS);
        let mut last: Option<String> = None;
        loop {
            let place = self.blobs().place();
            let mut old = place
                .older_than(before, last.as_deref(), BLOBS_AT_ONCE)
                .await?;
            for key in self.unused(&old).await? {
                collected.blobs += usize::from(self.drop_blob(&key).await?);
            }
            if old.len() < BLOBS_AT_ONCE {
                break;
            }
            last = old.pop();
        }
        self.scrub().await?;
        Ok(collected)
    }

    /// Those of some blobs that nothing refers to at this moment.
    async fn unused(&self, keys: &[String]) -> Result<Vec<String>, StoreError> {
        let keys = keys.to_vec();
        self.read(move |tx| {
            let names: Vec<String> = (1..=keys.len()).map(|n| format!("?{n}")).collect();
            let names = names.join(", ");
            let from = |table| format!("SELECT blob FROM {table} WHERE blob IN ({names})");
            let sql = REFERRING.map(from).join(" UNION ");
            let params: Vec<Value<'_>> = keys.iter().map(Value::from).collect();
            let rows = match keys.is_empty() {
                true => Vec::new(),
                false => tx.query(&sql, &params)?,
            };
            let used = rows.into_iter().map(|mut row| row.text("blob"));
            let used: HashSet<String> = used.collect::<Result<_, _>>()?;
            let unused = keys.iter().filter(|key| !used.contains(*key));
            Ok(unused.cloned().collect())
        })
        .await
    }

    /// Removes a blob if nothing refers to it; gives whether it did.
    pub(crate) async fn drop_blob(&self, key: &str) -> Result<bool, StoreError> {
        let asked = key.to_owned();
        let used = self.read(move |tx| {
            let from = |table| format!("SELECT 1 FROM {table} WHERE blob = ?1");
            let sql = REFERRING.map(from).join(" UNION ALL ") + " LIMIT 1";
            let rows = tx.query(&sql, params![&asked])?;
            Ok::<_, StoreError>(!rows.is_empty())
        });
        self.blobs().place().remove(key, Box::pin(used)).await
    }

    /// Lets go of a blob that was put: without a row that refers to it, it is removed. A failure is
    /// only logged.
    pub async fn release_blob(&self, blob: Blob) {
        let Blob { key, pin, .. } = blob;
        drop(pin);
        self.drop_blobs(&[key]).await;
    }

    /// Removes blobs that have lost a reference. The rows are gone already, so a failure is only
    /// logged, and ends it, as the next would likely fail too: [`Store::gc`] tries again.
    pub(crate) async fn drop_blobs(&self, keys: &[String]) {
        let dropped = stream::iter(keys.iter().map(Ok))
            .try_for_each_concurrent(DROPS_AT_ONCE, |key| async move {
                self.drop_blob(key).await.map(drop)
            });
        if let Err(error) = dropped.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, of = keys.len(), "blobs not removed");
        }
    }

    /// Deletes the events of a session whose row is gone, a few at a time.
    pub(crate) async fn purge(&self, session: &SessionId) -> Result<(), StoreError> {
        loop {
            let of = session.clone();
            let done = self
                .write_session(session, move |tx| {
                    let oldest = "SELECT COALESCE(MIN(seq), 0) FROM event WHERE session_id = ?1";
                    let first = one(tx.query(oldest, params![&of])?)
                        .map_or(Ok(0), |mut row| row.int("event seq"))?;
                    let until = first + EVENTS_AT_ONCE as i64;
                    let deleted = tx.execute(
                        "DELETE FROM event WHERE session_id = ?1 AND seq < ?2",
                        params![&of, until],
                    )?;
                    if deleted == 0 {
                        tx.execute(
                            "DELETE FROM session_deletion WHERE session_id = ?1",
                            params![&of],
                        )?;
                    }
                    Ok::<_, StoreError>(deleted == 0)
                })
                .await?;
            if done {
                return Ok(());
            }
        }
    }
}
