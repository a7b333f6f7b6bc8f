//! The fenced append.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use freehold_base::{EventId, IdSource, SessionId, Timestamp};
use freehold_wire::session::Status;

use super::{Append, AppendError, Appended, NewEvent, StoredEvent, Then};
use crate::backend::{Announcement, Scope, Tx, one, params};
use crate::sql::{in_rows, rows};
use crate::together::{Each, Together};
use crate::{Store, StoreError, work};

impl Store {
    /// Appends events to a session's log and changes its row, all or nothing, and fenced by the
    /// lease epoch. `processed_at` is the time of commit, or one microsecond after the last event's
    /// if the clock went back.
    ///
    /// # Errors
    /// See [`AppendError`]; tested in this order: gone, fenced, head, input, answers.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        if append.epoch == 0 && append.then != Then::Stay {
            return Err(AppendError::Fenced); // Who holds no lease cannot give one up.
        }
        let (scope, ids) = (Scope::Session(append.session.clone()), self.ids().clone());
        self.write_together(scope, Appending { append, ids }).await
    }
}

/// One append. Those to one session are never run together: they hold its lock in turn.
struct Appending {
    append: Append,
    ids: IdSource,
}

/// The fence: sequence numbers are assigned only if the lease, the log's head and (to idle) the
/// inbox's head are what the writer thinks. Status `terminated` stamps the time once.
fn fence(rows: &str) -> String {
    format!(
        "WITH a (to_id, moves, now_at, epoch, head, new_status, new_blocked, new_summary, idle)
           AS (VALUES {rows})
         UPDATE session SET
           head_seq = head_seq + moves,
           last_processed_at = CASE WHEN moves = 0 THEN last_processed_at
             WHEN last_processed_at >= now_at THEN last_processed_at + moves
             ELSE now_at + moves - 1 END,
           status = COALESCE(new_status, status), blocked = COALESCE(new_blocked, blocked),
           summary = COALESCE(new_summary, summary),
           updated_at = CASE WHEN new_status IS NULL OR updated_at > now_at THEN updated_at
             ELSE now_at END,
           terminated_at = CASE WHEN new_status = 'terminated' AND terminated_at IS NULL THEN now_at
             ELSE terminated_at END,
           wake_at = CASE WHEN idle IS NULL THEN wake_at ELSE NULL END,
           lease_owner = CASE WHEN idle IS NULL THEN lease_owner ELSE NULL END
         FROM a
         WHERE id = to_id AND (epoch = 0 OR lease_epoch = epoch)
           AND (head IS NULL OR head_seq = head) AND (idle IS NULL OR inbox_head = idle)
         RETURNING id, head_seq, last_processed_at, self_hosted"
    )
}

/// Where a session's log ends once its row has moved.
struct Place {
    head: i64,
    last: Timestamp,
    self_hosted: bool,
}

impl Together for Appending {
    type Done = Appended;
    type Refusal = AppendError;

    fn run(tx: &mut dyn Tx, all: &[&Self]) -> Result<Each<Self>, AppendError> {
        let mut moved = advance(tx, all)?;
        let mut places = Vec::with_capacity(all.len());
        for one in all {
            places.push(match moved.remove(&one.append.session) {
                Some(place) => Ok(place),
                None => Err(refusal(tx, &one.append)?),
            });
        }
        let through = all.iter().zip(&places);
        let through = through.filter_map(|(one, place)| Some((*one, place.as_ref().ok()?)));
        let through: Vec<(&Self, &Place)> = through.collect();
        consume(tx, &through)?;
        for (one, place) in &through {
            change(tx, one, place)?;
        }
        let parts = through.iter().map(|(one, place)| Part {
            session: &one.append.session,
            epoch: one.append.epoch,
            head: place.head,
            last: place.last,
            events: &one.append.events,
        });
        let mut stored = insert(tx, &parts.collect::<Vec<_>>())?.into_iter();
        let done = places.into_iter().map(|place| {
            place.map(|place| Appended {
                head: place.head,
                events: stored.next().unwrap_or_default(), // There is one for each place.
            })
        });
        Ok(done.collect())
    }
}

/// Moves the rows of those whose fence holds.
fn advance(tx: &mut dyn Tx, all: &[&Appending]) -> Result<HashMap<SessionId, Place>, StoreError> {
    let now = tx.now();
    let mut params = Vec::new();
    let rows = rows(
        &mut params,
        all.iter().map(|one| {
            let a = &one.append;
            let idle = match a.then {
                Then::Idle { inbox_head } => Some(inbox_head),
                Then::Stay | Then::WakeAfter(_) => None,
            };
            [
                (&a.session).into(),
                a.events.len().into(),
                now.into(),
                a.epoch.into(),
                a.expected_head.into(),
                a.status.map(|s| s.as_str()).into(),
                a.blocked.into(),
                a.summary.as_ref().into(),
                idle.into(),
            ]
        }),
    );
    let moved = tx.query(&fence(&rows), &params)?.into_iter();
    let moved = moved.map(|mut row| {
        let session = row.id("session")?;
        let place = Place {
            head: row.int("head")?,
            last: row.time("time")?,
            self_hosted: row.flag("session flag")?,
        };
        Ok((session, place))
    });
    moved.collect()
}

/// Takes what is consumed out of the inboxes.
fn consume(tx: &mut dyn Tx, through: &[(&Appending, &Place)]) -> Result<(), AppendError> {
    let taken = through.iter().flat_map(|(one, _)| {
        let session = &one.append.session;
        (one.append.consume.iter()).map(move |seq| [session.into(), (*seq).into()])
    });
    let mut left = through
        .iter()
        .map(|(one, _)| one.append.consume.len())
        .sum();
    in_rows(taken, |rows, params| {
        let sql = format!("DELETE FROM inbox WHERE (session_id, seq) IN (VALUES {rows})");
        left -= tx.execute(&sql, params)?;
        Ok(())
    })?;
    match left {
        0 => Ok(()),
        _ => Err(AppendError::HeadMoved),
    }
}

