//! Where connections come from that have not said who they are: how many there may be, and how often
//! one may guess.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens a source may show in [`WINDOW`].
const MAX_WRONG: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Sources of wrong tokens remembered.
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
    complained: Mutex<Option<Instant>>,
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
            complained: Mutex::default(),
        })
    }

    /// Whether it is worth saying that there was no place: whoever knocks decides how often there is none.
    pub(super) fn is_news(&self) -> bool {
        let mut complained = lock(&self.complained);
        let is_news = complained.is_none_or(|at| at.elapsed() >= WINDOW);
        if is_news {
            *complained = Some(Instant::now());
        }
        is_news
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

/// Sources that showed wrong tokens.
#[derive(Default)]
pub(super) struct Wrong(Mutex<HashMap<Source, (Instant, u32)>>);

impl Wrong {
    /// Notes a wrong token of `source`; whether it has shown too many.
    pub(super) fn note(&self, source: Source) -> bool {
        let mut sources = lock(&self.0);
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            sources.retain(|_, (since, _)| since.elapsed() < WINDOW);
            if sources.len() >= MAX_SOURCES {
                let oldest = sources.iter().min_by_key(|(_, (since, _))| *since);
                let oldest = oldest.map(|(source, _)| *source);
                oldest.map(|oldest| sources.remove(&oldest));
            }
        }
        let now = Instant::now();
        let known = sources.entry(source).or_insert((now, 0));
        if known.0.elapsed() >= WINDOW {
            *known = (now, 0);
        }
        known.1 = known.1.saturating_add(1);
        known.1 > MAX_WRONG
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
        assert!(places.is_news() && !places.is_news());
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
        assert_eq!(lock(&wrong.0).len(), MAX_SOURCES);
        assert!(!lock(&wrong.0).contains_key(&early));
        assert!(wrong.note(guesser));
    }
}
