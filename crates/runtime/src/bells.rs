//! Rings for those who drive sessions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use freehold_base::SessionId;
use tokio::sync::Notify;

/// Rings for one driven session.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    notify: Notify,
}

impl Bell {
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }
    /// Waits until rung since the last [`Bell::heard`].
    pub(crate) async fn wait(&self) {
        while !self.rung.load(Ordering::SeqCst) {
            self.notify.notified().await;
        }
    }
    /// Whether it was rung; forgets it.
    pub(crate) fn heard(&self) -> bool {
        self.rung.swap(false, Ordering::SeqCst)
    }
}

/// The bells of the sessions that are driven here. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Bells(Arc<Mutex<HashMap<SessionId, Arc<Bell>>>>);

impl Bells {
    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Bell>>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Rings if the session is driven here; gives whether it is.
    pub(crate) fn ring(&self, session: &SessionId) -> bool {
        let bells = self.lock();
        let bell = bells.get(session);
        bell.inspect(|bell| bell.ring()).is_some()
    }
}
