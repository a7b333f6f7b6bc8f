//! The few devices a sandbox has.

use std::io;
use std::path::Path;

use super::tree::{Tree, What, lend};

/// Harmless character devices, lent from the host because a user namespace cannot make any.
const LENT: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Names programs expect beside them.
pub(super) const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

pub(super) fn lent() -> io::Result<Vec<Tree>> {
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let mut trees = Vec::new();
    for name in LENT {
        trees.push(Tree {
            at: Path::new("dev").join(name),
            what: What::File(lend(&Path::new("/dev").join(name), attributes)?),
        });
    }
    for (name, target) in LINKS {
        trees.push(Tree {
            at: Path::new("dev").join(name),
            what: What::Link(target.into()),
        });
    }
    Ok(trees)
}
