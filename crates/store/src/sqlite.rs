//! SQLite: one writer thread that commits in groups, a few readers beside it, one process.

pub(crate) mod connection;
mod readers;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use freehold_base::{Clock, SharedClock};
use tokio::sync::{mpsc, oneshot};

use self::readers::Reader;
use crate::backend::{Backend, Boxed, Op, Scope, Tx};
use crate::job::{Message, ask};
use crate::migrate::{self, MigrationStep};
use crate::reading::{self, Reading};
use crate::{CommitListener, StoreError, data_dir};

/// Operations waiting for the writer, or for a reader; senders wait beyond that.
const QUEUE: usize = 1024;

/// An open SQLite database.
pub struct Sqlite {
    writer: mpsc::Sender<Message>,
    readers: mpsc::Sender<Message>,
    /// For whoever only looks something up, on his own thread. `None` once the store is closed.
    here: Mutex<Option<Reader>>,
    /// Each becomes ready (by being dropped) when its threads have let go of the files.
    ended: tokio::sync::Mutex<Option<Ended>>,
}

struct Ended {
    readers: oneshot::Receiver<()>,
    writer: oneshot::Receiver<()>,
}

impl Sqlite {
    /// Opens or creates `freehold.db` in `dir`, brings its schema up to date, runs `first` in a
    /// transaction, and starts the threads. The directory is locked until [`Backend::close`] or
    /// the end of the process.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::SchemaNewer`], [`StoreError::SchemaAltered`], or the
    /// directory or the database cannot be used.
    pub fn open(
        dir: &Path,
        clock: SharedClock,
        listener: Arc<dyn CommitListener>,
        first: impl FnOnce(&mut dyn Tx) -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let lock = data_dir::lock(dir)?;
        let path = file(dir);
        let connection = connection::open(&path, connection::Mode::Write)?;
        connection::transaction(&connection, &*clock, |tx| {
            let batch = |sql: &str| connection.execute_batch(sql).map_err(connection::failure);
            migrate::run(tx, &migrate::SQLITE, &batch)?;
            first(tx)
        })?;
        let (readers, read_queue) = mpsc::channel(QUEUE);
        let readers_ended = readers::start(&path, &clock, read_queue)?;
        let here = Mutex::new(Some(Reader::open(&path, &clock)?));
        let (writer, write_queue) = mpsc::channel(QUEUE);
        let (alive, writer_ended) = oneshot::channel();
        writer::Writer {
            connection,
            clock,
            listener,
            queue: write_queue,
            lock,
            alive,
        }
        .start()?;
        let ended = Ended {
            readers: readers_ended,
            writer: writer_ended,
        };
        Ok(Self {
            writer,
            readers,
            here,
            ended: tokio::sync::Mutex::new(Some(ended)),
        })
    }

    /// Brings the schema of `freehold.db` in `dir` up to date, and makes what is missing; gives what
    /// was done.
    pub(crate) fn migrate(dir: &Path, clock: &dyn Clock) -> Result<Vec<MigrationStep>, StoreError> {
        let _lock = data_dir::lock(dir)?;
        let connection = connection::open(&file(dir), connection::Mode::Write)?;
        connection::transaction(&connection, clock, |tx| {
            let batch = |sql: &str| connection.execute_batch(sql).map_err(connection::failure);
            migrate::run(tx, &migrate::SQLITE, &batch)
        })
    }

    /// What [`Sqlite::migrate`] would do. Takes no lock, and changes nothing.
    pub(crate) fn pending(dir: &Path, clock: &dyn Clock) -> Result<Vec<MigrationStep>, StoreError> {
        let path = file(dir);
        let connection = match path.exists() {
            true => connection::open(&path, connection::Mode::Read)?,
            false => rusqlite::Connection::open_in_memory().map_err(connection::failure)?,
        };
        let mut tx = connection::SqliteTx::new(&connection, clock.now());
        migrate::pending(&mut tx, &migrate::SQLITE)
    }

    /// Reads `freehold.db` in `dir` beside the process that has it open.
    pub(crate) fn reading(dir: &Path, clock: &SharedClock) -> Result<Reading, StoreError> {
        let (readers, queue) = mpsc::channel(reading::QUEUE);
        let ended = readers::start(&file(dir), clock, queue)?;
        Ok(Reading::new(readers, ended, false))
    }
}

/// The database of a data directory.
pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join("freehold.db")
}

#[async_trait]
impl Backend for Sqlite {
    /// One writer runs everything in turn, whatever its scope.
    async fn write(
        &self,
        scope: Scope,
        op: Box<dyn Op>,
    ) -> Result<Result<Boxed, Boxed>, StoreError> {
        ask(&self.writer, scope, op).await
    }

    async fn read(&self, op: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError> {
        ask(&self.readers, Scope::All, op).await
    }

    async fn look_up(&self, op: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError> {
        // Where another thread looks just now, the readers are sooner than a turn.
        let outcome = match self.here.try_lock() {
            Ok(here) => here.as_ref().map(|reader| reader.run(&*op)),
            Err(_) => None,
        };
        match outcome {
            Some(outcome) => outcome,
            None => self.read(op).await,
        }
    }

    async fn scrub(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.writer
            .send(Message::Scrub(answer))
            .await
            .map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)
    }

    fn shared(&self) -> bool {
        false
    }

    async fn close(&self) {
        let mut ended = self.ended.lock().await;
        let Some(Ended { readers, writer }) = ended.take() else {
            return;
        };
        // The writer goes last: the last connection to close folds the log into the database. A
        // queue that is closed already has no thread left to ask, and an end is a dropped sender.
        drop(
            self.here
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let _ = self.readers.send(Message::Stop).await;
        let _ = readers.await;
        let _ = self.writer.send(Message::Stop).await;
        let _ = writer.await;
    }
}
