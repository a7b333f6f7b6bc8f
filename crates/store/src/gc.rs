//! Removing what nothing refers to: blobs whose rows are gone, the events of sessions whose deletion
//! a crash cut off, and old work items.

use freehold_base::SessionId;

use crate::backend::{one, params};
use crate::{Store, StoreError};

/// Blobs younger than this are left alone by [`Store::gc`], in milliseconds: one day.
const MIN_AGE_MS: i64 = 24 * 60 * 60 * 1000;
/// Blobs looked at in one run.
const MAX_BLOBS: usize = 100_000;
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
        for key in self.blobs().place().older_than(before, MAX_BLOBS).await? {
            collected.blobs += usize::from(self.drop_blob(&key).await?);
        }
        self.scrub().await?;
        Ok(collected)
    }

    /// Removes a blob if nothing refers to it; gives whether it did.
    pub(crate) async fn drop_blob(&self, key: &str) -> Result<bool, StoreError> {
        let asked = key.to_owned();
        let used = self.read(move |tx| {
            let rows = tx.query(
                "SELECT 1 FROM file WHERE blob = ?1
                 UNION ALL SELECT 1 FROM skill_version WHERE blob = ?1
                 UNION ALL SELECT 1 FROM session_skill WHERE blob = ?1
                 UNION ALL SELECT 1 FROM session_sandbox WHERE blob = ?1 LIMIT 1",
                params![&asked],
            )?;
            Ok::<_, StoreError>(!rows.is_empty())
        });
        self.blobs().place().remove(key, Box::pin(used)).await
    }

    /// Removes blobs that have lost a reference. The rows are gone already, so a failure is only
    /// logged: [`Store::gc`] tries again.
    pub(crate) async fn drop_blobs(&self, keys: &[String]) {
        for key in keys {
            if let Err(error) = self.drop_blob(key).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "blob not removed");
            }
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
