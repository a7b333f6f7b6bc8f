//! Reader threads: each its own connection, all on one queue.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::connection::{Connection, PgTx};
use super::lane::Pauses;
use super::{Address, Time};
use crate::StoreError;
use crate::backend::Op;
use crate::job::{self, Job, Message, Outcome, next};

/// Readers wait for the network, not for a core.
const READERS: usize = 8;

/// Starts the threads. What is given becomes ready (by being dropped) when all have ended.
pub(super) fn start(
    address: &Address,
    time: &Time,
    queue: mpsc::Receiver<Message>,
) -> Result<oneshot::Receiver<()>, StoreError> {
    let (alive, ended) = oneshot::channel();
    let alive = Arc::new(alive);
    let queue = Arc::new(Mutex::new(queue));
    for n in 0..READERS {
        let (address, time) = (address.clone(), time.clone());
        let (queue, alive) = (Arc::clone(&queue), Arc::clone(&alive));
        job::spawn(format!("store-reader-{n}"), "the database", move || {
            serve(&address, &time, &queue);
            drop(alive);
        })?;
    }
    Ok(ended)
}

fn serve(address: &Address, time: &Time, queue: &Mutex<mpsc::Receiver<Message>>) {
    let mut connection = None;
    while let Some(message) = next(queue) {
        let Message::Job(Job { op, answer, .. }) = message else {
            continue;
        };
        if answer.is_closed() {
            continue; // Nobody waits any more, and a read has no effect.
        }
        let outcome = patiently(&mut connection, address, time, &*op);
        let _ = answer.send(outcome);
        // Nobody waits for the end of a snapshot.
        if connection
            .as_ref()
            .is_some_and(|c: &Connection| c.batch("COMMIT").is_err())
        {
            connection = None;
        }
    }
}

fn patiently(
    connection: &mut Option<Connection>,
    address: &Address,
    time: &Time,
    op: &dyn Op,
) -> Outcome {
    let mut pauses = Pauses::new();
    loop {
        match read(connection, address, time, op) {
            Err(error @ StoreError::Connection(_)) => {
                *connection = None;
                if !pauses.pause() {
                    return Err(error);
                }
            }
            outcome => return outcome,
        }
    }
}

fn read(
    connection: &mut Option<Connection>,
    address: &Address,
    time: &Time,
    op: &dyn Op,
) -> Outcome {
    let open = match connection.take() {
        Some(open) => open,
        None => Connection::open(address)?,
    };
    let open = connection.insert(open);
    let begun = open.snapshot(time)?;
    let mut tx = PgTx::new(open, &begun);
    let outcome = job::run(op, &mut tx);
    tx.broken.map_or(outcome, Err)
}
