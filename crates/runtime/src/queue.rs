//! Rings for those who wait for work: polls of an environment's queue, and what goes on under a work
//! item's token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use freehold_base::EnvironmentId;
use tokio::sync::{Notify, watch};

/// The bells. Cheap to clone.
#[derive(Clone, Default)]
pub struct WorkBells {
    waiting: Arc<Mutex<HashMap<EnvironmentId, Arc<Notify>>>>,
    ends: Arc<watch::Sender<u64>>,
}

impl WorkBells {
    /// The bell of an environment's queue; rung whenever it has an item more to give. Take it, and
    /// enable its `notified()`, before looking at the queue.
    pub fn queue(&self, environment: &EnvironmentId) -> Waiting {
        let mut all = self.lock();
        let bell = Arc::clone(all.entry(environment.clone()).or_default());
        drop(all);
        Waiting {
            bells: self.clone(),
            environment: environment.clone(),
            bell,
        }
    }

    /// Changes whenever a token of some work item stopped working.
    pub fn ends(&self) -> watch::Receiver<u64> {
        self.ends.subscribe()
    }

    pub(crate) fn ring(&self, environment: &EnvironmentId) {
        if let Some(bell) = self.lock().get(environment) {
            bell.notify_waiters();
        }
    }

    pub(crate) fn ended(&self) {
        self.ends.send_modify(|n| *n += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EnvironmentId, Arc<Notify>>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// One who waits at a queue. The last one to leave takes the bell down.
pub struct Waiting {
    bells: WorkBells,
    environment: EnvironmentId,
    bell: Arc<Notify>,
}

impl Waiting {
    /// The bell.
    pub fn bell(&self) -> &Notify {
        &self.bell
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut all = self.bells.lock();
        // The map's and ours.
        if Arc::strong_count(&self.bell) <= 2 {
            all.remove(&self.environment);
        }
    }
}
