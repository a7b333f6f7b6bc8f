//! How much is done. Every loop of a run is bounded by one of these.

use std::time::Duration;

/// Longest wait for one answer, or for one event that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Rounds; in each everything is measured once, in another order.
    pub(crate) rounds: u16,
    /// How long one closed loop runs.
    pub(crate) slice: Duration,
    /// Turns measured one by one in a round.
    pub(crate) turns: usize,
    /// Fresh sandboxes in a round.
    pub(crate) sandboxes: usize,
    /// Tool calls in each, the first included.
    pub(crate) calls: usize,
    /// Tool calls in the long session of each worker.
    pub(crate) worker_calls: usize,
    /// Fresh sessions that each worker serves.
    pub(crate) worker_sessions: usize,
    /// Starts of each kind of isolation in a round.
    pub(crate) isolations: usize,
    /// Sandboxes alive at a time.
    pub(crate) live: usize,
    /// Small requests over each tunnel in a round; a quarter as many over new connections.
    pub(crate) requests: usize,
    /// Bytes of one large answer.
    pub(crate) bulk: u64,
    /// Idle sessions, and open streams, that memory is measured with.
    pub(crate) crowd: usize,
    /// Events in the long session.
    pub(crate) long: usize,
    /// Repetitions of each look at the long and the short session, in a round.
    pub(crate) looks: usize,
    /// After this no further round begins, and half as long again ends the run.
    pub(crate) budget: Duration,
}

impl Plan {
    /// The full run, or the smoke run.
    pub(crate) fn new(quick: bool, rounds: Option<u16>) -> Self {
        if quick {
            Self {
                rounds: rounds.unwrap_or(2),
                slice: Duration::from_millis(300),
                turns: 10,
                sandboxes: 1,
                calls: 5,
                worker_calls: 10,
                worker_sessions: 3,
                isolations: 3,
                live: 20,
                requests: 100,
                bulk: 32 << 20,
                crowd: 200,
                long: 10_000,
                looks: 5,
                budget: Duration::from_secs(60),
            }
        } else {
            Self {
                rounds: rounds.unwrap_or(7),
                slice: Duration::from_millis(1_200),
                turns: 60,
                sandboxes: 3,
                calls: 9,
                worker_calls: 60,
                worker_sessions: 6,
                isolations: 8,
                live: 200,
                requests: 800,
                bulk: 192 << 20,
                crowd: 1_000,
                long: 10_000,
                looks: 20,
                budget: Duration::from_secs(420),
            }
        }
    }
}