/// What an append changes beside log and row.
fn change(tx: &mut dyn Tx, one: &Appending, place: &Place) -> Result<(), StoreError> {
    let a = &one.append;
    let works = a.status == Some(Status::Running) || a.blocked == Some(true);
    if works && place.self_hosted {
        work::ensure(tx, &one.ids, &a.session)?;
    }
    if let Some(agent) = &a.agent {
        let sql = "UPDATE session_body SET agent = ?2 WHERE session_id = ?1";
        tx.execute(sql, params![&a.session, agent])?;
    }
    if let Then::WakeAfter(millis) = a.then {
        let at = tx.now().plus_millis(millis);
        // Waiting input must not wait for the timer if this process dies.
        tx.execute(
            "UPDATE session SET wake_at = CASE WHEN wake_at IS NOT NULL
               AND EXISTS (SELECT 1 FROM inbox WHERE session_id = ?1) THEN wake_at ELSE ?2 END
             WHERE id = ?1",
            params![&a.session, at],
        )?;
    }
    Ok(())
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

/// Events of one session; their places end at `head`, and their times at `last`.
pub(crate) struct Part<'a> {
    pub(crate) session: &'a SessionId,
    pub(crate) epoch: i64,
    pub(crate) head: i64,
    pub(crate) last: Timestamp,
    pub(crate) events: &'a [NewEvent],
}

/// Inserts events of some sessions and announces them; gives those of each.
pub(crate) fn insert(
    tx: &mut dyn Tx,
    parts: &[Part<'_>],
) -> Result<Vec<Vec<Arc<StoredEvent>>>, InsertError> {
    refuse_answered(tx, parts)?;
    let stored: Vec<Vec<_>> = parts.iter().map(|part| part.stored().collect()).collect();
    let all = parts.iter().zip(&stored).flat_map(|(part, events)| {
        events.iter().map(|event| {
            [
                part.session.into(),
                event.seq.into(),
                (&event.id).into(),
                (&event.kind).into(),
                event.ref_id.as_ref().into(),
                event.epoch.into(),
                event.processed_at.into(),
                (&event.payload).into(),
                event.detail.as_ref().into(),
            ]
        })
    });
    in_rows(all, |rows, params| {
        let sql = format!(
            "INSERT INTO event (session_id, seq, id, kind, ref_id, epoch, processed_at, payload,
               detail) VALUES {rows}"
        );
        tx.execute(&sql, params).map(drop)
    })?;
    for (part, events) in parts.iter().zip(&stored) {
        if !events.is_empty() {
            tx.announce(Announcement::Committed(
                part.session.clone(),
                events.clone(),
            ));
        }
    }
    Ok(stored)
}

impl<'a> Part<'a> {
    /// Of somebody who holds no lease.
    pub(crate) fn external(
        session: &'a SessionId,
        head: i64,
        last: Timestamp,
        events: &'a [NewEvent],
    ) -> Self {
        Self {
            session,
            epoch: 0,
            head,
            last,
            events,
        }
    }

    fn stored(&self) -> impl Iterator<Item = Arc<StoredEvent>> {
        let back = (0..self.events.len() as i64).rev();
        self.events.iter().zip(back).map(|(event, back)| {
            Arc::new(StoredEvent {
                seq: self.head - back,
                id: event.id.clone(),
                kind: event.kind.clone(),
                epoch: self.epoch,
                ref_id: event.ref_id.clone(),
                processed_at: Timestamp::from_micros(self.last.as_micros() - back),
                payload: event.payload.clone(),
                detail: event.detail.clone(),
            })
        })
    }
}

/// Types of events of which a tool use has one. The unique index has the same, and serves and backs up
/// what is asked with them.
const RESULTS: &str = "kind IN ('agent.tool_result','user.tool_result','user.custom_tool_result','agent.mcp_tool_result')";

/// No tool use gets a second result: neither one beside what is there, nor two at once.
fn refuse_answered(tx: &mut dyn Tx, parts: &[Part<'_>]) -> Result<(), InsertError> {
    let answers = parts.iter().flat_map(|part| {
        let results = part.events.iter().filter(|event| is_result(&event.kind));
        results.filter_map(|event| Some((part.session, event.ref_id.as_ref()?)))
    });
    let mut once = HashSet::new();
    for (session, answered) in answers {
        if !once.insert((session, answered)) {
            return Err(InsertError::AlreadyAnswered(answered.clone()));
        }
    }
    let asked = once
        .into_iter()
        .map(|(session, id)| [session.into(), id.into()]);
    let mut answered = None;
    in_rows(asked, |rows, params| {
        let sql = format!(
            "SELECT ref_id FROM event WHERE (session_id, ref_id) IN (VALUES {rows}) AND {RESULTS}"
        );
        for mut row in tx.query(&sql, params)? {
            answered = Some(row.id("event id")?);
        }
        Ok(())
    })?;
    match answered {
        None => Ok(()),
        Some(id) => Err(InsertError::AlreadyAnswered(id)),
    }
}

/// Whether the tool use has a result.
pub(crate) fn has_result(
    tx: &mut dyn Tx,
    session: &SessionId,
    tool_use: &EventId,
) -> Result<bool, StoreError> {
    let sql = format!("SELECT 1 FROM event WHERE session_id = ?1 AND ref_id = ?2 AND {RESULTS}");
    Ok(!tx.query(&sql, params![session, tool_use])?.is_empty())
}
