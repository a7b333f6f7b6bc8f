//! Taking client input.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use freehold_base::{EventId, IdSource, SessionId, Timestamp, limits};

use super::append::{InsertError, Part, has_result, insert, is_result};
use super::{AcceptError, Accepted, Input, NewEvent, StoredEvent};
use crate::backend::{Announcement, Scope, Tx, params};
use crate::sql::{Filter, in_rows, rows};
use crate::together::{Each, Together};
use crate::{Store, StoreError, work};

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
        let taking = Taking {
            session: session.clone(),
            inputs,
            ids: self.ids().clone(),
        };
        self.write_together(Scope::Session(session.clone()), taking)
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

/// Input of one client.
struct Taking {
    session: SessionId,
    inputs: Vec<Input>,
    ids: IdSource,
}

impl Together for Taking {
    type Done = Vec<Accepted>;
    type Refusal = AcceptError;

    fn run(tx: &mut dyn Tx, all: &[&Self]) -> Result<Each<Self>, AcceptError> {
        let full = full(tx, all)?;
        let mut refused = HashMap::new();
        for session in &full {
            let why = refusal(tx, session)?.unwrap_or(AcceptError::InboxFull);
            refused.insert(session, why);
        }
        let puts = all.iter().filter(|one| !full.contains(&one.session));
        let puts = puts.map(|one| Put {
            session: &one.session,
            inputs: &one.inputs,
            ids: &one.ids,
        });
        let mut accepted = put(tx, &puts.collect::<Vec<_>>())?.into_iter();
        let outcomes = all.iter().map(|one| match refused.remove(&one.session) {
            Some(why) => Err(why),
            // There is one for each that was put.
            None => accepted.next().unwrap_or(Err(AcceptError::Closed)),
        });
        Ok(outcomes.collect())
    }
}

/// The sessions whose inboxes would hold too much.
fn full(tx: &mut dyn Tx, all: &[&Taking]) -> Result<HashSet<SessionId>, StoreError> {
    let mut filter = Filter::default();
    filter.one_of("session_id", all.iter().map(|one| (&one.session).into()));
    let sql = format!(
        "SELECT session_id, COUNT(*), COALESCE(CAST(SUM(octets) AS BIGINT), 0) FROM inbox WHERE {}
         GROUP BY session_id",
        filter.text()
    );
    let mut waiting = HashMap::<SessionId, (u64, u64)>::new();
    for mut row in tx.query(&sql, &filter.params)? {
        let session = row.id("session")?;
        waiting.insert(session, (row.count("count")?, row.count("size")?));
    }
    let full = all.iter().filter(|one| {
        let (mut events, mut bytes) = waiting.get(&one.session).copied().unwrap_or_default();
        for event in queued(&one.inputs) {
            events += 1;
            bytes += event.payload.len() as u64;
        }
        events > limits::MAX_QUEUED_EVENTS as u64 || bytes > limits::MAX_QUEUED_BYTES as u64
    });
    Ok(full.map(|one| one.session.clone()).collect())
}

/// Inputs for one session.
pub(crate) struct Put<'a> {
    pub(crate) session: &'a SessionId,
    pub(crate) inputs: &'a [Input],
    pub(crate) ids: &'a IdSource,
}

/// Those that wait in the inbox.
fn queued(inputs: &[Input]) -> impl DoubleEndedIterator<Item = &NewEvent> {
    inputs.iter().filter_map(|i| match i {
        Input::Queue { event, .. } => Some(event),
        Input::Record { .. } => None,
    })
}

/// Where a session's inbox and log end once its row has moved.
struct Place {
    inbox_head: i64,
    head: i64,
    last: Timestamp,
    self_hosted: bool,
}

fn take(rows: &str) -> String {
    format!(
        "WITH a (to_id, now_at, waits, moves, starts, answers) AS (VALUES {rows})
         UPDATE session SET
           inbox_head = inbox_head + waits, head_seq = head_seq + moves,
           last_processed_at = CASE WHEN moves = 0 THEN last_processed_at
             WHEN last_processed_at >= now_at THEN last_processed_at + moves
             ELSE now_at + moves - 1 END,
           wake_at = CASE WHEN wake_at IS NULL OR wake_at > now_at THEN now_at ELSE wake_at END,
           status = CASE WHEN status = 'idle' AND (answers = 1 OR (starts = 1 AND blocked = 0))
             THEN 'running' ELSE status END,
           updated_at = CASE WHEN status = 'idle' AND updated_at < now_at
             AND (answers = 1 OR (starts = 1 AND blocked = 0)) THEN now_at ELSE updated_at END
         FROM a
         WHERE id = to_id AND archived_at IS NULL AND status <> 'terminated'
         RETURNING id, inbox_head, head_seq, last_processed_at, self_hosted"
    )
}

impl Put<'_> {
    fn recorded(&self) -> Vec<NewEvent> {
        let recorded = self.inputs.iter().filter_map(|i| match i {
            Input::Record { event } => Some(event.clone()),
            Input::Queue { .. } => None,
        });
        recorded.collect()
    }

    /// Whether some input starts a turn.
    fn starts(&self) -> bool {
        let mut inputs = self.inputs.iter();
        inputs.any(|i| {
            matches!(
                i,
                Input::Queue {
                    starts_turn: true,
                    ..
                }
            )
        })
    }

    /// Whether some input answers.
    fn answers(&self) -> bool {
        self.inputs.iter().any(|i| match i {
            Input::Queue { event, starts_turn } => *starts_turn && event.ref_id.is_some(),
            Input::Record { event } => is_result(&event.kind),
        })
    }

    /// What is told of it; the events are those it recorded.
    fn accepted(&self, events: Vec<Arc<StoredEvent>>) -> Vec<Accepted> {
        let mut events = events.into_iter();
        let accepted = self.inputs.iter().map(|input| Accepted {
            id: input.event().id.clone(),
            payload: input.event().payload.clone(),
            processed_at: match input {
                Input::Queue { .. } => None,
                Input::Record { .. } => events.next().map(|e| e.processed_at),
            },
        });
        accepted.collect()
    }
}

