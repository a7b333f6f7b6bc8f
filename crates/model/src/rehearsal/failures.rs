//! How often each `error:` step has been raised.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Requests remembered; the oldest is forgotten first.
const MAX_REMEMBERED: usize = 1024;

/// Counts by request and step. Only a repeated request (the same body) meets its counts again.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_request: HashMap<u64, HashMap<usize, u32>>,
    oldest_first: VecDeque<u64>,
}

impl Failures {
    /// Whether step `step` of request `request` is to fail once more, when it fails `times` times
    /// in all.
    pub(super) fn fails_again(&self, request: u64, step: usize, times: u32) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !counts.by_request.contains_key(&request) {
            if counts.oldest_first.len() == MAX_REMEMBERED
                && let Some(oldest) = counts.oldest_first.pop_front()
            {
                counts.by_request.remove(&oldest);
            }
            counts.oldest_first.push_back(request);
        }
        let raised = counts
            .by_request
            .entry(request)
            .or_default()
            .entry(step)
            .or_default();
        let again = *raised < times;
        *raised = raised.saturating_add(u32::from(again));
        again
    }

    /// Forgets a request that got through, so that the same script fails anew next time.
    pub(super) fn forget(&self, request: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.by_request.remove(&request).is_some() {
            counts.oldest_first.retain(|r| *r != request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_as_often_as_told_then_anew_after_success() {
        let failures = Failures::default();
        let attempts: Vec<bool> = (0..4).map(|_| failures.fails_again(7, 0, 2)).collect();
        assert_eq!(attempts, [true, true, false, false]);
        failures.forget(7);
        assert!(failures.fails_again(7, 0, 2));
    }

    #[test]
    fn memory_is_bounded() {
        let failures = Failures::default();
        for request in 0..5_000 {
            failures.fails_again(request, 0, 1);
        }
        let counts = failures.0.lock().unwrap();
        assert_eq!(counts.by_request.len(), MAX_REMEMBERED);
        assert_eq!(counts.oldest_first.len(), MAX_REMEMBERED);
    }
}
