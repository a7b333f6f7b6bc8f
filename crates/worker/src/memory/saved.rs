//! What is known of a store's folder, in a form that outlives the process.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use freehold_base::MemoryStoreId;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

/// Greatest saved state, bytes: eight stores of two thousand long paths.
const MAX_SAVED: u64 = 64 * 1024 * 1024;

/// Per path (without its leading `/`), hashes of contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// What folder and store last agreed on.
    pub baseline: BTreeMap<String, String>,
    /// What was sent and never answered.
    pub sent: BTreeMap<String, String>,
}

/// The saved state of a session's stores.
pub(super) type AllSaved = BTreeMap<MemoryStoreId, Saved>;

/// Reads a saved state; nothing if there is none that can be read, and then all is downloaded.
pub(super) async fn read(path: &Path) -> AllSaved {
    let Ok(file) = tokio::fs::File::open(path).await else {
        return AllSaved::new();
    };
    let mut text = Vec::new();
    match file.take(MAX_SAVED).read_to_end(&mut text).await {
        Ok(_) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => AllSaved::new(),
    }
}

/// Writes it, whole or not at all.
pub(super) async fn write(path: &Path, all: &BTreeMap<&MemoryStoreId, Saved>) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    tokio::fs::write(&temporary, serde_json::to_vec(all)?).await?;
    tokio::fs::rename(&temporary, path).await
}
