//! Taking client input.

use freehold_base::{EventId, IdSource, SessionId, limits};

use super::append::{InsertError, has_result, insert, is_result};
use super::{AcceptError, Accepted, Input, NewEvent};
use crate::Store;
use crate::StoreError;
use crate::backend::{Announcement, Tx, one, params};
use crate::work;

impl Store {
    /// Takes input, all or none, and asks for a driver. An idle session becomes `running` if an
    /// input starts a turn, unless it is blocked and no input answers what it waits for.
    ///
    /// # Errors
    /// See [`AcceptError`].
    pub async fn accept(
        &self,
        session: &SessionId,
        inputs: Vec<Input>,
    ) -> Result<Vec<Accepted>, AcceptError> {
        let (of, ids) = (session.clone(), self.ids().clone());
        self.write_session(session, move |tx| accept(tx, &ids, &of, &inputs))
            .await
    }
}

impl From<InsertError> for AcceptError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::AlreadyAnswered(id) => Self::AlreadyAnswered(id),
            InsertError::Store(error) => Self::Store(error),
        }
    }
}

fn accept(
    tx: &mut dyn Tx,
    ids: &IdSource,
    session: &SessionId,
    inputs: &[Input],
) -> Result<Vec<Accepted>, AcceptError> {
    let accepted = put(tx, ids, session, inputs)?;
    let sql = "SELECT COUNT(*), COALESCE(CAST(SUM(octets) AS BIGINT), 0) FROM inbox WHERE session_id = ?1";
    if let Some(mut row) = one(tx.query(sql, params![session])?) {
        let (events, bytes) = (row.int("count")?, row.int("size")?);
        if events > limits::MAX_QUEUED_EVENTS as i64 || bytes > limits::MAX_QUEUED_BYTES as i64 {
            return Err(AcceptError::InboxFull);
        }
    }
    Ok(accepted)
}

const TAKE: &str = "UPDATE session SET
   inbox_head = inbox_head + ?2, head_seq = head_seq + ?3,
   last_processed_at = CASE WHEN ?3 = 0 THEN last_processed_at
     WHEN last_processed_at >= ?4 THEN last_processed_at + ?3 ELSE ?4 + ?3 - 1 END,
   wake_at = CASE WHEN wake_at IS NULL OR wake_at > ?4 THEN ?4 ELSE wake_at END,
   status = CASE WHEN status = 'idle' AND (?6 = 1 OR (?5 = 1 AND blocked = 0)) THEN 'running'
     ELSE status END,
   updated_at = CASE WHEN status = 'idle' AND updated_at < ?4
     AND (?6 = 1 OR (?5 = 1 AND blocked = 0)) THEN ?4 ELSE updated_at END
 WHERE id = ?1 AND archived_at IS NULL AND status <> 'terminated'
 RETURNING inbox_head, head_seq, last_processed_at, self_hosted";

/// Puts inputs into inbox and log. `?5`: some input starts a turn; `?6`: some input answers.
pub(crate) fn put(
    tx: &mut dyn Tx,
    ids: &IdSource,
    session: &SessionId,
    inputs: &[Input],
) -> Result<Vec<Accepted>, AcceptError> {
    let now = tx.now();
    let recorded: Vec<NewEvent> = inputs
        .iter()
        .filter_map(|i| match i {
            Input::Record { event } => Some(event.clone()),
            Input::Queue { .. } => None,
        })
        .collect();
    let queued = inputs.len() - recorded.len();
    let starts = inputs.iter().any(|i| {
        matches!(
            i,
            Input::Queue {
                starts_turn: true,
                ..
            }
        )
    });
    let answers = inputs.iter().any(|i| match i {
        Input::Queue { event, starts_turn } => *starts_turn && event.ref_id.is_some(),
        Input::Record { event } => is_result(&event.kind),
    });
    let taken = tx.query(
        TAKE,
        params![session, queued, recorded.len(), now, starts, answers],
    )?;
    let Some(mut row) = one(taken) else {
        return Err(refusal(tx, session)?);
    };
    tx.announce(Announcement::Woken(session.clone()));
    let (inbox_head, head, last) = (row.int("inbox")?, row.int("head")?, row.time("time")?);
    if row.flag("session flag")? {
        work::ensure(tx, ids, session)?;
    }
    let mut seq = inbox_head - queued as i64;
    for input in inputs {
        if let Input::Queue { event, .. } = input {
            seq += 1;
            check_verdict(tx, session, event)?;
            tx.execute(
                "INSERT INTO inbox (session_id, seq, id, kind, ref_id, accepted_at, octets, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    session,
                    seq,
                    &event.id,
                    &event.kind,
                    event.ref_id.as_ref(),
                    now,
                    event.payload.len(),
                    &event.payload,
                ],
            )?;
        }
    }
    let mut events = insert(tx, session, 0, head, last, &recorded)?.into_iter();
    Ok(inputs
        .iter()
        .map(|input| Accepted {
            id: input.event().id.clone(),
            payload: input.event().payload.clone(),
            processed_at: match input {
                Input::Queue { .. } => None,
                Input::Record { .. } => events.next().map(|e| e.processed_at),
            },
        })
        .collect())
}

/// A tool use is confirmed or denied once, and not after it has a result.
fn check_verdict(
    tx: &mut dyn Tx,
    session: &SessionId,
    event: &NewEvent,
) -> Result<(), AcceptError> {
    let Some(tool_use) = &event.ref_id else {
        return Ok(());
    };
    if event.kind == "user.tool_confirmation" && decided(tx, session, tool_use)? {
        return Err(AcceptError::AlreadyAnswered(tool_use.clone()));
    }
    Ok(())
}

/// Whether the tool use has a verdict, waiting or in the log, or a result.
fn decided(tx: &mut dyn Tx, session: &SessionId, tool_use: &EventId) -> Result<bool, StoreError> {
    let verdict = "SELECT 1 FROM event
       WHERE session_id = ?1 AND ref_id = ?2 AND kind = 'user.tool_confirmation'
     UNION ALL SELECT 1 FROM inbox
       WHERE session_id = ?1 AND ref_id = ?2 AND kind = 'user.tool_confirmation'";
    Ok(!tx.query(verdict, params![session, tool_use])?.is_empty()
        || has_result(tx, session, tool_use)?)
}

fn refusal(tx: &mut dyn Tx, session: &SessionId) -> Result<AcceptError, StoreError> {
    let found = tx.query("SELECT 1 FROM session WHERE id = ?1", params![session])?;
    Ok(if found.is_empty() {
        AcceptError::SessionGone
    } else {
        AcceptError::Closed
    })
}
