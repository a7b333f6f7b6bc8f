//! Counts what is unpacked, while it is.

use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;

use crate::error::ArchiveError;

/// Unpacked bytes below which the ratio does not matter.
const FREE: u64 = 1024 * 1024;

/// The bytes one archive may still give; shared by all its members.
#[derive(Clone)]
pub(crate) struct Meter(Rc<RefCell<Counts>>);

struct Counts {
    used: u64,
    limit: u64,
    /// What the archive's size allows, and by which ratio.
    by_ratio: u64,
    ratio: u64,
    exceeded: bool,
}

impl Meter {
    pub(crate) fn new(limit: u64, ratio: u64, archive: u64) -> Self {
        Self(Rc::new(RefCell::new(Counts {
            used: 0,
            limit,
            by_ratio: archive.saturating_mul(ratio).max(FREE),
            ratio,
            exceeded: false,
        })))
    }

    /// A reader that counts.
    pub(crate) fn read<R: Read>(&self, inner: R) -> Metered<R> {
        Metered {
            inner,
            meter: self.clone(),
        }
    }

    /// Why reading stopped, if the meter stopped it.
    pub(crate) fn verdict(&self) -> Option<ArchiveError> {
        let counts = self.0.borrow();
        counts.exceeded.then(|| match counts.used > counts.limit {
            true => ArchiveError::TooLarge {
                limit: counts.limit,
            },
            false => ArchiveError::Bomb {
                ratio: counts.ratio,
            },
        })
    }
}

/// See [`Meter::read`].
pub(crate) struct Metered<R> {
    inner: R,
    meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let mut counts = self.meter.0.borrow_mut();
        counts.used = counts.used.saturating_add(n as u64);
        if counts.used > counts.limit.min(counts.by_ratio) {
            counts.exceeded = true;
            return Err(io::Error::other("more than an archive may hold"));
        }
        Ok(n)
    }
}
