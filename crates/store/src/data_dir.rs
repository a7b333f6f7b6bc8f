//! The data directory: private to its owner, and to one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use freehold_base::ReplicaId;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::StoreError;

/// Holds the data directory for as long as it lives; the kernel frees it even on `kill -9`.
pub(crate) struct DirLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Makes the directory if needed (mode 0700) and takes its lock.
pub(crate) fn lock(dir: &Path) -> Result<DirLock, StoreError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io {
            action,
            path,
            source,
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io("create", dir))?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DirLock(file)),
        Err(Errno::WOULDBLOCK) => Err(StoreError::InUse {
            path: dir.to_owned(),
        }),
        Err(errno) => Err(io("lock", &path)(errno.into())),
    }
}

/// Notes who uses the directory now; gives who did before, who is dead if the lock is ours.
pub(crate) fn replace_replica(
    dir: &Path,
    replica: &ReplicaId,
) -> Result<Option<String>, StoreError> {
    let path = dir.join("replica");
    let io = |action| {
        let path = path.clone();
        move |source| StoreError::Io {
            action,
            path,
            source,
        }
    };
    let before = match std::fs::read_to_string(&path) {
        Ok(before) => Some(before),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(io("read")(error)),
    };
    std::fs::write(&path, replica.as_str()).map_err(io("write"))?;
    Ok(before)
}
