//! Snapshots: the files of a sandbox as one archive, named by its content.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An archive made by [`crate::Sandbox::snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// SHA-256 of the archive, lower case hexadecimal.
    pub digest: String,
    /// The archive: `DIGEST.tar.zst` in the directory it was made in. Other hosts may have it
    /// elsewhere.
    pub path: PathBuf,
    /// Its size, bytes.
    pub bytes: u64,
    /// Entries that are not in it: sockets, pipes, directories too deep.
    pub skipped: u64,
}
