//! The time that one session's driver goes by.

use freehold_base::{SharedClock, Timestamp};
use tokio::time::Instant;

/// The wall clock, but never before the log, and running on where the wall clock is put back: what is
/// to wait for a time that the log names waits no longer than was meant, whichever clock was wrong.
pub(crate) struct LogClock {
    wall: SharedClock,
    log: Timestamp,
    seen: Instant,
}

impl LogClock {
    pub(crate) fn new(wall: SharedClock) -> Self {
        Self {
            wall,
            log: Timestamp::default(),
            seen: Instant::now(),
        }
    }

    /// The time, given that of the log's last event.
    pub(crate) fn now(&mut self, last: Timestamp) -> Timestamp {
        if self.log < last {
            (self.log, self.seen) = (last, Instant::now());
        }
        self.wall.now().max(self.log.plus(self.seen.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use freehold_base::ManualClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_although_the_wall_clock_was_put_back() {
        let start = Timestamp::from_micros(1_600_000_000_000_000);
        let wall = Arc::new(ManualClock::at(start));
        let mut clock = LogClock::new(wall.clone());
        let until = start.plus_millis(30_000);
        assert_eq!(clock.now(start), start);
        wall.advance_millis(-3_600_000);
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(clock.now(start) < until);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(clock.now(start), until);
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_from_another_clock_is_not_waited_for() {
        let start = Timestamp::from_micros(1_600_000_000_000_000);
        let mut clock = LogClock::new(Arc::new(ManualClock::at(start)));
        let ahead = start.plus_millis(3_600_000);
        assert_eq!(clock.now(ahead), ahead);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.now(ahead), ahead.plus_millis(5_000));
    }
}
