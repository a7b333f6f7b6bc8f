//! How fast a tunnel may be. Nothing is dropped: a stream that is ahead is not read from, or not written
//! to, for a while, and whoever is at its other end waits.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// So much of the time to come may be used up at once.
const AHEAD: Duration = Duration::from_millis(100);
/// Bytes a stream sends at a time, so that streams take turns. Frames that come are no larger.
pub(super) const TURN: usize = 16 << 10;

/// Where bytes go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Direction {
    Read,
    Write,
}

/// What all streams of a tunnel may pass together in each direction.
pub(super) struct Pace {
    bytes_per_second: u64,
    /// Until when the time is used up, for each direction.
    used: [Mutex<Instant>; 2],
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            bytes_per_second,
            used: [Mutex::new(now), Mutex::new(now)],
        })
    }

    /// So many bytes passed at `now`; when the stream they passed on has its next turn. Of streams that
    /// wait, each has its own.
    fn passed(&self, direction: Direction, bytes: usize, now: Instant) -> Instant {
        let mut used = self.used[direction as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let takes = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        *used = (*used).max(now) + takes;
        (*used).checked_sub(AHEAD).unwrap_or(now)
    }
}

/// One stream's part in it.
pub(super) struct Share {
    pace: Arc<Pace>,
    /// What it waits for.
    turns: [Option<Pin<Box<Sleep>>>; 2],
}

impl Share {
    /// One that waits as long as those do that are there.
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        let mut new = Self {
            pace,
            turns: [None, None],
        };
        new.passed(Direction::Read, 0);
        new.passed(Direction::Write, 0);
        new
    }

    /// Waits for its turn.
    pub(super) fn poll_turn(&mut self, direction: Direction, cx: &mut Context<'_>) -> Poll<()> {
        let turn = &mut self.turns[direction as usize];
        if let Some(wait) = turn {
            std::task::ready!(wait.as_mut().poll(cx));
            *turn = None;
        }
        Poll::Ready(())
    }

    /// So many bytes passed.
    pub(super) fn passed(&mut self, direction: Direction, bytes: usize) {
        let now = Instant::now();
        let turn = self.pace.passed(direction, bytes, now);
        if turn > now {
            self.turns[direction as usize] = Some(Box::pin(tokio::time::sleep_until(turn)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1 << 20;

    /// Bytes that each of so many streams passes in ten seconds, all of them whenever they may.
    fn ten_seconds(streams: usize) -> Vec<usize> {
        let pace = Pace::new(RATE);
        let begin = Instant::now();
        let mut passed = vec![0; streams];
        let mut turns = vec![begin; streams];
        loop {
            let (stream, turn) = turns
                .iter()
                .copied()
                .enumerate()
                .min_by_key(|t| t.1)
                .unwrap();
            if turn > begin + Duration::from_secs(10) {
                return passed;
            }
            passed[stream] += TURN;
            turns[stream] = pace.passed(Direction::Read, TURN, turn).max(turn);
        }
    }

    #[test]
    fn streams_share_what_there_is_evenly() {
        for streams in [1, 3, 64] {
            let passed = ten_seconds(streams);
            let all = u64::try_from(passed.iter().sum::<usize>()).unwrap();
            let ahead = RATE / 10 + (streams * TURN) as u64;
            assert!(
                (10 * RATE..=10 * RATE + ahead).contains(&all),
                "{streams}: {all}"
            );
            let (least, most) = (passed.iter().min().unwrap(), passed.iter().max().unwrap());
            assert!(most - least <= RATE as usize / 10 + TURN, "{passed:?}");
        }
    }

    #[test]
    fn directions_do_not_wait_for_each_other_and_rest_is_not_saved_up() {
        let pace = Pace::new(RATE);
        let now = Instant::now();
        let second = usize::try_from(RATE).unwrap();
        let turn = pace.passed(Direction::Read, second, now);
        assert!(turn > now + Duration::from_millis(800));
        assert!(pace.passed(Direction::Write, TURN, now) <= now);
        // After an hour of nothing a second's worth takes a second again.
        let later = now + Duration::from_secs(3_600);
        let turn = pace.passed(Direction::Read, second, later);
        assert!(turn > later + Duration::from_millis(800));
    }
}
