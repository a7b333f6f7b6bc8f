//! What must hold of a session's rows, whatever crashed while they were written: its log against its
//! row, its inbox and its blobs. What must hold of the events themselves is the engine's
//! (`invariants`).

use std::collections::HashSet;

use freehold_base::{EventId, SessionId, Timestamp};
use freehold_wire::session::Status;
use serde_json::Value as Json;

use crate::backend::{one, params};
use crate::log::{ITEM, InboxItem, StoredEvent, item};
use crate::{BlobError, Store, StoreError, schema};

/// A session as its rows say at one moment. The log may have grown since; it is judged up to the head.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Last assigned place in the log.
    pub head: i64,
    /// Last assigned place in the inbox.
    pub inbox_head: i64,
    /// When the last event entered the log; 0 before the first.
    pub last_processed_at: Timestamp,
    /// Its status.
    pub status: Status,
    /// Whether it is idle and waits for an answer.
    pub blocked: bool,
    /// When it wants a driver.
    pub wake_at: Option<Timestamp>,
    /// Who drives it.
    pub lease_owner: Option<String>,
    /// The newest driver's epoch.
    pub lease_epoch: i64,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// When it ended.
    pub terminated_at: Option<Timestamp>,
    /// What waits.
    pub inbox: Vec<InboxItem>,
}

impl Standing {
    /// Whether nothing is under way and nobody is waited for: then nothing may be open in the log.
    pub fn settled(&self) -> bool {
        self.status == Status::Idle && !self.blocked && self.inbox.is_empty()
    }
}

/// One rule, on how much it was tried, and where it does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What must hold.
    pub rule: &'static str,
    /// How many were looked at.
    pub count: usize,
    /// What was found.
    pub violations: Vec<String>,
}

impl Checked {
    fn of(rule: &'static str) -> Self {
        Self {
            rule,
            count: 0,
            violations: Vec::new(),
        }
    }
    fn hold(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        self.count += 1;
        if !holds {
            self.violations.push(otherwise());
        }
    }
}

/// Holds a log against its session's row, event by event.
pub struct HistoryAudit {
    standing: Standing,
    waiting: HashSet<EventId>,
    last: Option<(i64, Timestamp)>,
    last_epoch: i64,
    last_status: Option<&'static str>,
    sequence: Checked,
    order: Checked,
    epochs: Checked,
    payloads: Checked,
    inbox: Checked,
}

/// Place and time before the first event.
const NO_EVENT: (i64, Timestamp) = (0, Timestamp::from_micros(0));
/// Statuses as events say them.
const STATUSES: [(&str, &str); 4] = [
    ("session.status_running", "running"),
    ("session.status_idle", "idle"),
    ("session.status_rescheduled", "rescheduling"),
    ("session.status_terminated", "terminated"),
];

impl HistoryAudit {
    /// Of a session.
    pub fn new(standing: Standing) -> Self {
        Self {
            waiting: standing.inbox.iter().map(|item| item.id.clone()).collect(),
            standing,
            last: None,
            last_epoch: 0,
            last_status: None,
            sequence: Checked::of("places in the log are gapless from 1"),
            order: Checked::of("processed_at rises with the place"),
            epochs: Checked::of("no event of an older driver follows one of a newer"),
            payloads: Checked::of("payloads say the id and type of their rows"),
            inbox: Checked::of("input is consumed once and waits in order"),
        }
    }

    /// The next event, in the order of the log; of those up to the head.
    pub fn event(&mut self, event: &StoredEvent) {
        let (seq, id) = (event.seq, &event.id);
        let (last, at) = self.last.unwrap_or(NO_EVENT);
        self.sequence.hold(seq == last + 1, || {
            format!("{id} is at {seq}, after {last}")
        });
        self.order.hold(at < event.processed_at, || {
            format!("{id} at {seq} is not later than the one before")
        });
        self.last = Some((seq, event.processed_at));
        if event.epoch != 0 {
            let (before, newest) = (self.last_epoch, self.standing.lease_epoch);
            self.epochs
                .hold(before <= event.epoch && event.epoch <= newest, || {
                    let epoch = event.epoch;
                    format!("{id} at {seq} is of epoch {epoch}, after {before}, newest {newest}")
                });
            self.last_epoch = event.epoch.max(before);
        }
        let payload: Json = serde_json::from_str(&event.payload).unwrap_or_default();
        let says = payload["id"] == id.as_str() && payload["type"] == event.kind.as_str();
        self.payloads
            .hold(says, || format!("{id} at {seq} says something else"));
        if self.waiting.contains(id) {
            let violation = format!("{id} is in the log, at {seq}, and still waits");
            self.inbox.violations.push(violation);
        }
        if let Some((_, status)) = STATUSES.iter().find(|(kind, _)| *kind == event.kind) {
            self.last_status = Some(status);
        }
    }

