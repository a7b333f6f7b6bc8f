//! Listing a session's events at a cost that does not depend on the length of its history: types
//! are found by index, and times, which rise with `seq`, by bisection.

use std::collections::BTreeSet;

use freehold_base::{SessionId, Timestamp};

use super::read::{ITEM, event, item};
use super::{EventQuery, InboxItem, Listed, StoredEvent};
use crate::backend::{Row, Tx, Value, one, params};
use crate::{Store, StoreError};

impl Store {
    /// Lists log and inbox; up to `limit + 1` entries.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_events(
        &self,
        session: &SessionId,
        q: EventQuery,
    ) -> Result<Vec<Listed>, StoreError> {
        let (listed, _) = self.list_events_within(session, q, usize::MAX).await?;
        Ok(listed)
    }

    /// The same, but no further into the log than `bytes` of events, or one event if that is
    /// larger: one may be as large as a request, and all of a page is held in memory. Also gives
    /// whether it ended early for that.
    ///
    /// # Errors
    /// The store failed.
    pub async fn list_events_within(
        &self,
        session: &SessionId,
        q: EventQuery,
        bytes: usize,
    ) -> Result<(Vec<Listed>, bool), StoreError> {
        let session = session.clone();
        self.read(move |tx| list(tx, &session, &q, bytes)).await
    }
}

fn list(
    tx: &mut dyn Tx,
    session: &SessionId,
    q: &EventQuery,
    bytes: usize,
) -> Result<(Vec<Listed>, bool), StoreError> {
    let limit = q.limit.saturating_add(1);
    let timed = q.gt.or(q.gte).or(q.lt).or(q.lte).is_some();
    let (log, inbox) = match q.after {
        Some(position) => position,
        None if q.descending => (i64::MAX, i64::MAX),
        None => (0, 0),
    };
    let mut out = Vec::new();
    if q.descending && !timed {
        out.extend(
            waiting(tx, session, q, inbox, limit)?
                .into_iter()
                .map(Listed::Queued),
        );
    }
    if out.len() < limit {
        let range = range(tx, session, q, log)?;
        let (events, cut) = logged(tx, session, q, range, limit - out.len(), bytes)?;
        out.extend(events.into_iter().map(Listed::Event));
        if cut {
            return Ok((out, true));
        }
    }
    if !q.descending && !timed && out.len() < limit {
        let items = waiting(tx, session, q, inbox, limit - out.len())?;
        out.extend(items.into_iter().map(Listed::Queued));
    }
    Ok((out, false))
}

/// The places to list, first and last, both inclusive.
fn range(
    tx: &mut dyn Tx,
    session: &SessionId,
    q: &EventQuery,
    after: i64,
) -> Result<(i64, i64), StoreError> {
    let (mut first, mut last) = if q.descending {
        (1, after.saturating_sub(1))
    } else {
        (after.saturating_add(1), i64::MAX)
    };
    let next = |t: Timestamp| Timestamp::from_micros(t.as_micros().saturating_add(1));
    for from in [q.gte, q.gt.map(next)].into_iter().flatten() {
        first = first.max(first_since(tx, session, from)?);
    }
    for until in [q.lt, q.lte.map(next)].into_iter().flatten() {
        last = last.min(first_since(tx, session, until)? - 1);
    }
    Ok((first, last))
}

/// The place of the first event at or after a time; one past the end if there is none.
fn first_since(tx: &mut dyn Tx, session: &SessionId, since: Timestamp) -> Result<i64, StoreError> {
    let head = tx.query(
        "SELECT head_seq FROM session WHERE id = ?1",
        params![session],
    )?;
    let (mut low, mut high) = (1, one(head).map_or(Ok(0), |mut r| r.int("head"))? + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let sql = "SELECT processed_at FROM event WHERE session_id = ?1 AND seq = ?2";
        let row = one(tx.query(sql, params![session, middle])?);
        // Places are gapless, so the row is there.
        let at = row
            .ok_or(StoreError::Corrupt { what: "log" })?
            .time("event time")?;
        if at < since {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

fn logged(
    tx: &mut dyn Tx,
    session: &SessionId,
    q: &EventQuery,
    (first, last): (i64, i64),
    limit: usize,
    bytes: usize,
) -> Result<(Vec<StoredEvent>, bool), StoreError> {
    if first > last {
        return Ok((Vec::new(), false));
    }
    let order = if q.descending { "DESC" } else { "ASC" };
    let mut params = vec![
        Value::from(session),
        first.into(),
        last.into(),
        limit.into(),
    ];
    let within = "session_id = ?1 AND seq >= ?2 AND seq <= ?3";
    let rows = if q.types.is_empty() {
        format!("FROM event WHERE {within} ORDER BY seq {order} LIMIT ?4")
    } else {
        // Each type's own index range holds its part of the page; the page is the first of all.
        // A type named twice would fill the page with doubles.
        let types: BTreeSet<&String> = q.types.iter().collect();
        let mut parts = Vec::new();
        for kind in types {
            params.push(kind.into());
            let n = params.len();
            parts.push(format!(
                "SELECT * FROM (SELECT seq FROM event WHERE {within} AND kind = ?{n}
                   ORDER BY seq {order} LIMIT ?4) AS part"
            ));
        }
        let parts = parts.join(" UNION ALL ");
        format!(
            "FROM event WHERE session_id = ?1 AND seq IN (
               SELECT seq FROM ({parts}) AS p ORDER BY seq {order} LIMIT ?4)
             ORDER BY seq {order}"
        )
    };
    let mut cut = false;
    if bytes != usize::MAX {
        let sizes = tx.query(&format!("SELECT octet_length(payload) {rows}"), &params)?;
        let fitting = fitting(sizes, bytes)?;
        cut = fitting.is_some();
        if let Some(n) = fitting {
            params[3] = n.into();
        }
    }
    let columns = "seq, id, kind, epoch, ref_id, processed_at, payload";
    let found = tx.query(&format!("SELECT {columns} {rows}"), &params)?;
    let events = found.into_iter().map(event).collect::<Result<_, _>>()?;
    Ok((events, cut))
}

/// How many of rows of these sizes, at least one, reach `bytes`; `None` if all are wanted.
pub(super) fn fitting(sizes: Vec<Row>, bytes: usize) -> Result<Option<usize>, StoreError> {
    let (all, mut sum) = (sizes.len(), 0);
    for (n, mut size) in sizes.into_iter().enumerate() {
        sum += usize::try_from(size.int("event size")?).unwrap_or(usize::MAX);
        if sum >= bytes && n + 1 < all {
            return Ok(Some(n + 1));
        }
    }
    Ok(None)
}

fn waiting(
    tx: &mut dyn Tx,
    session: &SessionId,
    q: &EventQuery,
    after: i64,
    limit: usize,
) -> Result<Vec<InboxItem>, StoreError> {
    let (beyond, order) = if q.descending {
        ("<", "DESC")
    } else {
        (">", "ASC")
    };
    let mut params = vec![Value::from(session), after.into(), limit.into()];
    let mut only = String::new();
    if !q.types.is_empty() {
        let kinds: Vec<String> = q
            .types
            .iter()
            .map(|kind| {
                params.push(kind.into());
                format!("?{}", params.len())
            })
            .collect();
        only = format!(" AND kind IN ({})", kinds.join(", "));
    }
    let sql = format!(
        "SELECT {ITEM} FROM inbox WHERE session_id = ?1 AND seq {beyond} ?2{only}
         ORDER BY seq {order} LIMIT ?3"
    );
    tx.query(&sql, &params)?.into_iter().map(item).collect()
}
