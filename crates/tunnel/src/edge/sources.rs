//! Where connections come from that have not said who they are: how many there may be, how many in a
//! second, and how often one may guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens a source may show in [`MINUTE`].
const MAX_WRONG: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// Sources that are remembered.
const MAX_SOURCES: usize = 10_000;

/// One who is counted: an address, or a network of IPv6, in which everybody has as many addresses as he
/// likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(IpAddr);

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 => v4,
        })
    }
}

/// Connections that have not said who they are.
pub(super) struct HalfOpen {
    max: usize,
    max_of_one: usize,
    open: Mutex<HashMap<Source, usize>>,
}

/// A place among them.
pub(super) struct HalfOpenPlace {
    of: Arc<HalfOpen>,
    source: Source,
}

impl HalfOpen {
    pub(super) fn new(max: usize, max_of_one: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            max_of_one,
            open: Mutex::default(),
        })
    }

    /// `None` if there are as many as there may be, of all or of this one.
    pub(super) fn place(self: &Arc<Self>, source: Source) -> Option<HalfOpenPlace> {
        let mut open = lock(&self.open);
        let all: usize = open.values().sum();
        let of_one = open.get(&source).copied().unwrap_or(0);
        if all >= self.max || of_one >= self.max_of_one {
            return None;
        }
        open.insert(source, of_one + 1);
        Some(HalfOpenPlace {
            of: Arc::clone(self),
            source,
        })
    }
}

impl Drop for HalfOpenPlace {
    fn drop(&mut self) {
        let mut open = lock(&self.of.open);
        match open.get_mut(&self.source) {
            Some(count @ 2..) => *count -= 1,
            _ => drop(open.remove(&self.source)),
        }
    }
}

/// Handshakes that are begun: they are what a connection costs before anything is known of it.
pub(super) struct Handshakes {
    max: u32,
    all: Mutex<Window>,
    of_one: Tally,
}

impl Handshakes {
    /// So many in a second, and so many of one source.
    pub(super) fn new(max: u32, max_of_one: u32) -> Self {
        Self {
            max,
            all: Mutex::new(Window::new()),
            of_one: Tally::new(max_of_one, SECOND),
        }
    }

    /// Whether `source` may begin one. What one source has too many of is not counted among all.
    pub(super) fn may_begin(&self, source: Source) -> bool {
        self.of_one.note(source) && lock(&self.all).note(SECOND) <= self.max
    }
}

/// Connections that were turned away.
#[derive(Default)]
pub(super) struct TurnedAway(Mutex<(Option<Instant>, u64)>);

impl TurnedAway {
    /// One more; how many since that was last said, if it is worth saying again: whoever knocks decides
    /// how often he is turned away.
    pub(super) fn note(&self) -> Option<u64> {
        let mut state = lock(&self.0);
        let (said, count) = &mut *state;
        *count += 1;
        if said.is_some_and(|at| at.elapsed() < MINUTE) {
            return None;
        }
        *said = Some(Instant::now());
        Some(std::mem::take(count))
    }
}

/// Sources that showed wrong tokens.
pub(super) struct Wrong(Tally);

impl Default for Wrong {
    fn default() -> Self {
        Self(Tally::new(MAX_WRONG, MINUTE))
    }
}

impl Wrong {
    /// Notes a wrong token of `source`; whether it has shown too many.
    pub(super) fn note(&self, source: Source) -> bool {
        !self.0.note(source)
    }
}

/// How often something happened since its time began.
struct Window {
    since: Instant,
    count: u32,
}

impl Window {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }

    /// Once more; how often by now, within a time of this length.
    fn note(&mut self, length: Duration) -> u32 {
        if self.since.elapsed() >= length {
            *self = Self::new();
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// How often each source did something.
struct Tally {
    max: u32,
    length: Duration,
    sources: Mutex<HashMap<Source, Window>>,
}

impl Tally {
    fn new(max: u32, length: Duration) -> Self {
        Self {
            max,
            length,
            sources: Mutex::default(),
        }
    }

    /// Notes that `source` does it once more; whether it may.
    fn note(&self, source: Source) -> bool {
        let mut sources = lock(&self.sources);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, window| window.since.elapsed() < self.length);
            if sources.len() >= MAX_SOURCES {
                let oldest = sources.iter().min_by_key(|(_, window)| window.since);
                let oldest = oldest.map(|(source, _)| *source);
                oldest.map(|oldest| sources.remove(&oldest));
            }
        }
        let window = sources.entry(source).or_insert_with(Window::new);
        window.note(self.length) <= self.max
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source::from(address.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_an_address_of_ipv4_is() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:0:0:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(source("10.0.0.1"), source("::ffff:10.0.0.1"));
        assert_ne!(source("::ffff:10.0.0.2"), source("::ffff:10.0.0.1"));
    }

    #[test]
    fn one_source_takes_its_share_of_the_places_and_no_more() {
        let places = HalfOpen::new(3, 2);
        let first = places.place(source("10.0.0.1"));
        let second = places.place(source("10.0.0.1"));
        assert!(first.is_some() && second.is_some());
        assert!(places.place(source("10.0.0.1")).is_none());
        let other = places.place(source("10.0.0.2"));
        assert!(other.is_some());
        assert!(places.place(source("10.0.0.3")).is_none());
        drop(first);
        assert!(places.place(source("10.0.0.1")).is_some());
        drop((second, other));
        assert!(lock(&places.open).is_empty());
    }

    #[test]
    fn many_sources_do_not_wash_one_clean() {
        let wrong = Wrong::default();
        let early = source("192.0.2.1");
        assert!(!wrong.note(early));
        let guesser = source("192.0.2.2");
        let mut last = false;
        for _ in 0..=MAX_WRONG {
            last = wrong.note(guesser);
        }
        assert!(last);
        for i in 0..u32::try_from(MAX_SOURCES).unwrap() - 1 {
            wrong.note(Source(IpAddr::V4(i.into())));
        }
        // The oldest made room, and the guesser is known still.
        assert_eq!(lock(&wrong.0.sources).len(), MAX_SOURCES);
        assert!(!lock(&wrong.0.sources).contains_key(&early));
        assert!(wrong.note(guesser));
    }

    #[test]
    fn of_ten_thousand_guesses_a_few_are_taken_seriously() {
        let (wrong, guesser) = (Wrong::default(), source("192.0.2.2"));
        let seriously = (0..10_000).filter(|_| !wrong.note(guesser)).count();
        assert_eq!(seriously, 20);
        // Somebody else's mistake is his own.
        assert!(!wrong.note(source("192.0.2.3")));
    }

    #[test]
    fn whoever_knocks_too_often_takes_nobody_elses_turn() {
        let handshakes = Handshakes::new(5, 3);
        let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
        let may = |source| {
            (0..4)
                .map(|_| handshakes.may_begin(source))
                .collect::<Vec<_>>()
        };
        assert_eq!(may(one), [true, true, true, false]);
        assert_eq!(may(other), [true, true, false, false]);
        // A second later it begins anew.
        for window in lock(&handshakes.of_one.sources).values_mut() {
            window.since -= SECOND;
        }
        lock(&handshakes.all).since -= SECOND;
        assert_eq!(may(other), [true, true, true, false]);
    }

    #[test]
    fn it_is_said_now_and_then_how_many_were_turned_away() {
        let away = TurnedAway::default();
        let said: Vec<_> = (0..3).map(|_| away.note()).collect();
        assert_eq!(said, [Some(1), None, None]);
        if let Some(at) = &mut lock(&away.0).0 {
            *at -= MINUTE;
        }
        assert_eq!(away.note(), Some(3));
    }
}
