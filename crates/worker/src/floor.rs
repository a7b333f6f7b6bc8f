//! The floor under the data disk. Sandboxes keep their files in sparse images beside the database, and
//! together may take more than there is: before they take the last of it, they are ended, so that what
//! the server must write, it can. Files stay; what may be lost is what was being written.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_base::SessionId;

/// Between two looks while sandboxes live. A disk that takes 4 GB a second loses 0.2 GB between two.
pub(crate) const LOOK: Duration = Duration::from_millis(50);
/// Looks at sizes begin when free space is below this multiple of the floor.
const NEAR: u64 = 2;

/// Less is free than must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server's disk is nearly full ({} MiB free, {} MiB are kept free); nothing can be written \
     until there is room again",
    .free >> 20, .floor >> 20
)]
pub struct NoSpace {
    /// Bytes that are free to the server.
    pub free: u64,
    /// Bytes that are to stay free.
    pub floor: u64,
}

/// How much must stay free where.
pub(crate) struct Floor {
    root: PathBuf,
    bytes: u64,
}

impl Floor {
    /// `bytes` of the file system of `root` stay free; 0 sets no floor.
    pub(crate) fn new(root: &Path, bytes: u64) -> Self {
        Self {
            root: root.to_owned(),
            bytes,
        }
    }

    /// # Errors
    /// Less is free.
    pub(crate) fn check(&self) -> Result<(), NoSpace> {
        let floor = self.bytes;
        match self.free() {
            Some(free) if free < floor => Err(NoSpace { free, floor }),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// Less would be free after writing so many bytes.
    pub(crate) fn check_with(&self, bytes: u64) -> Result<(), NoSpace> {
        match self.free() {
            Some(free) if free.saturating_sub(bytes) < self.bytes => Err(NoSpace {
                free,
                floor: self.bytes,
            }),
            _ => Ok(()),
        }
    }

    /// Whether so little is free that it matters who takes it.
    pub(crate) fn is_near(&self) -> bool {
        let near = self.bytes.saturating_mul(NEAR);
        self.free().is_some_and(|free| free < near)
    }

    /// `None` if the file system cannot be asked, which must not end anybody's work.
    fn free(&self) -> Option<u64> {
        if self.bytes == 0 {
            return None;
        }
        let existing = self.root.ancestors().find(|d| d.is_dir())?;
        let found = rustix::fs::statvfs(existing).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

/// What sandboxes took when they were last looked at.
#[derive(Default)]
pub(crate) struct Sizes(HashMap<SessionId, Option<u64>>);

impl Sizes {
    /// Notes what each of `live` takes now, and gives those that took more since the last look.
    /// One whose size nobody knows, and one that was not there, may have.
    pub(crate) fn grown(&mut self, live: Vec<(SessionId, Option<u64>)>) -> Vec<SessionId> {
        let before = std::mem::take(&mut self.0);
        let grew = |(session, now): &(SessionId, Option<u64>)| match (before.get(session), now) {
            (Some(Some(then)), Some(now)) => now > then,
            _ => true,
        };
        let grown = live.iter().filter(|l| grew(l)).map(|(s, _)| s.clone());
        let grown = grown.collect();
        self.0 = live.into_iter().collect();
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_grew_or_may_have_are_named() {
        let [a, b, c]: [SessionId; 3] = ["sesn_a", "sesn_b", "sesn_c"].map(|s| s.parse().unwrap());
        let mut sizes = Sizes::default();
        sizes.grown(vec![(a.clone(), Some(5)), (b.clone(), Some(5))]);
        let now = vec![(a, Some(5)), (b.clone(), Some(6)), (c.clone(), Some(1))];
        assert_eq!(sizes.grown(now), [b.clone(), c]);
        assert_eq!(sizes.grown(vec![(b.clone(), None)]), [b]);
    }

    #[test]
    fn no_floor_refuses_nothing() {
        assert_eq!(Floor::new(Path::new("/"), 0).check(), Ok(()));
        assert!(
            Floor::new(Path::new("/no/such/place"), u64::MAX)
                .check()
                .is_err()
        );
    }
}
