//! What replicas tell each other: that there is something to look up. Nothing is decided by it, and
//! nothing is lost with it.
//!
//! Commits do not notify, which would serialise them: one thread collects what was committed here and
//! sends it every few milliseconds, in a transaction of its own. The same thread listens, on the same
//! connection, and looks every second whether sessions that somebody here watches have moved, for
//! whatever was not heard: behind a pooler of transactions nothing is heard at all.

use std::collections::{BTreeSet, HashMap};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{EnvironmentId, SessionId};
use tokio::runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_postgres::AsyncMessage;
use tokio_postgres::types::Type;

use super::Address;
use crate::backend::Announcement;
use crate::job;
use crate::{CommitListener, StoreError};

/// The channel of NOTIFY.
const CHANNEL: &str = "freehold";
/// How long news is collected before it is sent.
const COLLECT: Duration = Duration::from_millis(10);
/// Between two looks at what is watched.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two assumptions that everything has changed, where nothing is heard.
const DEAF: u32 = 5;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// An answer that takes longer will not come.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of one notification; PostgreSQL takes less than 8,000.
const MAX_PAYLOAD: usize = 7_000;
/// Watched sessions asked for in one statement.
const MAX_WATCHED: usize = 2_000;

/// One thing to look up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// The session's log ends here now, or (0) something else of it changed.
    Moved(SessionId, i64),
    Deleted(SessionId),
    Queued(EnvironmentId),
    WorkEnded,
    Access,
}

impl Item {
    pub(super) fn of(announcement: &Announcement) -> Self {
        match announcement {
            Announcement::Committed(session, events) => {
                Self::Moved(session.clone(), events.last().map_or(0, |e| e.seq))
            }
            Announcement::Woken(session) => Self::Moved(session.clone(), 0),
            Announcement::Deleted(session) => Self::Deleted(session.clone()),
            Announcement::Queued(environment) => Self::Queued(environment.clone()),
            Announcement::WorkEnded => Self::WorkEnded,
            Announcement::AccessChanged => Self::Access,
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Moved(session, head) => format!(" m:{session}:{head}"),
            Self::Deleted(session) => format!(" d:{session}"),
            Self::Queued(environment) => format!(" q:{environment}"),
            Self::WorkEnded => " w".to_owned(),
            Self::Access => " a".to_owned(),
        }
    }

    /// What this version does not know it passes over.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (kind, id, head) = (parts.next()?, parts.next(), parts.next());
        Some(match (kind, id) {
            ("m", Some(id)) => Self::Moved(id.parse().ok()?, head?.parse().ok()?),
            ("d", Some(id)) => Self::Deleted(id.parse().ok()?),
            ("q", Some(id)) => Self::Queued(id.parse().ok()?),
            ("w", None) => Self::WorkEnded,
            ("a", None) => Self::Access,
            _ => return None,
        })
    }

    fn tell(&self, listener: &dyn CommitListener) {
        match self {
            Self::Moved(session, head) => listener.moved(session, *head),
            Self::Deleted(session) => listener.deleted(session),
            Self::Queued(environment) => listener.queued(environment),
            Self::WorkEnded => listener.work_ended(),
            Self::Access => listener.access_changed(),
        }
    }
}

/// Starts the thread. It ends when every sender is gone; what is given becomes ready (by being
/// dropped) then.
pub(super) fn start(
    address: &Address,
    origin: String,
    listener: Arc<dyn CommitListener>,
    queue: mpsc::UnboundedReceiver<Item>,
) -> Result<oneshot::Receiver<()>, StoreError> {
    let (alive, ended) = oneshot::channel();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| StoreError::Io {
        action: "start a runtime for",
        path: "the database".into(),
        source,
    })?;
    let mut desk = Desk {
        address: address.clone(),
        origin,
        listener,
        queue,
        pending: BTreeSet::new(),
        seen: HashMap::new(),
        hears: false,
    };
    job::spawn("store-news".to_owned(), "the database", move || {
        runtime.block_on(async {
            // An end by error is a lost connection; one without is that of the senders.
            while let Err(error) = desk.serve().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no news from other replicas"
                );
                sleep(PAUSE).await;
            }
        });
        drop(alive);
    })?;
    Ok(ended)
}