/// Puts inputs for different sessions into inboxes and logs. A refusal in the list has changed nothing.
///
/// # Errors
/// What was done must be undone.
pub(crate) fn put(
    tx: &mut dyn Tx,
    all: &[Put<'_>],
) -> Result<Vec<Result<Vec<Accepted>, AcceptError>>, AcceptError> {
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let recorded: Vec<Vec<NewEvent>> = all.iter().map(Put::recorded).collect();
    let mut moved = advance(tx, all, &recorded)?;
    let mut places = Vec::with_capacity(all.len());
    for put in all {
        places.push(match moved.remove(put.session) {
            Some(place) => Ok(place),
            None => Err(refusal(tx, put.session)?.unwrap_or(AcceptError::Closed)),
        });
    }
    let through = all.iter().zip(&recorded).zip(&places);
    let through = through.filter_map(|((put, recorded), place)| {
        let place = place.as_ref().ok()?;
        Some((put, recorded.as_slice(), place))
    });
    let through: Vec<_> = through.collect();
    for (put, _, place) in &through {
        tx.announce(Announcement::Woken(put.session.clone()));
        if place.self_hosted {
            work::ensure(tx, put.ids, put.session)?;
        }
        let mut verdicts = HashSet::new();
        for event in queued(put.inputs) {
            check_verdict(tx, put.session, event, &mut verdicts)?;
        }
    }
    let waiting = through.iter().map(|(put, _, place)| (*put, *place));
    queue(tx, &waiting.collect::<Vec<_>>())?;
    let parts = through.iter().map(|(put, recorded, place)| {
        Part::external(put.session, place.head, place.last, recorded)
    });
    let mut stored = insert(tx, &parts.collect::<Vec<_>>())?.into_iter();
    let accepted = all.iter().zip(places).map(|(put, place)| {
        // There are events for each place.
        place.map(|_| put.accepted(stored.next().unwrap_or_default()))
    });
    Ok(accepted.collect())
}

/// Moves the rows of those that take input.
fn advance(
    tx: &mut dyn Tx,
    all: &[Put<'_>],
    recorded: &[Vec<NewEvent>],
) -> Result<HashMap<SessionId, Place>, StoreError> {
    let now = tx.now();
    let mut params = Vec::new();
    let rows = rows(
        &mut params,
        all.iter().zip(recorded).map(|(put, recorded)| {
            [
                put.session.into(),
                now.into(),
                queued(put.inputs).count().into(),
                recorded.len().into(),
                put.starts().into(),
                put.answers().into(),
            ]
        }),
    );
    let moved = tx.query(&take(&rows), &params)?.into_iter();
    let moved = moved.map(|mut row| {
        let session = row.id("session")?;
        let place = Place {
            inbox_head: row.int("inbox")?,
            head: row.int("head")?,
            last: row.time("time")?,
            self_hosted: row.flag("session flag")?,
        };
        Ok((session, place))
    });
    moved.collect()
}

/// Puts what waits into the inboxes.
fn queue(tx: &mut dyn Tx, through: &[(&Put<'_>, &Place)]) -> Result<(), StoreError> {
    let now = tx.now();
    let waiting = through.iter().flat_map(|(put, place)| {
        let places = (1..=place.inbox_head).rev();
        let events = queued(put.inputs).rev().zip(places);
        events.map(move |(event, seq)| {
            [
                put.session.into(),
                seq.into(),
                (&event.id).into(),
                (&event.kind).into(),
                event.ref_id.as_ref().into(),
                now.into(),
                event.payload.len().into(),
                (&event.payload).into(),
            ]
        })
    });
    in_rows(waiting, |rows, params| {
        let sql = format!(
            "INSERT INTO inbox (session_id, seq, id, kind, ref_id, accepted_at, octets, payload)
             VALUES {rows}"
        );
        tx.execute(&sql, params).map(drop)
    })
}

/// A tool use is confirmed or denied once, and not after it has a result. `verdicts` are those of the
/// same request.
fn check_verdict<'a>(
    tx: &mut dyn Tx,
    session: &SessionId,
    event: &'a NewEvent,
    verdicts: &mut HashSet<&'a EventId>,
) -> Result<(), AcceptError> {
    let Some(tool_use) = &event.ref_id else {
        return Ok(());
    };
    if event.kind == "user.tool_confirmation"
        && (!verdicts.insert(tool_use) || decided(tx, session, tool_use)?)
    {
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

/// Why a session takes no input, if it takes none.
fn refusal(tx: &mut dyn Tx, session: &SessionId) -> Result<Option<AcceptError>, StoreError> {
    let sql =
        "SELECT 1 FROM session WHERE id = ?1 AND archived_at IS NULL AND status <> 'terminated'";
    if !tx.query(sql, params![session])?.is_empty() {
        return Ok(None);
    }
    let found = tx.query("SELECT 1 FROM session WHERE id = ?1", params![session])?;
    Ok(Some(match found.is_empty() {
        true => AcceptError::SessionGone,
        false => AcceptError::Closed,
    }))
}