    /// What came of it.
    pub fn finish(mut self) -> Vec<Checked> {
        let standing = &self.standing;
        let (last, at) = self.last.unwrap_or(NO_EVENT);
        let mut head = Checked::of("the row's head and time are those of the last event");
        head.hold(standing.head == last, || {
            format!("the head is {}, the last event at {last}", standing.head)
        });
        head.hold(standing.last_processed_at == at, || {
            "the time of the last event is not the row's".to_owned()
        });
        let mut before = 0;
        for item in &standing.inbox {
            let (seq, known) = (item.seq, standing.inbox_head);
            let placed = before < seq && seq <= known;
            self.inbox.hold(placed, || {
                format!("{} waits at {seq}, after {before}, of {known}", item.id)
            });
            before = seq;
        }
        vec![
            self.sequence,
            head,
            self.order,
            self.epochs,
            self.payloads,
            self.inbox,
            state(&self.standing, self.last_status),
        ]
    }
}

/// Whether status, lease and wake-up time agree with each other and with the log.
fn state(s: &Standing, last: Option<&str>) -> Checked {
    let mut state = Checked::of("status, lease and wake-up time agree");
    let status = s.status.as_str();
    let active = matches!(s.status, Status::Running | Status::Rescheduling);
    state.hold(
        !active || s.lease_owner.is_some() || s.wake_at.is_some(),
        || format!("it is {status}, and nobody drives it or is to"),
    );
    state.hold(!s.blocked || s.status == Status::Idle, || {
        format!("it waits for an answer and is {status}")
    });
    state.hold(s.lease_owner.is_none() || s.lease_epoch > 0, || {
        "it is driven, and was never claimed".to_owned()
    });
    let ended = s.status == Status::Terminated;
    state.hold(ended == s.terminated_at.is_some(), || {
        format!("it is {status}, which its time of ending contradicts")
    });
    let archived = s.archived_at.is_some();
    state.hold(!archived || (ended && s.lease_owner.is_none()), || {
        format!("it is archived, and {status} or driven")
    });
    // A session runs from the moment its input is accepted, before the log says so.
    state.hold(active || last.is_none_or(|said| said == status), || {
        format!(
            "it is {status}, and its log ends {}",
            last.unwrap_or_default()
        )
    });
    state
}

impl Store {
    /// How a session stands; `None` if there is none.
    ///
    /// # Errors
    /// The store failed.
    pub async fn standing(&self, session: &SessionId) -> Result<Option<Standing>, StoreError> {
        let session = session.clone();
        self.read(move |tx| {
            let sql = "SELECT head_seq, inbox_head, last_processed_at, status, blocked, wake_at,
                 lease_owner, lease_epoch, archived_at, terminated_at
               FROM session WHERE id = ?1";
            let Some(mut row) = one(tx.query(sql, params![&session])?) else {
                return Ok(None);
            };
            let sql = format!("SELECT {ITEM} FROM inbox WHERE session_id = ?1 ORDER BY seq");
            let inbox = tx.query(&sql, params![&session])?;
            Ok::<_, StoreError>(Some(Standing {
                head: row.int("head")?,
                inbox_head: row.int("inbox head")?,
                last_processed_at: row.time("time")?,
                status: Status::from_name(&row.text("status")?)
                    .ok_or(StoreError::Corrupt { what: "status" })?,
                blocked: row.flag("blocked")?,
                wake_at: row.opt_time("wake-up time")?,
                lease_owner: row.opt_text("lease owner")?,
                lease_epoch: row.int("epoch")?,
                archived_at: row.opt_time("time")?,
                terminated_at: row.opt_time("time")?,
                inbox: inbox.into_iter().map(item).collect::<Result<_, _>>()?,
            }))
        })
        .await
    }

    /// The keys of the blobs that rows of a session refer to, in every table.
    ///
    /// # Errors
    /// The store failed.
    pub async fn session_blobs(&self, session: &SessionId) -> Result<Vec<String>, StoreError> {
        let mut selects = Vec::new();
        for table in schema::tables()? {
            if let (Some(column), true) = (table.session(), table.has("blob")) {
                selects.push(format!(
                    "SELECT blob FROM {} WHERE {column} = ?1 AND blob IS NOT NULL",
                    table.name
                ));
            }
        }
        let (sql, session) = (selects.join(" UNION "), session.clone());
        self.read(move |tx| {
            let rows = tx.query(&sql, params![&session])?;
            rows.into_iter().map(|mut row| row.text("blob")).collect()
        })
        .await
    }

    /// Whether the blobs that rows of a session refer to are there. One that is not is asked for again
    /// if it is still referred to: it may just have been deleted.
    ///
    /// # Errors
    /// The store failed, or its blobs could not be asked for.
    pub async fn check_blobs(&self, session: &SessionId) -> Result<Checked, StoreError> {
        let mut checked = Checked::of("blobs that its rows name are there");
        let mut missing = Vec::new();
        for key in self.session_blobs(session).await? {
            checked.count += 1;
            match self.blobs().open(&key).await {
                Ok(_) => {}
                Err(BlobError::NotFound) => missing.push(key),
                Err(error) => return Err(error.into()),
            }
        }
        let named = match missing.is_empty() {
            true => Vec::new(),
            false => self.session_blobs(session).await?,
        };
        let lost = missing.into_iter().filter(|key| named.contains(key));
        checked.violations = lost.map(|key| format!("{key} is missing")).collect();
        Ok(checked)
    }
}
