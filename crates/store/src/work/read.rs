//! Looking at a queue, and keeping it tidy.

use freehold_base::{EnvironmentId, Timestamp, WorkId, limits};
use freehold_wire::agent::Metadata;

use super::poll::polling;
use super::{COLUMNS, WorkRow, get, work};
use crate::backend::{Value, one, params};
use crate::sql::Filter;
use crate::{Store, StoreError};

/// Items deleted in one transaction.
const COLLECTED_AT_ONCE: usize = 500;

/// Which items of an environment to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct WorkQuery {
    /// Only after this one.
    pub after: Option<(Timestamp, WorkId)>,
    /// Page size; one more is returned if there is one.
    pub limit: usize,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Items waiting, not handed out.
    pub depth: u64,
    /// Items handed out, not acknowledged.
    pub pending: u64,
    /// When the oldest of both was queued.
    pub oldest_queued_at: Option<Timestamp>,
    /// Workers that polled in the last 30 seconds, at whatever replica; who stopped may be missing 5
    /// seconds earlier.
    pub polling: u64,
}

impl Store {
    /// One item of an environment.
    ///
    /// # Errors
    /// The store failed.
    pub async fn work(
        &self,
        environment: &EnvironmentId,
        id: &WorkId,
    ) -> Result<Option<WorkRow>, StoreError> {
        let (environment, id) = (environment.clone(), id.clone());
        self.look_up(move |tx| get(tx, &environment, &id)).await
    }

    /// Items of an environment, stopped ones too; up to `limit + 1`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_work(
        &self,
        environment: &EnvironmentId,
        q: WorkQuery,
    ) -> Result<Vec<WorkRow>, StoreError> {
        let environment = environment.clone();
        self.read(move |tx| {
            let mut f = Filter::default();
            f.and("environment_id = {}", [Value::from(&environment)]);
            let page = f.newest(["created_at", "id"], q.after.as_ref(), q.limit);
            let sql = format!("SELECT {COLUMNS} FROM work {page}");
            let rows = tx.query(&sql, &f.params)?;
            rows.into_iter().map(work).collect()
        })
        .await
    }

    /// Replaces an item's metadata if it still is `before`. `None` if there is no such item or its
    /// metadata changed meanwhile.
    ///
    /// # Errors
    /// The store failed.
    pub async fn set_work_metadata(
        &self,
        environment: &EnvironmentId,
        id: &WorkId,
        before: &Metadata,
        metadata: &Metadata,
    ) -> Result<Option<WorkRow>, StoreError> {
        let (environment, id) = (environment.clone(), id.clone());
        // A map of strings always has a JSON form, and always the same one.
        let json = |m: &Metadata| serde_json::to_string(m).unwrap_or_else(|_| "{}".to_owned());
        let (before, metadata) = (json(before), json(metadata));
        self.write(move |tx| {
            let sql = format!(
                "UPDATE work SET metadata = ?4
                 WHERE id = ?1 AND environment_id = ?2 AND metadata = ?3 RETURNING {COLUMNS}"
            );
            one(tx.query(&sql, params![&id, &environment, &before, &metadata])?)
                .map(work)
                .transpose()
        })
        .await
    }

    /// How an environment's queue stands.
    ///
    /// # Errors
    /// The store failed.
    pub async fn work_stats(&self, environment: &EnvironmentId) -> Result<QueueStats, StoreError> {
        let environment = environment.clone();
        self.read(move |tx| {
            let sql = "SELECT COUNT(*), COUNT(polled_at), MIN(created_at) FROM work
               WHERE environment_id = ?1 AND state = 'queued'";
            let Some(mut row) = one(tx.query(sql, params![&environment])?) else {
                return Ok(QueueStats::default());
            };
            let (all, pending) = (row.count("work count")?, row.count("work count")?);
            Ok(QueueStats {
                depth: all.saturating_sub(pending),
                pending,
                oldest_queued_at: row.opt_time("work time")?,
                polling: polling(tx, &environment)?,
            })
        })
        .await
    }

    /// Deletes items that stopped longer ago than [`limits::WORK_RETENTION_MS`]; gives how many.
    pub(crate) async fn collect_work(&self) -> Result<usize, StoreError> {
        let mut collected = 0;
        loop {
            let deleted = self
                .write(|tx| {
                    let before = tx.now().plus_millis(-limits::WORK_RETENTION_MS);
                    tx.execute(
                        "DELETE FROM work WHERE id IN (SELECT id FROM work
                           WHERE stopped_at IS NOT NULL AND stopped_at <= ?1
                           ORDER BY stopped_at LIMIT ?2)",
                        params![before, COLLECTED_AT_ONCE],
                    )
                })
                .await?;
            collected += deleted;
            if deleted < COLLECTED_AT_ONCE {
                return Ok(collected);
            }
        }
    }
}
