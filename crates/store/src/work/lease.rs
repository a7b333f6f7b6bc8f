//! An item in a worker's hands: acknowledged, kept alive, stopped.

use std::collections::HashMap;

use freehold_base::{EnvironmentId, Timestamp, WorkId, limits};
use freehold_wire::work::{NO_HEARTBEAT, WorkState};

use super::queue::{End, end};
use super::{COLUMNS, WorkRow, after, get, work};
use crate::backend::{Scope, Tx, one, params};
use crate::sql::rows;
use crate::together::{Each, Together};
use crate::{Store, StoreError};

/// Why an item was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AckError {
    /// No such item in the environment.
    #[error("no such work item")]
    NotFound,
    /// Nobody was given it, somebody acknowledged it already, or it is stopping.
    #[error("the work item is {} and cannot be acknowledged", .0.as_str())]
    Conflict(WorkState),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// A heartbeat.
#[derive(Debug, Clone)]
pub struct NewBeat {
    /// What the sender believes to be the latest heartbeat: [`NO_HEARTBEAT`], or the last value it
    /// was given. `None` compares nothing.
    pub expected: Option<String>,
    /// Seconds the lease shall last from now.
    pub ttl_seconds: u64,
    /// SHA-256 of the sender's credential: a repeat by the same one is no theft.
    pub by: [u8; 32],
}

/// What a heartbeat gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// The item as it is now.
    pub row: WorkRow,
    /// Whether the lease goes on; not for an item that is stopping or has stopped.
    pub extended: bool,
}

/// Why a heartbeat was refused.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// No such item in the environment.
    #[error("no such work item")]
    NotFound,
    /// The item waits in the queue.
    #[error("the work item is not acknowledged")]
    Queued,
    /// Somebody else's heartbeat came; the item as it is.
    #[error("the latest heartbeat is another one")]
    Precondition(Box<WorkRow>),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// Why an item was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// No such item in the environment.
    #[error("no such work item")]
    NotFound,
    /// It has stopped before.
    #[error("the work item has stopped already")]
    Stopped,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes an item out of the queue for the worker it was handed to. The same again soon after
    /// changes nothing, if the item was handed out only once: then it is the same worker.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn ack_work(
        &self,
        environment: &EnvironmentId,
        id: &WorkId,
    ) -> Result<WorkRow, AckError> {
        let (environment, id) = (environment.clone(), id.clone());
        self.write_together(Scope::Single, Ack { environment, id })
            .await
    }

    /// Keeps an item in a worker's hands.
    ///
    /// # Errors
    /// See [`BeatError`].
    pub async fn heartbeat_work(
        &self,
        environment: &EnvironmentId,
        id: &WorkId,
        new: NewBeat,
    ) -> Result<Beat, BeatError> {
        let (environment, id) = (environment.clone(), id.clone());
        self.write_single(move |tx| beat(tx, &environment, &id, &new))
            .await
    }

    /// Asks an item to stop, or with `force` ends it at once. Asking again changes nothing. Another
    /// item is queued when it has stopped, if its session still has work to do.
    ///
    /// # Errors
    /// See [`StopError`].
    pub async fn stop_work(
        &self,
        environment: &EnvironmentId,
        id: &WorkId,
        force: bool,
    ) -> Result<WorkRow, StopError> {
        let (environment, id, ids) = (environment.clone(), id.clone(), self.ids().clone());
        self.write(move |tx| {
            let row = get(tx, &environment, &id)?.ok_or(StopError::NotFound)?;
            match row.state {
                WorkState::Stopped => Err(StopError::Stopped),
                _ if force => Ok(end(tx, &ids, &row, End::Stopped)?),
                WorkState::Stopping => Ok(row),
                state => Ok(ask_to_stop(tx, &row, state)?),
            }
        })
        .await
    }
}

impl Store {
    /// Ends an item at once, whatever its worker is doing, who may not hear of it for a while.
    /// Another item is queued if its session still has work to do; it says that calls may have run.
    ///
    /// # Errors
    /// See [`StopError`].
    pub async fn cut_work(
        &self,
        environment: &EnvironmentId,
        id: &WorkId,
    ) -> Result<WorkRow, StopError> {
        let (environment, id, ids) = (environment.clone(), id.clone(), self.ids().clone());
        self.write(move |tx| {
            let row = get(tx, &environment, &id)?.ok_or(StopError::NotFound)?;
            match row.state {
                WorkState::Stopped => Err(StopError::Stopped),
                _ => Ok(end(tx, &ids, &row, End::Cut)?),
            }
        })
        .await
    }
}

struct Ack {
    environment: EnvironmentId,
    id: WorkId,
}

impl Together for Ack {
    type Done = WorkRow;
    type Refusal = AckError;

