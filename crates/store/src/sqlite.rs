//! SQLite: one writer thread that commits in groups, a few readers beside it, one process.

mod connection;
mod files;
mod job;
mod migrate;
mod readers;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::SharedClock;
use tokio::sync::{mpsc, oneshot};

use crate::backend::{Backend, Boxed, Op, Tx};
use crate::{CommitListener, StoreError};
use job::{Job, Message};

/// Operations waiting for the writer, or for a reader; senders wait beyond that.
const QUEUE: usize = 1024;

/// An open SQLite database.
pub struct Sqlite {
    writer: mpsc::Sender<Message>,
    readers: mpsc::Sender<Message>,
    /// Becomes ready (by being dropped) when the writer thread has let go of the files.
    ended: tokio::sync::Mutex<Option<oneshot::Receiver<()>>>,
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
        let lock = files::prepare(dir)?;
        let path = dir.join("freehold.db");
        let connection = connection::open(&path, connection::Mode::Write)?;
        migrate::run(&connection, &*clock)?;
        connection::transaction(&connection, &*clock, first)?;
        let (readers, read_queue) = mpsc::channel(QUEUE);
        readers::start(&path, &clock, read_queue)?;
        let (writer, write_queue) = mpsc::channel(QUEUE);
        let (alive, ended) = oneshot::channel();
        writer::Writer { connection, clock, listener, queue: write_queue, lock, alive }.start()?;
        Ok(Self { writer, readers, ended: tokio::sync::Mutex::new(Some(ended)) })
    }
}

async fn ask(
    queue: &mpsc::Sender<Message>,
    op: Op,
) -> Result<Result<Boxed, Boxed>, StoreError> {
    let (answer, answered) = oneshot::channel();
    let job = Message::Job(Job { op, answer });
    queue.send(job).await.map_err(|_| StoreError::Closed)?;
    answered.await.map_err(|_| StoreError::Closed)?
}

#[async_trait]
impl Backend for Sqlite {
    async fn write(&self, op: Op) -> Result<Result<Boxed, Boxed>, StoreError> {
        ask(&self.writer, op).await
    }

    async fn read(&self, op: Op) -> Result<Result<Boxed, Boxed>, StoreError> {
        ask(&self.readers, op).await
    }

    async fn close(&self) {
        // A thread that has ended already has closed its queue: then there is nothing to ask.
        let _ = self.readers.send(Message::Stop).await;
        let _ = self.writer.send(Message::Stop).await;
        if let Some(ended) = self.ended.lock().await.take() {
            let _ = ended.await;
        }
    }
}
