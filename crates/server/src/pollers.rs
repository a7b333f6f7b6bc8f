//! Which workers poll: kept in memory, for `workers_polling` (contract 50 §3).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use freehold_base::{EnvironmentId, Timestamp};

/// Seconds a worker counts after its poll (contract 50 §3).
const SEEN_SECONDS: f64 = 30.0;
/// Workers remembered of one environment; those beyond are not counted.
const MAX_WORKERS: usize = 10_000;

/// The workers that polled lately, by environment.
#[derive(Default)]
pub(crate) struct Pollers {
    seen: Mutex<HashMap<EnvironmentId, HashMap<String, Timestamp>>>,
}

impl Pollers {
    /// Notes a poll.
    pub(crate) fn saw(&self, environment: &EnvironmentId, worker: &str, now: Timestamp) {
        let mut seen = self.lock();
        let workers = seen.entry(environment.clone()).or_default();
        if workers.len() >= MAX_WORKERS && !workers.contains_key(worker) {
            workers.retain(|_, at| now.seconds_since(*at) < SEEN_SECONDS);
            if workers.len() >= MAX_WORKERS {
                return;
            }
        }
        workers.insert(worker.to_owned(), now);
    }

    /// Distinct workers that polled in the last 30 seconds.
    pub(crate) fn count(&self, environment: &EnvironmentId, now: Timestamp) -> usize {
        let mut seen = self.lock();
        let Some(workers) = seen.get_mut(environment) else {
            return 0;
        };
        workers.retain(|_, at| now.seconds_since(*at) < SEEN_SECONDS);
        let count = workers.len();
        if count == 0 {
            seen.remove(environment);
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EnvironmentId, HashMap<String, Timestamp>>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_counts_for_thirty_seconds() {
        let pollers = Pollers::default();
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let (a, b): (EnvironmentId, EnvironmentId) =
            ("env_a".parse().unwrap(), "env_b".parse().unwrap());
        pollers.saw(&a, "w1", at(0));
        pollers.saw(&a, "w1", at(0));
        pollers.saw(&a, "w2", at(0));
        pollers.saw(&b, "w1", at(0));
        assert_eq!((pollers.count(&a, at(1)), pollers.count(&b, at(1))), (2, 1));
        pollers.saw(&a, "w1", at(20));
        assert_eq!(
            (pollers.count(&a, at(40)), pollers.count(&b, at(40))),
            (1, 0)
        );
    }
}
