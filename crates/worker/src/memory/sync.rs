//! One store's folder: download, sync, flush. A pass plans from one listing of each side and then
//! acts, deletions first, so that a file can take the place of a folder and the other way round.

mod act;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use freehold_base::{Clock, MemoryStoreId, Timestamp};
use freehold_wire::memory::check_path;
use sha2::{Digest, Sha256};

use super::merge::{Action, Sides, decide};
use super::{
    Folder, FolderError, Listed, MARKER, MemoryMount, Remote, RemoteError, Rules, Saved, marker,
};
use act::Push;
use look::Marker;

/// Bounds of the deletions of one pass.
const DELETIONS: (usize, usize) = (8, 50);
/// Why a pass failed.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The folder could not be used.
    #[error("its folder could not be used")]
    Folder(#[from] FolderError),
    /// The store could not be used.
    #[error("it could not be read")]
    Remote(#[from] RemoteError),
}

/// What a pass works with.
pub(super) struct Pass<'a> {
    pub(super) remote: &'a dyn Remote,
    pub(super) folder: &'a dyn Folder,
    pub(super) clock: &'a dyn Clock,
    pub(super) rules: Rules,
    /// No later pass is coming: deletions do not wait.
    pub(super) last: bool,
}

/// One store and its folder.
pub struct StoreSync {
    store: MemoryStoreId,
    read_only: bool,
    /// By path, the content's hash as of the last agreement.
    baseline: BTreeMap<String, String>,
    /// By path, the fingerprint of a file that the store refused.
    refused: BTreeMap<String, String>,
    /// By path, when a file was first seen missing.
    missing: BTreeMap<String, Timestamp>,
    /// By path, the hash of content that was sent and not answered.
    sent: Mutex<BTreeMap<String, String>>,
    /// By path, size, time of change and hash of files that need not be read again.
    seen: BTreeMap<String, (u64, i64, String)>,
}

impl StoreSync {
    /// A store as it was left, if it was.
    pub fn new(mount: &MemoryMount, saved: Option<Saved>) -> Self {
        let saved = saved.unwrap_or_default();
        Self {
            store: mount.store.clone(),
            read_only: mount.read_only,
            baseline: saved.baseline,
            refused: BTreeMap::new(),
            missing: BTreeMap::new(),
            sent: Mutex::new(saved.sent),
            seen: BTreeMap::new(),
        }
    }

    /// What is to be kept over the end of the process.
    pub fn saved(&self) -> Saved {
        Saved {
            baseline: self.baseline.clone(),
            sent: self.sent().clone(),
        }
    }

    /// Makes a folder ready that nobody here has opened before. It may have come with a snapshot of
    /// the sandbox: what is in it is old, and what the store no longer has must not come back.
    pub(super) async fn open_anew(&mut self, pass: &Pass<'_>) -> Result<(), MemoryError> {
        self.download(pass).await?;
        self.clear(pass).await
    }

    /// Makes the folder ready: goes on where it was left, or downloads the whole store.
    pub(super) async fn open(&mut self, pass: &Pass<'_>) -> Result<(), MemoryError> {
        if !self.baseline.is_empty() && self.scan(pass).await?.marker == Marker::Ours {
            return self.try_sync(pass).await;
        }
        self.download(pass).await
    }

    /// Writes the marker and every memory. Deletes nothing on the store, uploads nothing.
    async fn download(&mut self, pass: &Pass<'_>) -> Result<(), MemoryError> {
        self.baseline.clear();
        self.sent().clear();
        self.missing.clear();
        self.seen.clear();
        let mark = marker(&self.store).into_bytes();
        pass.folder.write(MARKER, mark).await?;
        let mut page = None;
        loop {
            let listing = pass.remote.list(&self.store, true, page.as_deref()).await?;
            for memory in listing.memories {
                let Some(path) = relative(&memory.path) else {
                    continue;
                };
                let content = memory.content.unwrap_or_default();
                match pass.folder.write(path, content.into_bytes()).await {
                    Ok(()) => {
                        self.baseline.insert(path.to_owned(), memory.sha256);
                    }
                    Err(error) => self.warn_of(&error, "memory not written to its file"),
                }
            }
            match listing.next {
                Some(next) => page = Some(next),
                None => break,
            }
        }
        if self.read_only {
            // Nobody inside can have made them: they are of memories that are gone.
            self.clear(pass).await?;
        }
        Ok(())
    }

    /// Removes what no memory is in the folder for.
    async fn clear(&self, pass: &Pass<'_>) -> Result<(), MemoryError> {
        loop {
            let found = pass.folder.list().await?;
            let known = |f: &Listed| f.path == MARKER || self.baseline.contains_key(&f.path);
            let strange: Vec<_> = found.files.iter().filter(|f| !known(f)).collect();
            for file in &strange {
                pass.folder.remove(&file.path).await?;
            }
            if !found.truncated || strange.is_empty() {
                return Ok(());
            }
        }
    }

    /// One sync. A failure is logged, and mended by the next one.
    pub(super) async fn sync(&mut self, pass: &Pass<'_>) {
        match self.try_sync(pass).await {
            Ok(()) => {}
            Err(MemoryError::Remote(RemoteError::Gone)) => {
                tracing::info!(store = %self.store, "memory store is gone; its folder stays");
            }
            Err(error) => self.warn_of(&error, "memory store not synced"),
        }
    }

