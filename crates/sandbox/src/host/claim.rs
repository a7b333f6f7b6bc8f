//! One sandbox for each id, and its directory.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::RwLock;

use crate::SandboxError;

/// Makes the state directory; what is in it is the launcher's.
pub(crate) fn prepare_dir(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        std::fs::create_dir_all(dir)?;
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

/// Ids in use.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    taken: Arc<Mutex<HashSet<String>>>,
    /// Written by who clears what earlier processes left.
    clearing: Arc<RwLock<()>>,
}

/// An id in use; given back when dropped.
pub(crate) struct Claim {
    of: Claims,
    id: String,
}

impl Claims {
    /// Takes an id; an earlier process's sandbox of the same id has been cleared, or will not be.
    pub(crate) async fn take(&self, id: &str) -> Result<Claim, SandboxError> {
        let _none_clears = self.clearing.read().await;
        if !self.taken().insert(id.to_owned()) {
            return Err(SandboxError::AlreadyOpen);
        }
        Ok(Claim {
            of: self.clone(),
            id: id.to_owned(),
        })
    }

    /// Has what earlier processes left behind cleared, `clear` being told which ids to leave alone:
    /// those in `keep` and those in use. Until it is done no other is taken, for `clear` could not tell
    /// that one's sandbox from what was left.
    pub(crate) async fn clear(
        &self,
        keep: &HashSet<String>,
        what: &'static str,
        clear: impl FnOnce(&HashSet<String>) -> io::Result<usize> + Send + 'static,
    ) -> Result<usize, SandboxError> {
        let alone = Arc::clone(&self.clearing).write_owned().await;
        let keep = &*self.taken() | keep;
        // Goes on, and keeps others out, when nobody waits for it any more.
        let cleared = tokio::task::spawn_blocking(move || {
            let cleared = clear(&keep);
            drop(alone);
            cleared
        });
        let cleared = cleared.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        cleared.map_err(SandboxError::host(what))
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.of.taken().remove(&self.id);
    }
}
