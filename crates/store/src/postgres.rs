//! PostgreSQL: several replicas on one database. A few lanes write, each a thread with a connection
//! of its own that commits in groups; a few readers beside them.
//!
//! What SQLite's single writer gives, locks give here ([`Scope`]): an operation on a session holds
//! that session's lock and shares the database's, one that needs no other to stand still only shares it,
//! and any other holds the database's for itself alone.
//! Both are advisory and end with the transaction, so a dead replica holds none, and a stopped one
//! only until the server ends its idle transaction. So no operation needs to be written with a
//! second writer in mind, and sessions do not wait for each other.
//!
//! A connection that is lost is delay: the group runs again on a new one. If it is lost during COMMIT
//! the server is asked what became of that transaction before anything runs again: each leaves a mark of its
//! own in the row of its lane (`commit_mark`), because after a crash its id may be another's.

mod address;
mod connection;
mod group;
mod lane;
mod news;
mod readers;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::SharedClock;
use tokio::sync::{mpsc, oneshot};

pub use self::address::{Address, AddressError};
use self::connection::{Connection, PgTx};
use self::lane::Lane;
use crate::backend::{Backend, Boxed, Op, Scope, Tx};
use crate::job::{Message, ask};
use crate::migrate::{self, MigrationStep, Words};
use crate::reading::{self, Reading};
use crate::{CommitListener, StoreError};

/// Operations waiting for one lane, or for a reader; senders wait beyond that.
const QUEUE: usize = 1024;
/// Lanes for operations on sessions; each keeps the order of its sessions.
const LANES: usize = 2;

/// The order of text is that of its bytes, whatever the database was made with.
const WORDS: Words = Words {
    words: &[
        (" TEXT", " TEXT COLLATE \"C\""),
        ("{I64}", "BIGINT"),
        ("{BLOB}", "BYTEA"),
        (" {STRICT}", ""),
    ],
    begun: "SELECT 1 FROM information_schema.tables
      WHERE table_schema = current_schema() AND table_name = 'schema_migration'",
};

/// An open PostgreSQL database.
pub struct Postgres {
    /// For everything but sessions.
    other: mpsc::Sender<Message>,
    lanes: Vec<mpsc::Sender<Message>>,
    readers: mpsc::Sender<Message>,
    /// Each becomes ready (by being dropped) when its threads have ended.
    ended: tokio::sync::Mutex<Vec<oneshot::Receiver<()>>>,
}

/// Whose time counts.
#[derive(Clone)]
pub enum Time {
    /// The database's: one for all replicas.
    Database,
    /// This clock's, for tests.
    Of(SharedClock),
}

impl Postgres {
    /// Connects, brings the schema up to date, runs `first` in the same transaction, and starts the
    /// threads; others know what comes from here by `origin`, a word. Replicas that start together do
    /// so one after another. Blocks: call it where that is no harm.
    ///
    /// # Errors
    /// [`StoreError::SchemaNewer`], [`StoreError::SchemaAltered`], or the database cannot be used.
    pub fn open(
        address: &Address,
        time: Time,
        origin: String,
        listener: Arc<dyn CommitListener>,
        first: impl FnOnce(&mut dyn Tx) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let connection = Connection::open(address)?;
        let begun = connection.begin(&[Scope::All], &time)?;
        let mut tx = PgTx::new(&connection, &begun);
        migrate::run(&mut tx, &WORDS, &|sql| connection.batch(sql))?;
        connection.prepare()?;
        first(&mut tx)?;
        connection.batch("COMMIT")?;
        drop(connection);

        let mut ended = Vec::new();
        let (news, to_tell) = mpsc::unbounded_channel();
        let mut lane = |name: String| {
            let (sender, queue) = mpsc::channel(QUEUE);
            let (address, time) = (address.clone(), time.clone());
            let listener = Arc::clone(&listener);
            let unique = format!("{origin} {name}");
            let lane = Lane::new(address, time, listener, queue, news.clone(), unique);
            ended.push(lane.start(name)?);
            Ok::<_, StoreError>(sender)
        };
        let other = lane("store-writer".to_owned())?;
        let lanes = (0..LANES).map(|n| lane(format!("store-lane-{n}")));
        let lanes = lanes.collect::<Result<_, _>>()?;
        let (readers, queue) = mpsc::channel(QUEUE);
        ended.push(readers::start(address, &time, queue)?);
        // Its senders are the lanes', so it ends after them.
        drop(news);
        ended.push(news::start(address, origin, listener, to_tell)?);
        Ok(Self {
            other,
            lanes,
            readers,
            ended: tokio::sync::Mutex::new(ended),
        })
    }

    /// Brings the schema up to date; gives what was done. Others wait meanwhile.
    pub(crate) fn migrate(address: &Address) -> Result<Vec<MigrationStep>, StoreError> {
        let connection = Connection::open(address)?;
        let begun = connection.begin(&[Scope::All], &Time::Database)?;
        let mut tx = PgTx::new(&connection, &begun);
        let done = migrate::run(&mut tx, &WORDS, &|sql| connection.batch(sql))?;
        connection.batch("COMMIT")?;
        Ok(done)
    }

    /// What [`Postgres::migrate`] would do. Takes no lock, and changes nothing.
    pub(crate) fn pending(address: &Address) -> Result<Vec<MigrationStep>, StoreError> {
        let connection = Connection::open(address)?;
        let begun = connection.snapshot(&Time::Database)?;
        migrate::pending(&mut PgTx::new(&connection, &begun), &WORDS)
    }

    /// Reads the database beside the replicas that use it.
    pub(crate) fn reading(address: &Address) -> Result<Reading, StoreError> {
        let (readers, queue) = mpsc::channel(reading::QUEUE);
        let ended = readers::start(address, &Time::Database, queue)?;
        Ok(Reading::new(readers, ended, true))
    }

    fn lane(&self, scope: &Scope) -> &mpsc::Sender<Message> {
        let Scope::Session(session) = scope else {
            return &self.other;
        };
        let mut hasher = DefaultHasher::new();
        session.as_str().hash(&mut hasher);
        let n = hasher.finish() % self.lanes.len() as u64;
        self.lanes.get(n as usize).unwrap_or(&self.other)
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn write(
        &self,
        scope: Scope,
        op: Box<dyn Op>,
    ) -> Result<Result<Boxed, Boxed>, StoreError> {
        ask(self.lane(&scope), scope, op).await
    }

    async fn read(&self, op: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError> {
        ask(&self.readers, Scope::All, op).await
    }

    /// The database's own housekeeping (autovacuum, the recycling of its log) does that.
    async fn scrub(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn shared(&self) -> bool {
        true
    }

    async fn close(&self) {
        let mut ended = self.ended.lock().await;
        for queue in self.lanes.iter().chain([&self.other, &self.readers]) {
            // A queue that is closed already has no thread left to ask.
            let _ = queue.send(Message::Stop).await;
        }
        for end in ended.drain(..) {
            let _ = end.await; // An end is a dropped sender.
        }
    }
}
