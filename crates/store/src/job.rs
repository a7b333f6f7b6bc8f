//! Operations on their way to a backend's threads, and back: what every backend that has threads
//! needs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use tokio::sync::{mpsc, oneshot};

use crate::backend::{Announcement, Boxed, Op, Scope, Tx};
use crate::{CommitListener, StoreError};

/// What an operation came to.
pub(crate) type Outcome = Result<Result<Boxed, Boxed>, StoreError>;

/// An operation and where its outcome goes.
pub(crate) struct Job {
    pub(crate) scope: Scope,
    pub(crate) op: Box<dyn Op>,
    pub(crate) answer: oneshot::Sender<Outcome>,
}

/// Starts a thread of the store; `of` is what the error names.
///
/// # Errors
/// [`StoreError::Io`]: the system has no thread left.
pub(crate) fn spawn(
    name: String,
    of: impl AsRef<Path>,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), StoreError> {
    let started = std::thread::Builder::new().name(name).spawn(work);
    started.map(drop).map_err(|source| StoreError::Io {
        action: "start a thread for",
        path: of.as_ref().to_owned(),
        source,
    })
}

/// An entry of a queue.
pub(crate) enum Message {
    Job(Job),
    /// Empty the write-ahead log, then say so.
    Scrub(oneshot::Sender<()>),
    /// Finish what is queued, then end.
    Stop,
}

/// Queues an operation and waits for its outcome.
pub(crate) async fn ask(queue: &mpsc::Sender<Message>, scope: Scope, op: Box<dyn Op>) -> Outcome {
    let (answer, answered) = oneshot::channel();
    let job = Message::Job(Job { scope, op, answer });
    queue.send(job).await.map_err(|_| StoreError::Closed)?;
    answered.await.map_err(|_| StoreError::Closed)?
}

/// What the next of several threads on one queue does. One waits on the queue, the others on the lock;
/// nothing panics while holding it.
pub(crate) fn next(queue: &Mutex<mpsc::Receiver<Message>>) -> Option<Message> {
    let mut queue = queue.lock().unwrap_or_else(|e| e.into_inner());
    let message = queue.blocking_recv();
    if matches!(message, Some(Message::Stop)) {
        // Before the lock goes to a thread that would wait for ever. What is queued is still
        // served; then everybody gets `None`.
        queue.close();
    }
    message
}

/// Runs an operation; a panic in it is an error like another.
pub(crate) fn run(op: &dyn Op, tx: &mut dyn Tx) -> Outcome {
    // The caller undoes the transaction on any failure, so no half-done state is seen later.
    catch_unwind(AssertUnwindSafe(|| op.run(tx))).map_err(|_| StoreError::Panicked)
}

/// Tells the listener of what is durable now.
pub(crate) fn announce(listener: &dyn CommitListener, announcement: &Announcement) {
    let told = catch_unwind(AssertUnwindSafe(|| match announcement {
        Announcement::Committed(session, events) => listener.committed(session, events),
        // Who changes a session here wakes its driver here.
        Announcement::Woken(_) => {}
        Announcement::Deleted(session) => listener.deleted(session),
        Announcement::Queued(environment) => listener.queued(environment),
        Announcement::WorkEnded => listener.work_ended(),
        Announcement::AccessChanged => listener.access_changed(),
    }));
    if told.is_err() {
        tracing::error!("the commit listener panicked");
    }
}

/// The same failure for another member of a group.
pub(crate) fn same(error: &StoreError) -> StoreError {
    match error {
        StoreError::Database(failure) | StoreError::Unique(failure) => {
            StoreError::Database(failure.clone())
        }
        StoreError::Connection(failure) => StoreError::Connection(failure.clone()),
        // What ends a whole group is a failure of the database or of its queue.
        _ => StoreError::Closed,
    }
}
