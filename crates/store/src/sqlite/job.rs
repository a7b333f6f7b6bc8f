//! What the queues carry, and how one operation is run without taking its thread down.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::oneshot;

use crate::StoreError;
use crate::backend::{Boxed, Op, Tx};

/// What an operation came to.
pub(super) type Outcome = Result<Result<Boxed, Boxed>, StoreError>;

/// An operation and where its outcome goes.
pub(super) struct Job {
    pub(super) op: Op,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// An entry of a queue.
pub(super) enum Message {
    Job(Job),
    /// Empty the write-ahead log, then say so.
    Scrub(oneshot::Sender<()>),
    /// Finish what is queued, then end.
    Stop,
}

/// Runs an operation; a panic in it is an error like another.
pub(super) fn run(op: &Op, tx: &mut dyn Tx) -> Outcome {
    // The caller undoes the transaction on any failure, so no half-done state is seen later.
    catch_unwind(AssertUnwindSafe(|| op(tx))).map_err(|_| StoreError::Panicked)
}
