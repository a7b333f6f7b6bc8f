//! Telling a running call to stop.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whether a call has been cancelled. Clones speak of the same call.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    fired: AtomicBool,
    hooks: Mutex<Hooks>,
}

#[derive(Default)]
struct Hooks {
    next: u64,
    waiting: Vec<(u64, Box<dyn FnOnce() + Send>)>,
}

/// Keeps a hook registered; dropping it takes the hook back.
#[must_use = "dropping the guard removes the hook"]
pub struct CancelHook {
    cancel: Cancel,
    id: u64,
}

impl Cancel {
    /// A call nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the call has been cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.fired.load(Ordering::SeqCst)
    }

    /// Cancels: running hooks are called on this thread, in the order they came. Again is nothing.
    pub fn cancel(&self) {
        let waiting = {
            let mut hooks = self.hooks();
            self.0.fired.store(true, Ordering::SeqCst);
            std::mem::take(&mut hooks.waiting)
        };
        for (_, hook) in waiting {
            hook();
        }
    }

    /// Calls `hook` once when the call is cancelled, at once if it already is. It must be quick and
    /// must not register hooks itself.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) -> CancelHook {
        let mut hooks = self.hooks();
        hooks.next += 1;
        let id = hooks.next;
        if self.is_cancelled() {
            drop(hooks);
            hook();
        } else {
            hooks.waiting.push((id, Box::new(hook)));
        }
        CancelHook {
            cancel: self.clone(),
            id,
        }
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

impl Drop for CancelHook {
    fn drop(&mut self) {
        self.cancel.hooks().waiting.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn hooks_run_once_and_only_while_registered() {
        let count = Arc::new(AtomicU32::new(0));
        let bump = |by: u32| {
            let count = count.clone();
            move || {
                count.fetch_add(by, Ordering::SeqCst);
            }
        };
        let cancel = Cancel::new();
        let _kept = cancel.on_cancel(bump(1));
        drop(cancel.on_cancel(bump(10)));
        cancel.cancel();
        cancel.cancel();
        let _late = cancel.on_cancel(bump(100));
        assert_eq!(count.load(Ordering::SeqCst), 101);
        assert!(cancel.is_cancelled());
    }
}
