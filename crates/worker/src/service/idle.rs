//! When a session has been at rest for long enough to leave it (contract 90 E).

use std::time::Duration;

use tokio::time::Instant;

/// Counts down from the end of a turn. Calls that wait for a person's verdict, and those that one
/// released, hold it: leaving would drop them.
#[derive(Debug)]
pub(super) struct Idle {
    /// `None` never ends.
    max: Option<Duration>,
    since: Option<Instant>,
    /// The turn ended while held.
    deferred: bool,
    holds: usize,
}

impl Idle {
    pub(super) fn new(max: Option<Duration>) -> Self {
        Self {
            max,
            since: None,
            deferred: false,
            holds: 0,
        }
    }

    /// When it runs out, if it runs.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.since? + self.max?)
    }

    /// The turn ended: counts from now, or from when the last hold is gone.
    pub(super) fn arm(&mut self) {
        if self.holds > 0 {
            self.deferred = true;
        } else {
            self.since = Some(Instant::now());
        }
    }

    /// Something goes on.
    pub(super) fn disarm(&mut self) {
        self.deferred = false;
        self.since = None;
    }

    pub(super) fn hold(&mut self) {
        self.holds += 1;
        if self.since.take().is_some() {
            self.deferred = true;
        }
    }

    pub(super) fn release(&mut self) {
        self.holds = self.holds.saturating_sub(1);
        if self.holds == 0 && std::mem::take(&mut self.deferred) {
            self.since = Some(Instant::now());
        }
    }
}
