//! Telling one read-only system from another.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

/// What says which system it is.
const RELEASE: &str = "etc/os-release";
/// What changes when something is installed or upgraded.
const SIGNS: [&str; 7] = [
    "usr",
    "usr/bin",
    "usr/lib",
    "usr/local/bin",
    "usr/local/lib",
    "var/lib/dpkg/status",
    "var/lib/rpm",
];

/// A name for the system below `root`, which is another after packages were installed there.
pub(super) fn identity(root: &Path) -> String {
    let mut hash = Sha256::new();
    hash.update(root.as_os_str().as_encoded_bytes());
    // What is not there says something, too.
    hash.update(std::fs::read(root.join(RELEASE)).unwrap_or_default());
    for sign in SIGNS {
        let meta = std::fs::metadata(root.join(sign));
        let seen = meta.map(|m| (m.mtime(), m.mtime_nsec()));
        hash.update(format!("{sign} {:?}\n", seen.ok()));
    }
    freehold_base::hex::encode(hash.finalize())
}
