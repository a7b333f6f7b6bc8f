//! Which tunnels were changed, and when: what is being opened under what was looked up before must not
//! come about.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use freehold_base::TunnelId;

/// Changed tunnels that are remembered.
const MAX_CHANGED: usize = 10_000;

/// Counts changes, and notes for each tunnel the last one.
#[derive(Default)]
pub(super) struct Changes(Mutex<State>);

#[derive(Default)]
struct State {
    count: u64,
    last: HashMap<TunnelId, u64>,
    /// Which were before this one is forgotten: every tunnel may have been changed until then.
    forgotten: u64,
}

impl Changes {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.lock().count
    }

    /// A tunnel was changed.
    pub(super) fn note(&self, tunnel: &TunnelId) {
        let mut state = self.lock();
        state.count += 1;
        let count = state.count;
        if state.last.len() >= MAX_CHANGED {
            state.last.clear();
            state.forgotten = count;
        }
        state.last.insert(tunnel.clone(), count);
    }

    /// Whether the tunnel was changed `since`.
    pub(super) fn is_stale(&self, tunnel: &TunnelId, since: u64) -> bool {
        let state = self.lock();
        let last = state.last.get(tunnel).copied().unwrap_or(0);
        last.max(state.forgotten) > since
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_known_however_many_come_after_it() {
        let changes = Changes::default();
        let changed: TunnelId = "tnl_changed".parse().unwrap();
        let quiet: TunnelId = "tnl_quiet".parse().unwrap();
        let before = changes.count();
        changes.note(&changed);
        assert!(changes.is_stale(&changed, before) && !changes.is_stale(&quiet, before));
        for i in 0..MAX_CHANGED + 10 {
            changes.note(&format!("tnl_{i}").parse().unwrap());
        }
        assert!(changes.is_stale(&changed, before));
        assert!(changes.lock().last.len() <= MAX_CHANGED);
        let now = changes.count();
        assert!(!changes.is_stale(&changed, now) && !changes.is_stale(&quiet, now));
    }
}
