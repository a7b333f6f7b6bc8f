//! The data directory: private to its owner, and to one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use freehold_base::{IdSource, ReplicaId};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::StoreError;

/// Holds the data directory for as long as it lives; the kernel frees it even on `kill -9`.
pub(crate) struct DirLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Makes the directory if needed (mode 0700) and takes its lock.
pub(crate) fn lock(dir: &Path) -> Result<DirLock, StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| failed("create", dir, source))?;
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| failed("open", &path, source))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(DirLock(file)),
        Err(Errno::WOULDBLOCK) => Err(StoreError::InUse {
            path: dir.to_owned(),
        }),
        Err(errno) => Err(failed("lock", &path, errno.into())),
    }
}

/// This process among those that may share a database.
pub(crate) struct Seat {
    /// The name under which it holds leases.
    pub(crate) replica: ReplicaId,
    /// The name of its data directory, which that keeps. `None` where nothing is shared.
    pub(crate) home: Option<String>,
    /// Of the data directory, unless the backend holds it.
    lock: Mutex<Option<DirLock>>,
}

impl Seat {
    /// Where nothing is shared.
    pub(crate) fn alone(ids: &IdSource) -> Self {
        Self {
            replica: ids.next(),
            home: None,
            lock: Mutex::default(),
        }
    }

    /// Takes the directory's lock and notes who uses it now; gives who did before, who is dead.
    pub(crate) fn shared(dir: &Path, ids: &IdSource) -> Result<(Self, Option<String>), StoreError> {
        let lock = lock(dir)?;
        let replica: ReplicaId = ids.next();
        let (current, name) = (dir.join("replica"), dir.join("home"));
        let dead = read(&current)?;
        write(&current, replica.as_str())?;
        let home = match read(&name)? {
            Some(home) => home,
            None => {
                let home: ReplicaId = ids.next();
                write(&name, home.as_str())?;
                home.to_string()
            }
        };
        let seat = Self {
            replica,
            home: Some(home),
            lock: Mutex::new(Some(lock)),
        };
        Ok((seat, dead))
    }

    /// Lets go of the data directory.
    pub(crate) fn leave(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lock.take());
    }
}

fn read(path: &Path) -> Result<Option<String>, StoreError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), StoreError> {
    std::fs::write(path, text).map_err(|source| failed("write", path, source))
}

fn failed(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