struct Desk {
    address: Address,
    /// Whose news it is: ours we know.
    origin: String,
    listener: Arc<dyn CommitListener>,
    queue: mpsc::UnboundedReceiver<Item>,
    pending: BTreeSet<Item>,
    /// How watched sessions stood at the last look: the ends of log and inbox.
    seen: HashMap<SessionId, (i64, i64)>,
    /// Whether what is sent comes back.
    hears: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the connection for news was lost")]
struct Away(#[source] Option<tokio_postgres::Error>);

impl From<tokio_postgres::Error> for Away {
    fn from(error: tokio_postgres::Error) -> Self {
        Self(Some(error))
    }
}

async fn within<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Away> {
    let done = tokio::time::timeout(ANSWER, work).await;
    Ok(done.map_err(|_| Away(None))??)
}

impl Desk {
    /// Sends and listens on one connection until that is lost, or the senders are gone.
    async fn serve(&mut self) -> Result<(), Away> {
        let (config, tls) = (&self.address.config, self.address.tls.clone());
        let (client, mut connection) = within(config.connect(tls)).await?;
        let (heard, mut notes) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(note) = message {
                    let _ = heard.send(note.payload().to_owned());
                }
            }
        });
        within(client.batch_execute(&format!("LISTEN {CHANNEL}"))).await?;
        self.hears = false;
        // Comes back, if anything does.
        self.send(&client, &[String::new()]).await?;
        self.all_changed();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut due, mut looks) = (None::<Instant>, 0);
        loop {
            tokio::select! {
                item = self.queue.recv() => match item {
                    Some(item) => {
                        self.pending.insert(item);
                        due.get_or_insert_with(|| Instant::now() + COLLECT);
                    }
                    None => return Ok(()),
                },
                note = notes.recv() => self.take(&note.ok_or(Away(None))?),
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    due = None;
                    let payloads = self.payloads();
                    self.send(&client, &payloads).await?;
                    self.pending.clear();
                }
                _ = look.tick() => {
                    self.look(&client).await?;
                    looks += 1;
                    if !self.hears && looks % DEAF == 0 {
                        self.all_changed();
                    }
                }
            }
        }
    }

    /// What is pending, in as few notifications as hold it.
    fn payloads(&self) -> Vec<String> {
        let mut payloads = vec![String::new()];
        for item in &self.pending {
            let text = item.write();
            match payloads.last_mut() {
                Some(last) if last.len() + text.len() <= MAX_PAYLOAD => last.push_str(&text),
                _ => payloads.push(text),
            }
        }
        payloads
    }

    async fn send(&self, client: &tokio_postgres::Client, payloads: &[String]) -> Result<(), Away> {
        for payload in payloads {
            let text = format!("{}{payload}", self.origin);
            let sql = "SELECT pg_notify($1, $2)";
            let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                [(&CHANNEL, Type::TEXT), (&text, Type::TEXT)];
            within(client.query_typed(sql, &params)).await?;
        }
        Ok(())
    }

    fn take(&mut self, note: &str) {
        let mut words = note.split(' ');
        if words.next() == Some(self.origin.as_str()) {
            self.hears = true;
            return;
        }
        for item in words.filter_map(Item::read) {
            item.tell(&*self.listener);
        }
    }

    fn all_changed(&mut self) {
        self.seen.clear();
        self.listener.work_ended();
        self.listener.access_changed();
    }

    /// Looks whether what is watched here has moved.
    async fn look(&mut self, client: &tokio_postgres::Client) -> Result<(), Away> {
        let watched = self.listener.watched();
        let mut found = HashMap::with_capacity(watched.len());
        for some in watched.chunks(MAX_WATCHED) {
            let ids: Vec<&str> = some.iter().map(SessionId::as_str).collect();
            let sql = "SELECT id, head_seq, inbox_head FROM session WHERE id = ANY($1)";
            let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] =
                [(&ids, Type::TEXT_ARRAY)];
            for row in within(client.query_typed(sql, &params)).await? {
                if let Ok(id) = row.try_get::<_, &str>(0)?.parse::<SessionId>() {
                    found.insert(id, (row.try_get(1)?, row.try_get(2)?));
                }
            }
        }
        for session in watched {
            match found.get(&session) {
                Some(now @ (head, _)) if self.seen.get(&session) != Some(now) => {
                    self.listener.moved(&session, *head);
                }
                Some(_) => {}
                None => self.listener.deleted(&session),
            }
        }
        self.seen = found;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_reads_as_it_was_written() {
        let items = [
            Item::Moved("sesn_1".parse().unwrap(), 12),
            Item::Deleted("sesn_1".parse().unwrap()),
            Item::Queued("env_1".parse().unwrap()),
            Item::WorkEnded,
            Item::Access,
        ];
        for item in items {
            assert_eq!(Item::read(item.write().trim()), Some(item));
        }
        for unknown in ["", "x", "m:sesn_1", "m:sesn_1:x", "z:sesn_1", "w:1"] {
            assert_eq!(Item::read(unknown), None, "{unknown}");
        }
    }
}
