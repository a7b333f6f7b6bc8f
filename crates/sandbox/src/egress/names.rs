//! Which name an address inside stands for. Names get addresses of 198.18.0.0/15 (RFC 2544, never
//! routed) as they are asked for; each sandbox has a table of its own.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;

use crate::launch::plan::ADDRESS;

/// Names remembered; above it the oldest is forgotten, and its address not used again for long.
const MAX_NAMES: usize = 4_096;
/// Addresses of the range, the network's, the sandbox's own and the last left out.
const ADDRESSES: u32 = (1 << 17) - 3;

#[derive(Default)]
pub(super) struct Names {
    by_name: HashMap<String, Ipv4Addr>,
    by_address: HashMap<Ipv4Addr, String>,
    oldest_first: VecDeque<Ipv4Addr>,
    next: u32,
}

impl Names {
    /// The address of `name`, which is allowed and in its normal form.
    pub(super) fn address(&mut self, name: &str) -> Ipv4Addr {
        if let Some(address) = self.by_name.get(name) {
            return *address;
        }
        if self.oldest_first.len() >= MAX_NAMES
            && let Some(oldest) = self.oldest_first.pop_front()
            && let Some(name) = self.by_address.remove(&oldest)
        {
            self.by_name.remove(&name);
        }
        let address = Ipv4Addr::from_bits(ADDRESS.to_bits() + 1 + self.next);
        self.next = (self.next + 1) % ADDRESSES;
        self.by_name.insert(name.to_owned(), address);
        self.by_address.insert(address, name.to_owned());
        self.oldest_first.push_back(address);
        address
    }

    /// The name that was given `address`.
    pub(super) fn name(&self, address: Ipv4Addr) -> Option<&str> {
        self.by_address.get(&address).map(String::as_str)
    }
}

/// Whether `address` is one that only names get.
pub(super) fn is_made_up(address: Ipv4Addr) -> bool {
    address.to_bits() >> 17 == ADDRESS.to_bits() >> 17
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_address_and_the_oldest_go_first() {
        let mut names = Names::default();
        let first = names.address("a.test");
        assert_eq!(first, Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(names.address("a.test"), first);
        assert_eq!(names.name(first), Some("a.test"));
        for n in 0..MAX_NAMES {
            assert_ne!(names.address(&format!("n{n}.test")), first);
        }
        assert_eq!(names.name(first), None);
        assert_eq!(names.by_name.len(), MAX_NAMES);
        assert_eq!(names.by_address.len(), MAX_NAMES);
    }

    #[test]
    fn addresses_stay_in_the_range() {
        let mut names = Names::default();
        let mut last = ADDRESS;
        for n in 0..=ADDRESSES {
            last = names.address(&format!("n{n}"));
            assert!(is_made_up(last) && last != ADDRESS, "{last}");
        }
        assert_eq!(last, Ipv4Addr::new(198, 18, 0, 2), "the range starts over");
        assert!(!is_made_up(Ipv4Addr::new(198, 20, 0, 0)));
        assert!(!is_made_up(Ipv4Addr::new(198, 17, 255, 255)));
    }
}
