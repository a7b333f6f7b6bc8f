//! The fenced append.

use std::sync::Arc;

use freehold_base::{EventId, IdSource, SessionId, Timestamp};
use freehold_wire::session::Status;

use super::{Append, AppendError, Appended, NewEvent, StoredEvent, Then};
use crate::backend::{Announcement, Tx, one, params};
use crate::{Store, StoreError, work};

impl Store {
    /// Appends events to a session's log and changes its row, all or nothing, and fenced by the
    /// lease epoch. `processed_at` is the time of commit, or one microsecond after the last event's
    /// if the clock went back.
    ///
    /// # Errors
    /// See [`AppendError`]; tested in this order: gone, fenced, head, input, answers.
    pub async fn append(&self, a: Append) -> Result<Appended, AppendError> {
        let ids = self.ids().clone();
        let session = a.session.clone();
        self.write_session(&session, move |tx| append(tx, &ids, &a))
            .await
    }
}

/// The fence: sequence numbers are assigned only if the lease, the log's head and (to idle) the
/// inbox's head are what the writer thinks. Status `terminated` stamps the time once.
const FENCE: &str = "UPDATE session SET
   head_seq = head_seq + ?1,
   last_processed_at = CASE WHEN ?1 = 0 THEN last_processed_at
     WHEN last_processed_at >= ?2 THEN last_processed_at + ?1 ELSE ?2 + ?1 - 1 END,
   status = COALESCE(?6, status), blocked = COALESCE(?7, blocked), summary = COALESCE(?8, summary),
   updated_at = CASE WHEN ?6 IS NULL OR updated_at > ?2 THEN updated_at ELSE ?2 END,
   terminated_at = CASE WHEN ?6 = 'terminated' AND terminated_at IS NULL THEN ?2
     ELSE terminated_at END,
   wake_at = CASE WHEN ?9 IS NULL THEN wake_at ELSE NULL END,
   lease_owner = CASE WHEN ?9 IS NULL THEN lease_owner ELSE NULL END
 WHERE id = ?3 AND (?4 = 0 OR lease_epoch = ?4) AND (?5 IS NULL OR head_seq = ?5)
   AND (?9 IS NULL OR inbox_head = ?9)
 RETURNING head_seq, last_processed_at, self_hosted";

fn append(tx: &mut dyn Tx, ids: &IdSource, a: &Append) -> Result<Appended, AppendError> {
    if a.epoch == 0 && a.then != Then::Stay {
        return Err(AppendError::Fenced); // Who holds no lease cannot give one up.
    }
    let now = tx.now();
    let idle = match a.then {
        Then::Idle { inbox_head } => Some(inbox_head),
        Then::Stay | Then::WakeAt(_) => None,
    };
    let moved = tx.query(
        FENCE,
        params![
            a.events.len(),
            now,
            &a.session,
            a.epoch,
            a.expected_head,
            a.status.map(|s| s.as_str()),
            a.blocked,
            a.summary.as_ref(),
            idle,
        ],
    )?;
    let Some(mut row) = one(moved) else {
        return Err(refusal(tx, a)?);
    };
    let (head, last) = (row.int("head")?, row.time("time")?);
    let works = a.status == Some(Status::Running) || a.blocked == Some(true);
    if works && row.flag("session flag")? {
        work::ensure(tx, ids, &a.session)?;
    }
    for seq in &a.consume {
        let sql = "DELETE FROM inbox WHERE session_id = ?1 AND seq = ?2";
        if tx.execute(sql, params![&a.session, *seq])? == 0 {
            return Err(AppendError::HeadMoved);
        }
    }
    if let Some(agent) = &a.agent {
        let sql = "UPDATE session_body SET agent = ?2 WHERE session_id = ?1";
        tx.execute(sql, params![&a.session, agent])?;
    }
    if let Then::WakeAt(at) = a.then {
        // Waiting input must not wait for the timer if this process dies.
        tx.execute(
            "UPDATE session SET wake_at = CASE WHEN wake_at IS NOT NULL
               AND EXISTS (SELECT 1 FROM inbox WHERE session_id = ?1) THEN wake_at ELSE ?2 END
             WHERE id = ?1",
            params![&a.session, at],
        )?;
    }
    let events = insert(tx, &a.session, a.epoch, head, last, &a.events)?;
    Ok(Appended { head, events })
}

/// Why the fence matched nothing.
fn refusal(tx: &mut dyn Tx, a: &Append) -> Result<AppendError, StoreError> {
    let sql = "SELECT lease_epoch, head_seq FROM session WHERE id = ?1";
    let Some(mut row) = one(tx.query(sql, params![&a.session])?) else {
        return Ok(AppendError::SessionGone);
    };
    let (epoch, head) = (row.int("epoch")?, row.int("head")?);
    Ok(if a.epoch != 0 && epoch != a.epoch {
        AppendError::Fenced
    } else if a.expected_head.is_some_and(|expected| expected != head) {
        AppendError::HeadMoved
    } else {
        AppendError::InputArrived
    })
}

/// Why events could not be inserted.
pub(crate) enum InsertError {
    AlreadyAnswered(EventId),
    Store(StoreError),
}

impl From<StoreError> for InsertError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<InsertError> for AppendError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::AlreadyAnswered(id) => Self::AlreadyAnswered(id),
            InsertError::Store(error) => Self::Store(error),
        }
    }
}

/// Whether an event of this type is a tool use's result, of which there is one.
pub(crate) fn is_result(kind: &str) -> bool {
    matches!(
        kind,
        "agent.tool_result"
            | "user.tool_result"
            | "user.custom_tool_result"
            | "agent.mcp_tool_result"
    )
}

/// Inserts events whose places end at `head` and whose times end at `last`, and announces them.
pub(crate) fn insert(
    tx: &mut dyn Tx,
    session: &SessionId,
    epoch: i64,
    head: i64,
    last: Timestamp,
    events: &[NewEvent],
) -> Result<Vec<Arc<StoredEvent>>, InsertError> {
    let mut stored = Vec::with_capacity(events.len());
    for (event, back) in events.iter().zip((0..events.len() as i64).rev()) {
        if is_result(&event.kind)
            && let Some(answered) = &event.ref_id
            && has_result(tx, session, answered)?
        {
            return Err(InsertError::AlreadyAnswered(answered.clone()));
        }
        let at = Timestamp::from_micros(last.as_micros() - back);
        tx.execute(
            "INSERT INTO event (session_id, seq, id, kind, ref_id, epoch, processed_at, payload,
               detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            params![
                session,
                head - back,
                &event.id,
                &event.kind,
                event.ref_id.as_ref(),
                epoch,
                at,
                &event.payload,
                event.detail.as_ref(),
            ],
        )?;
        stored.push(Arc::new(StoredEvent {
            seq: head - back,
            id: event.id.clone(),
            kind: event.kind.clone(),
            epoch,
            ref_id: event.ref_id.clone(),
            processed_at: at,
            payload: event.payload.clone(),
            detail: event.detail.clone(),
        }));
    }
    if !stored.is_empty() {
        tx.announce(Announcement::Committed(session.clone(), stored.clone()));
    }
    Ok(stored)
}

/// Whether the tool use has a result. The list of types repeats the unique index's, which backs
/// this up and serves it.
pub(crate) fn has_result(
    tx: &mut dyn Tx,
    session: &SessionId,
    tool_use: &EventId,
) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM event WHERE session_id = ?1 AND ref_id = ?2 AND kind IN \
      ('agent.tool_result','user.tool_result','user.custom_tool_result','agent.mcp_tool_result')";
    Ok(!tx.query(sql, params![session, tool_use])?.is_empty())
}