    fn run(tx: &mut dyn Tx, all: &[&Self]) -> Result<Each<Self>, AckError> {
        let now = tx.now();
        let mut params = vec![now.into(), after(now, limits::WORK_START_SECONDS).into()];
        let asked = all
            .iter()
            .map(|ack| [(&ack.id).into(), (&ack.environment).into()]);
        let rows = rows(&mut params, asked);
        let sql = format!(
            "WITH a (item, queue) AS (VALUES {rows})
             UPDATE work SET state = 'starting', acknowledged_at = ?1, lease_until = ?2
             FROM a WHERE id = item AND environment_id = queue AND state = 'queued'
               AND polled_at IS NOT NULL
             RETURNING {COLUMNS}"
        );
        let mut taken = HashMap::new();
        for row in tx.query(&sql, &params)? {
            let row = work(row)?;
            taken.insert((row.id.clone(), row.environment_id.clone()), row);
        }
        let mut done = Vec::with_capacity(all.len());
        for ack in all {
            done.push(
                match taken.remove(&(ack.id.clone(), ack.environment.clone())) {
                    Some(row) => Ok(row),
                    None => again(tx, ack),
                },
            );
        }
        Ok(done)
    }
}

/// The same again soon after is answered as the first time.
fn again(tx: &mut dyn Tx, Ack { environment, id }: &Ack) -> Result<WorkRow, AckError> {
    let row = get(tx, environment, id)?.ok_or(AckError::NotFound)?;
    let sql = "SELECT 1 FROM work
       WHERE id = ?1 AND state = 'starting' AND handed_out = 1 AND acknowledged_at >= ?2";
    let repeated = params![id, tx.now().plus_millis(-limits::WORK_REPLAY_MS)];
    if tx.query(sql, repeated)?.is_empty() {
        return Err(AckError::Conflict(row.state));
    }
    Ok(row)
}

/// A heartbeat as it is compared and given out.
fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| NO_HEARTBEAT.to_owned(), |at| at.to_string())
}

fn beat(
    tx: &mut dyn Tx,
    environment: &EnvironmentId,
    id: &WorkId,
    new: &NewBeat,
) -> Result<Beat, BeatError> {
    loop {
        let row = get(tx, environment, id)?.ok_or(BeatError::NotFound)?;
        match row.state {
            WorkState::Queued => return Err(BeatError::Queued),
            WorkState::Stopping | WorkState::Stopped => {
                return Ok(Beat {
                    row,
                    extended: false,
                });
            }
            WorkState::Starting | WorkState::Active => {}
        }
        let latest = row.latest_heartbeat_at;
        if let Some(expected) = &new.expected
            && *expected != shown(latest)
        {
            return if repeats(tx, &row, expected, &new.by)? {
                Ok(Beat {
                    row,
                    extended: true,
                })
            } else {
                Err(BeatError::Precondition(Box::new(row)))
            };
        }
        let now = tx.now();
        let at = latest.map_or(now, |last| {
            now.max(Timestamp::from_micros(last.as_micros() + 1))
        });
        // Only if it still is as it was seen; otherwise it is seen again.
        let sql = format!(
            "UPDATE work SET state = 'active', started_at = COALESCE(started_at, ?2),
               latest_heartbeat_at = ?2, beat_before = ?3, beat_by = ?4, lease_until = ?5
             WHERE id = ?1 AND state IN ('starting', 'active')
               AND COALESCE(latest_heartbeat_at, 0) = COALESCE(?3, 0)
             RETURNING {COLUMNS}"
        );
        let until = after(now, new.ttl_seconds);
        if let Some(beaten) = one(tx.query(&sql, params![id, at, latest, &new.by[..], until])?) {
            return Ok(Beat {
                row: work(beaten)?,
                extended: true,
            });
        }
    }
}

/// Whether a heartbeat is the latest one sent again, because its reply was lost.
fn repeats(
    tx: &mut dyn Tx,
    row: &WorkRow,
    expected: &str,
    by: &[u8; 32],
) -> Result<bool, StoreError> {
    let now = tx.now();
    let recent = now.plus_millis(-limits::WORK_REPLAY_MS);
    let sql = "SELECT beat_before FROM work
       WHERE id = ?1 AND beat_by = ?2 AND latest_heartbeat_at >= ?3";
    match one(tx.query(sql, params![&row.id, &by[..], recent])?) {
        Some(mut found) => Ok(expected == shown(found.opt_time("work time")?)),
        None => Ok(false),
    }
}

/// A worker gets time to wind down; an item that no worker has taken needs none.
fn ask_to_stop(tx: &mut dyn Tx, row: &WorkRow, state: WorkState) -> Result<WorkRow, StoreError> {
    let now = tx.now();
    let until = match state {
        WorkState::Queued => now,
        _ => after(now, limits::WORK_STOP_SECONDS),
    };
    let sql = format!(
        "UPDATE work SET state = 'stopping', stop_requested_at = ?2, lease_until = ?3
         WHERE id = ?1 RETURNING {COLUMNS}"
    );
    let stopping = one(tx.query(&sql, params![&row.id, now, until])?);
    work(stopping.ok_or(StoreError::Corrupt { what: "work" })?)
}
