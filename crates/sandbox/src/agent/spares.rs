//! Threads that are done and wait for more: to start one takes longer than most of what is asked.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

/// Threads that wait, at most.
const MOST: usize = 2;

/// What such threads are given.
pub(super) struct Spares<T>(Mutex<Vec<Sender<T>>>);

impl<T> Default for Spares<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Spares<T> {
    /// Gives it to a thread that waits.
    ///
    /// # Errors
    /// What was to be given, if none waits.
    pub(super) fn give(&self, what: T) -> Result<(), T> {
        let mut what = what;
        loop {
            let Some(spare) = self.waiting().pop() else {
                return Err(what);
            };
            match spare.send(what) {
                Ok(()) => return Ok(()),
                Err(back) => what = back.0,
            }
        }
    }

    /// Waits to be given something; `None` if enough threads wait.
    pub(super) fn wait(&self) -> Option<T> {
        let (give, given) = channel();
        {
            let mut waiting = self.waiting();
            if waiting.len() >= MOST {
                return None;
            }
            waiting.push(give);
        }
        given.recv().ok()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Sender<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
