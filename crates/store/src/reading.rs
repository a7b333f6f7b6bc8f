//! A database that is only read, beside whoever serves it: for commands that look and change nothing.

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::StoreError;
use crate::backend::{Backend, Boxed, Op, Scope};
use crate::job::{Message, ask};

/// Operations waiting for a reader; senders wait beyond that.
pub(crate) const QUEUE: usize = 16;

/// An engine's readers, without its writers.
pub(crate) struct Reading {
    readers: mpsc::Sender<Message>,
    shared: bool,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Reading {
    /// Over readers that were started; `ended` becomes ready when they have let go of the database.
    pub(crate) fn new(
        readers: mpsc::Sender<Message>,
        ended: oneshot::Receiver<()>,
        shared: bool,
    ) -> Self {
        Self {
            readers,
            shared,
            ended: Mutex::new(Some(ended)),
        }
    }
}

#[async_trait]
impl Backend for Reading {
    async fn write(&self, _: Scope, _: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError> {
        Err(StoreError::ReadOnly)
    }

    async fn read(&self, op: Box<dyn Op>) -> Result<Result<Boxed, Boxed>, StoreError> {
        ask(&self.readers, Scope::All, op).await
    }

    async fn scrub(&self) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn shared(&self) -> bool {
        self.shared
    }

    async fn close(&self) {
        let mut ended = self.ended.lock().await;
        if let Some(ended) = ended.take() {
            // A queue that is closed already has no thread left to ask; an end is a dropped sender.
            let _ = self.readers.send(Message::Stop).await;
            let _ = ended.await;
        }
    }
}
