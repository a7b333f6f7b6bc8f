//! One sandbox for each id, and its directory.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::SandboxError;

/// Makes the state directory; what is in it is the launcher's.
pub(crate) fn prepare_dir(dir: &Path) -> std::io::Result<()> {
    if !dir.is_dir() {
        std::fs::create_dir_all(dir)?;
        std::fs::set_permissions(dir, PermissionsExt::from_mode(0o700))?;
    }
    Ok(())
}

/// An id in use; given back when dropped.
pub(crate) struct Claim {
    open: Arc<Mutex<HashSet<String>>>,
    id: String,
}

impl Claim {
    pub(crate) fn new(open: &Arc<Mutex<HashSet<String>>>, id: &str) -> Result<Self, SandboxError> {
        let fresh = open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned());
        if !fresh {
            return Err(SandboxError::AlreadyOpen);
        }
        Ok(Self {
            open: open.clone(),
            id: id.to_owned(),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}
