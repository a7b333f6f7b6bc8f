//! What this process asks of the system for itself.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// Files made from now on are nobody else's to read, also where the operator made the directory
/// above them and let others in.
pub(super) fn keep_files_private() {
    umask(Mode::from_raw_mode(0o077));
}

/// Raises the limit of open files to what is allowed: each connection of a sandbox takes some, and
/// a few busy sandboxes must not leave none for the others.
pub(super) fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