    async fn try_sync(&mut self, pass: &Pass<'_>) -> Result<(), MemoryError> {
        let scan = self.scan(pass).await?;
        match scan.marker {
            Marker::Ours => {}
            Marker::Missing => {
                tracing::warn!(store = %self.store, "the marker is gone; downloading the store");
                return self.download(pass).await;
            }
            Marker::Another => {
                tracing::warn!(store = %self.store, "the folder is marked as another store's");
                return Ok(());
            }
        }
        let remote = self.list(pass).await?;
        self.settle(&remote);
        // One file gone is a deletion, all gone at once is an accident.
        if scan.files.is_empty() && !scan.truncated && self.baseline.len() > 1 {
            tracing::warn!(store = %self.store, "every file is gone; downloading the store");
            return self.download(pass).await;
        }
        let cap = DELETIONS.0.max(DELETIONS.1.min(self.baseline.len() / 4));
        let (mut files, mut deletions, mut pushes, mut pulls) = (vec![], vec![], vec![], vec![]);
        let paths: BTreeSet<&String> = remote
            .keys()
            .chain(scan.files.keys())
            .chain(self.baseline.keys())
            .collect();
        for path in paths.into_iter().cloned().collect::<Vec<_>>() {
            let sides = Sides {
                base: self.baseline.get(&path).map(String::as_str),
                local: scan.files.get(&path).map(String::as_str),
                remote: remote.get(&path).map(|memory| memory.sha256.as_str()),
            };
            if sides.local.is_some() {
                self.missing.remove(&path);
            } else if scan.truncated && sides.base.is_some() {
                continue; // It may be among the files that were left out.
            }
            if sides.conflict() {
                tracing::warn!(store = %self.store, "a memory changed on both sides; the store wins");
            }
            let refused =
                sides.local.is_some() && self.refused.get(&path).map(String::as_str) == sides.local;
            let existing = remote.get(&path).map(|m| (m.id.clone(), m.sha256.clone()));
            let fingerprint = sides.local.unwrap_or_default().to_owned();
            match decide(sides, self.read_only, refused) {
                Action::Agree => {
                    self.baseline.extend(existing.map(|(_, sha)| (path, sha)));
                }
                Action::Forget => {
                    self.baseline.remove(&path);
                    self.missing.remove(&path);
                }
                Action::Pull => {
                    self.missing.remove(&path);
                    pulls.extend(existing.map(|(id, _)| (path, id)));
                }
                Action::Update => pushes.push(Push {
                    path,
                    fingerprint,
                    existing,
                }),
                Action::Create => {
                    self.baseline.remove(&path);
                    pushes.push(Push {
                        path,
                        fingerprint,
                        existing: None,
                    });
                }
                Action::DeleteMemory => {
                    deletions.extend(existing.map(|(id, sha)| (path, id, sha)));
                }
                Action::DeleteFile => files.push(path),
            }
        }
        for path in files {
            pushes.extend(self.delete_file(pass, path).await?);
        }
        self.delete_memories(pass, deletions, cap).await?;
        self.push_all(pass, pushes).await;
        self.pull_all(pass, pulls).await;
        Ok(())
    }

    /// Uploads new and changed files; deletes nothing and downloads nothing.
    pub(super) async fn flush(&mut self, pass: &Pass<'_>) {
        if let Err(error) = self.try_flush(pass).await {
            self.warn_of(&error, "memory store not flushed");
        }
    }

    async fn try_flush(&mut self, pass: &Pass<'_>) -> Result<(), MemoryError> {
        let scan = self.scan(pass).await?;
        if self.read_only || scan.marker != Marker::Ours {
            return Ok(());
        }
        let dirty = |path: &String, found: &String| {
            self.refused.get(path) != Some(found)
                && (self.baseline.get(path) != Some(found) || self.sent().contains_key(path))
        };
        if !scan.files.iter().any(|(path, found)| dirty(path, found)) {
            return Ok(());
        }
        let remote = self.list(pass).await?;
        self.settle(&remote);
        let mut pushes = Vec::new();
        for (path, fingerprint) in scan.files {
            let sides = Sides {
                base: self.baseline.get(&path).map(String::as_str),
                local: Some(&fingerprint),
                remote: remote.get(&path).map(|memory| memory.sha256.as_str()),
            };
            let refused = self.refused.get(&path) == Some(&fingerprint);
            let existing = remote.get(&path).map(|m| (m.id.clone(), m.sha256.clone()));
            match decide(sides, false, refused) {
                Action::Update | Action::Create => pushes.push(Push {
                    path,
                    fingerprint,
                    existing,
                }),
                Action::Agree => {
                    self.baseline.extend(existing.map(|(_, sha)| (path, sha)));
                }
                _ => {}
            }
        }
        self.push_all(pass, pushes).await;
        Ok(())
    }

    fn sent(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Whole between any two statements, so a poisoned lock is still usable.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn_of(&self, error: &(dyn std::error::Error + 'static), what: &str) {
        tracing::warn!(store = %self.store, error, "{what}");
    }
}

/// The file of a memory; `None` for what cannot be one, whatever a server says.
fn relative(path: &str) -> Option<&str> {
    let file = path.strip_prefix('/')?;
    (check_path(path).is_ok() && file != MARKER).then_some(file)
}

fn sha256(content: &[u8]) -> String {
    freehold_base::hex::encode(Sha256::digest(content))
}
