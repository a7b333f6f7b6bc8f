//! Reader threads: each its own connection, all on one queue; and a reader without a thread, for who
//! only looks something up. WAL lets them read while the writer writes, and a read that starts after a
//! commit was answered sees it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use freehold_base::SharedClock;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::connection::{self, Mode, SqliteTx, control};
use crate::StoreError;
use crate::backend::Op;
use crate::job::{self, Job, Message, Outcome, next};

/// Enough to use the cores while one waits for the disk; more only cost memory.
const READERS: usize = 3;

/// Starts the threads. What is given becomes ready (by being dropped) when all have ended and let
/// go of the file.
pub(super) fn start(
    path: &Path,
    clock: &SharedClock,
    queue: mpsc::Receiver<Message>,
) -> Result<oneshot::Receiver<()>, StoreError> {
    let (alive, ended) = oneshot::channel();
    let alive = Arc::new(alive);
    let queue = Arc::new(Mutex::new(queue));
    for n in 0..READERS {
        let reader = Reader::open(path, clock)?;
        let (queue, alive) = (Arc::clone(&queue), Arc::clone(&alive));
        job::spawn(format!("store-reader-{n}"), path, move || {
            serve(&reader, &queue);
            drop(reader);
            drop(alive);
        })?;
    }
    Ok(ended)
}

fn serve(reader: &Reader, queue: &Mutex<mpsc::Receiver<Message>>) {
    loop {
        match next(queue) {
            Some(Message::Job(Job { op, answer, .. })) => {
                if answer.is_closed() {
                    continue; // Nobody waits any more, and a read has no effect.
                }
                let _ = answer.send(reader.run(&*op));
            }
            // The one is dealt with already, the other asked of the writer only.
            Some(Message::Stop | Message::Scrub(_)) => {}
            None => return,
        }
    }
}

/// A connection that reads.
pub(super) struct Reader {
    connection: Connection,
    clock: SharedClock,
}

impl Reader {
    pub(super) fn open(path: &Path, clock: &SharedClock) -> Result<Self, StoreError> {
        Ok(Self {
            connection: connection::open(path, Mode::Read)?,
            clock: Arc::clone(clock),
        })
    }

    /// Runs an operation on a snapshot of its own.
    pub(super) fn run(&self, op: &dyn Op) -> Outcome {
        control(&self.connection, "BEGIN")?;
        let mut tx = SqliteTx::new(&self.connection, self.clock.now());
        let outcome = job::run(op, &mut tx);
        control(&self.connection, "COMMIT")?;
        outcome
    }
}
