//! Keeps a folder and a memory store in step (contract 55 §14). One engine for cloud sandboxes and
//! for self-hosted workers, over two small traits: [`Remote`] is the store's side, [`Folder`] the
//! sandbox's. The rules of the merge are in `merge`, one store's passes in `sync`, a session's
//! stores and their cadence in `session`.
//!
//! The folder's content is hostile: it is reached only through [`Folder`], and nothing that is in
//! it can make a pass do more than its limits.

pub mod api;
mod folder;
mod merge;
mod mounts;
mod remote;
mod saved;
mod session;
mod sync;
#[cfg(test)]
mod tests;

pub use folder::{Files, Folder, FolderError, HostFolder, Listed, SandboxFolder};
pub use mounts::{folders, shares};
pub use remote::{Listing, Remote, RemoteError, RemoteMemory};
pub use saved::Saved;
pub use session::SessionMemory;
pub use sync::{MemoryError, StoreSync};

use std::time::Duration;

use freehold_base::MemoryStoreId;

/// A memory store mounted into a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryMount {
    /// Which; it may have been deleted since.
    pub store: MemoryStoreId,
    /// Absolute, normalised, one name below `/mnt/memory`.
    pub mount_path: String,
    /// The agent may not change it.
    pub read_only: bool,
}

/// What becomes of a memory whose file was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletions {
    /// It is deleted.
    #[default]
    Enabled,
    /// It is only logged that it would be.
    LogOnly,
    /// It stays.
    Disabled,
}

/// How a session's stores are synced.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Least time between two syncs of [`SessionMemory::sync_if_due`]; not below [`MIN_INTERVAL`].
    pub interval: Duration,
    /// How long a file must be missing before its memory is deleted.
    pub delete_window: Duration,
    /// What deleting a file does.
    pub deletions: Deletions,
}

/// The least [`Rules::interval`].
pub const MIN_INTERVAL: Duration = Duration::from_secs(5);

impl Default for Rules {
    /// What the hosted workers do.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(15),
            delete_window: Duration::from_secs(30),
            deletions: Deletions::Enabled,
        }
    }
}

impl Rules {
    /// For sandboxes beside the store: synced whenever a round of calls begins or ends. A file that
    /// the live sandbox's own agent does not see is not there, so nothing is waited for.
    pub fn beside_the_store() -> Self {
        Self {
            interval: MIN_INTERVAL,
            delete_window: Duration::ZERO,
            deletions: Deletions::Enabled,
        }
    }
}

/// The file at the top of each folder that says which store it belongs to. Never synced.
pub const MARKER: &str = ".anthropic-memory-store";

/// What the marker of a store's folder holds.
pub fn marker(store: &MemoryStoreId) -> String {
    format!("version 1\n{store}")
}
