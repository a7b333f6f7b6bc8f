//! How long a gateway waits before it tries to connect again.

use std::time::Duration;

use freehold_base::IdSource;
use tokio::time::Instant;

/// Waits between attempts begin with this and double.
const FIRST: Duration = Duration::from_millis(50);
/// No wait is longer, unless the edge asks for it.
const LONGEST: Duration = Duration::from_secs(30);
/// For so long after a loss the waits stay short: a server that was only restarted is found at once.
const HOPEFUL: Duration = Duration::from_secs(10);
/// The longest of those short waits.
const SHORT: Duration = Duration::from_millis(250);

/// Why there is no connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Why {
    /// One that stood was lost.
    Lost,
    /// None came about.
    Failed,
    /// The edge wants no other before this has passed.
    NotBefore(Duration),
}

/// The waits of one connection.
pub(super) struct Backoff {
    next: Duration,
    hopeful_until: Instant,
}

impl Backoff {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            next: FIRST,
            hopeful_until: now + HOPEFUL,
        }
    }

    /// The next wait, a part of it random, so that the gateways of an edge do not all come at once.
    pub(super) fn wait(&mut self, why: Why, now: Instant, ids: &IdSource) -> Duration {
        let mut random = [0; 4];
        ids.fill(&mut random);
        let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        if let Why::NotBefore(after) = why {
            return after.mul_f64(1.0 + share / 2.0);
        }
        if matches!(why, Why::Lost) {
            *self = Self::new(now);
        }
        let most = match now < self.hopeful_until {
            true => SHORT,
            false => LONGEST,
        };
        let wait = self.next.min(most);
        self.next = (wait * 2).min(most);
        wait.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use freehold_base::{Entropy, SystemClock};

    use super::*;

    /// As good as random, and the same each time.
    struct Same(AtomicU64);

    impl Entropy for Same {
        fn fill(&self, buf: &mut [u8]) {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            buf.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..buf.len()]);
        }
    }

    fn ids() -> IdSource {
        IdSource::new(Arc::new(SystemClock), Arc::new(Same(AtomicU64::new(1))))
    }

    /// When the attempts after a loss come, up to `end`.
    fn attempts(ids: &IdSource, end: Duration) -> Vec<Duration> {
        let lost = Instant::now();
        let mut backoff = Backoff::new(lost);
        let mut at = backoff.wait(Why::Lost, lost, ids);
        let mut attempts = vec![at];
        while at < end {
            at += backoff.wait(Why::Failed, lost + at, ids);
            attempts.push(at);
        }
        attempts
    }

    #[test]
    fn a_server_that_was_restarted_is_found_at_once_and_one_that_is_gone_is_spared() {
        let attempts = attempts(&ids(), Duration::from_secs(600));
        let gaps = attempts.windows(2).map(|w| (w[0], w[1] - w[0]));
        for (at, gap) in gaps {
            assert!(at >= HOPEFUL || gap <= SHORT, "{at:?}: {gap:?}");
            assert!(gap <= LONGEST, "{at:?}: {gap:?}");
        }
        // It grows from short to long, and does not leap.
        let after = attempts.iter().filter(|at| **at > HOPEFUL).count();
        assert!((20..60).contains(&after), "{after}");
        let soon = |at: &&Duration| (HOPEFUL..HOPEFUL + Duration::from_secs(3)).contains(*at);
        assert!(attempts.iter().filter(soon).count() >= 3);
    }

    #[test]
    fn many_gateways_do_not_come_at_once() {
        let ids = ids();
        let mut seconds = [0; 60];
        for _ in 0..1_000 {
            let all = attempts(&ids, Duration::from_secs(120));
            // Of each the first attempt in the second minute.
            let at = all.iter().find(|at| at.as_secs() >= 60).unwrap();
            seconds[usize::try_from(at.as_secs()).unwrap() - 60] += 1;
        }
        let busiest = seconds.iter().max().unwrap();
        let spread = seconds.iter().filter(|n| **n > 0).count();
        assert!(*busiest < 100 && spread >= 20, "{seconds:?}");
    }

    #[test]
    fn a_thousand_gateways_that_are_lost_at_once_come_back_over_many_seconds() {
        // Two connections of each, at an edge that begins so many handshakes in a second: whoever is
        // turned away has failed, and waits for his next turn.
        const PER_SECOND: u32 = 128;
        let (ids, lost) = (ids(), Instant::now());
        let mut backoffs: Vec<_> = (0..2_000).map(|_| Backoff::new(lost)).collect();
        let first = backoffs.iter_mut().enumerate();
        let first = first.map(|(i, backoff)| Reverse((backoff.wait(Why::Lost, lost, &ids), i)));
        let mut waiting: BinaryHeap<_> = first.collect();
        let mut seconds: Vec<u32> = Vec::new();
        while let Some(Reverse((at, i))) = waiting.pop() {
            let second = usize::try_from(at.as_secs()).unwrap();
            seconds.resize(seconds.len().max(second + 1), 0);
            if seconds[second] < PER_SECOND {
                seconds[second] += 1;
                continue;
            }
            let wait = backoffs[i].wait(Why::Failed, lost + at, &ids);
            waiting.push(Reverse((at + wait, i)));
        }
        assert_eq!(seconds.iter().sum::<u32>(), 2_000);
        assert!((10..120).contains(&seconds.len()), "{seconds:?}");
    }

    #[test]
    fn what_the_edge_asks_for_is_kept_however_hopeful_one_is() {
        let (ids, now) = (ids(), Instant::now());
        let mut backoff = Backoff::new(now);
        for _ in 0..100 {
            let told = Duration::from_secs(60);
            let wait = backoff.wait(Why::NotBefore(told), now, &ids);
            assert!((told..=told.mul_f64(1.5)).contains(&wait), "{wait:?}");
        }
        assert!(backoff.wait(Why::Failed, now, &ids) <= FIRST);
    }
}
