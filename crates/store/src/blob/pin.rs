//! Holders of blobs that may have no row yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts holders by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins(Arc<Mutex<HashMap<String, usize>>>);

/// Keeps one blob from removal by this process while it lives.
#[derive(Debug)]
pub struct BlobPin {
    pins: Pins,
    key: String,
}

impl Pins {
    pub(super) fn pin(&self, key: &str) -> BlobPin {
        *self.counts().entry(key.to_owned()).or_default() += 1;
        BlobPin {
            pins: self.clone(),
            key: key.to_owned(),
        }
    }
    pub(super) fn pinned(&self, key: &str) -> bool {
        self.counts().contains_key(key)
    }
    fn counts(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlobPin {
    fn drop(&mut self) {
        let mut counts = self.pins.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
