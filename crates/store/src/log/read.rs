//! Reading the log and the inbox.

use freehold_base::{EventId, SessionId};

use super::list::fitting;
use super::{InboxItem, StoredEvent};
use crate::backend::{Row, Tx, one, params};
use crate::{Store, StoreError};

/// Column order of [`event`], with `detail`.
pub(super) const EVENT: &str = "seq, id, kind, epoch, ref_id, processed_at, payload, detail";
/// Column order of [`item`].
pub(crate) const ITEM: &str = "seq, id, kind, accepted_at, payload";

/// Reads the columns of [`EVENT`]; a row without the last has no detail.
pub(super) fn event(mut row: Row) -> Result<StoredEvent, StoreError> {
    Ok(StoredEvent {
        seq: row.int("event seq")?,
        id: row.id("event id")?,
        kind: row.text("event type")?,
        epoch: row.int("event epoch")?,
        ref_id: row.opt_id("event reference")?,
        processed_at: row.time("event time")?,
        payload: row.text("event")?,
        detail: row.opt_text("event detail")?,
    })
}

pub(crate) fn item(mut row: Row) -> Result<InboxItem, StoreError> {
    Ok(InboxItem {
        seq: row.int("input seq")?,
        id: row.id("input id")?,
        kind: row.text("input type")?,
        accepted_at: row.time("input time")?,
        payload: row.text("input")?,
    })
}

/// An inbox's last `seq`, and what waits in it.
pub type Inbox = (i64, Vec<InboxItem>);

fn tail(
    tx: &mut dyn Tx,
    session: &SessionId,
    after: i64,
    limit: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let sql = format!(
        "SELECT {EVENT} FROM event WHERE session_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"
    );
    let events = tx.query(&sql, params![session, after, limit])?;
    events.into_iter().map(event).collect()
}

fn inbox(tx: &mut dyn Tx, session: &SessionId) -> Result<Inbox, StoreError> {
    let sql = "SELECT inbox_head FROM session WHERE id = ?1";
    let head = one(tx.query(sql, params![session])?);
    let head = head.map_or(Ok(0), |mut row| row.int("inbox"))?;
    // No limit: what waits is bounded when it is accepted.
    let sql = format!("SELECT {ITEM} FROM inbox WHERE session_id = ?1 ORDER BY seq");
    let items = tx.query(&sql, params![session])?.into_iter().map(item);
    Ok((head, items.collect::<Result<_, StoreError>>()?))
}

impl Store {
    /// The events after `after`, oldest first, with their details; at most `limit`.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tail(
        &self,
        session: &SessionId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let session = session.clone();
        self.read(move |tx| tail(tx, &session, after, limit)).await
    }

    /// The same as [`Store::tail`], but no further than `bytes` of events, or one event if that is
    /// larger. An empty page is the end.
    ///
    /// # Errors
    /// The store failed.
    pub async fn tail_within(
        &self,
        session: &SessionId,
        after: i64,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let session = session.clone();
        self.read(move |tx| {
            let rows = "FROM event WHERE session_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
            let sizes = format!("SELECT octet_length(payload) {rows}");
            let sizes = tx.query(&sizes, params![&session, after, limit])?;
            let limit = fitting(sizes, bytes)?.unwrap_or(limit);
            let events = format!("SELECT {EVENT} {rows}");
            let events = tx.query(&events, params![&session, after, limit])?;
            events.into_iter().map(event).collect()
        })
        .await
    }

    /// The inbox's last `seq` and what waits in it, in the order it was accepted. `(0, [])` for a
    /// session that does not exist.
    ///
    /// # Errors
    /// The store failed.
    pub async fn inbox(&self, session: &SessionId) -> Result<Inbox, StoreError> {
        let session = session.clone();
        self.read(move |tx| inbox(tx, &session)).await
    }

    /// What whoever knows the log up to `after` does not know: the events as [`Store::tail`] gives them
    /// and the inbox as [`Store::inbox`] does, at one moment. `None` if that is more than `limit` events.
    ///
    /// # Errors
    /// The store failed.
    pub async fn news(
        &self,
        session: &SessionId,
        after: i64,
        limit: usize,
    ) -> Result<Option<(Vec<StoredEvent>, Inbox)>, StoreError> {
        let session = session.clone();
        self.look_up(move |tx| {
            let events = tail(tx, &session, after, limit.saturating_add(1))?;
            if events.len() > limit {
                return Ok(None);
            }
            Ok(Some((events, inbox(tx, &session)?)))
        })
        .await
    }

    /// One event of the log, with its detail.
    ///
    /// # Errors
    /// The store failed.
    pub async fn event(
        &self,
        session: &SessionId,
        id: &EventId,
    ) -> Result<Option<StoredEvent>, StoreError> {
        let (session, id) = (session.clone(), id.clone());
        self.look_up(move |tx| {
            let sql = format!("SELECT {EVENT} FROM event WHERE id = ?1 AND session_id = ?2");
            one(tx.query(&sql, params![&id, &session])?)
                .map(event)
                .transpose()
        })
        .await
    }

    /// The events and the waiting input that answer or refer to `ref_id`, in order.
    ///
    /// # Errors
    /// The store failed.
    pub async fn references(
        &self,
        session: &SessionId,
        ref_id: &EventId,
    ) -> Result<(Vec<StoredEvent>, Vec<InboxItem>), StoreError> {
        let (session, ref_id) = (session.clone(), ref_id.clone());
        self.look_up(move |tx| {
            let of = params![&session, &ref_id];
            let sql = format!(
                "SELECT {EVENT} FROM event WHERE session_id = ?1 AND ref_id = ?2 ORDER BY seq"
            );
            let events = tx.query(&sql, of)?.into_iter().map(event);
            let events = events.collect::<Result<_, StoreError>>()?;
            let sql = format!(
                "SELECT {ITEM} FROM inbox WHERE session_id = ?1 AND ref_id = ?2 ORDER BY seq"
            );
            let items = tx.query(&sql, of)?.into_iter().map(item);
            Ok((events, items.collect::<Result<_, StoreError>>()?))
        })
        .await
    }
}
