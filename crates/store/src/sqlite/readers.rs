//! Reader threads: each its own connection, all on one queue. WAL lets them read while the writer
//! writes, and a read that starts after a commit was answered sees it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use freehold_base::SharedClock;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::connection::{self, Mode, SqliteTx, control};
use crate::StoreError;
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
        let connection = connection::open(path, Mode::Read)?;
        let (queue, clock, alive) = (Arc::clone(&queue), Arc::clone(clock), Arc::clone(&alive));
        job::spawn(format!("store-reader-{n}"), path, move || {
            serve(&connection, &clock, &queue);
            drop(connection);
            drop(alive);
        })?;
    }
    Ok(ended)
}

fn serve(connection: &Connection, clock: &SharedClock, queue: &Mutex<mpsc::Receiver<Message>>) {
    loop {
        match next(queue) {
            Some(Message::Job(Job { op, answer, .. })) => {
                if answer.is_closed() {
                    continue; // Nobody waits any more, and a read has no effect.
                }
                let mut tx = SqliteTx::new(connection, clock.now());
                let outcome = read(connection, || job::run(&*op, &mut tx));
                let _ = answer.send(outcome);
            }
            // The one is dealt with already, the other asked of the writer only.
            Some(Message::Stop | Message::Scrub(_)) => {}
            None => return,
        }
    }
}

fn read(connection: &Connection, op: impl FnOnce() -> Outcome) -> Outcome {
    control(connection, "BEGIN")?;
    let outcome = op();
    control(connection, "COMMIT")?;
    outcome
}
