//! One store's folder: download, sync, flush. A pass plans from one listing of each side and then
//! acts, deletions first, so that a file can take the place of a folder and the other way round.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_base::limits::MAX_MEMORY;
use freehold_base::{Clock, MemoryId, MemoryStoreId, Timestamp};
use freehold_wire::memory::check_path;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

use super::merge::{Action, Sides, decide};
use super::{
    Deletions, Folder, FolderError, Listed, MARKER, MemoryMount, Remote, RemoteError, RemoteMemory,
    Rules, Saved, marker,
};

/// Memories fetched at a time.
const FETCHES: usize = 16;
/// Files uploaded at a time.
const UPLOADS: usize = 32;
/// Uploads of one pass: more files than a store can hold are left for later.
const MAX_UPLOADS: usize = freehold_base::limits::MAX_MEMORIES;
/// Bounds of the deletions of one pass.
const DELETIONS: (usize, usize) = (8, 50);
/// A file changed this recently is read again at the next pass: its time of change may not tell a
/// second change from the first.
const SETTLED: Duration = Duration::from_secs(2);
/// Bytes of a marker that are looked at.
const MAX_MARKER: u64 = 256;

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

/// Whose folder it is.
#[derive(Debug, PartialEq, Eq)]
enum Marker {
    Ours,
    Missing,
    Another,
}

struct Scan {
    marker: Marker,
    /// By path, fingerprints: a hash, or for what cannot be a memory some other text.
    files: BTreeMap<String, String>,
    truncated: bool,
}

/// An upload.
struct Push {
    path: String,
    fingerprint: String,
    /// The memory to change and its hash; `None` makes a new one.
    existing: Option<(MemoryId, String)>,
}

enum Pushed {
    Saved(String),
    Nothing,
    Refused(String),
    Failed(RemoteError),
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

    async fn scan(&mut self, pass: &Pass<'_>) -> Result<Scan, MemoryError> {
        let listed = pass.folder.list().await?;
        let mut scan = Scan {
            marker: Marker::Missing,
            files: BTreeMap::new(),
            truncated: listed.truncated,
        };
        let mut seen = BTreeMap::new();
        for file in listed.files {
            if file.path == MARKER {
                scan.marker = self.check_marker(pass).await?;
                continue;
            }
            let found = self.fingerprint(pass, &file, &mut seen).await?;
            scan.files.insert(file.path, found);
        }
        self.seen = seen;
        Ok(scan)
    }

    async fn check_marker(&self, pass: &Pass<'_>) -> Result<Marker, MemoryError> {
        let found = pass.folder.read(MARKER, MAX_MARKER).await?;
        Ok(match found {
            Some(text) if text.trim_ascii_end() == marker(&self.store).as_bytes() => Marker::Ours,
            // Of another make: an agent may have cut or filled it.
            None => Marker::Missing,
            Some(text) if !text.starts_with(b"version ") => Marker::Missing,
            Some(_) => Marker::Another,
        })
    }

    async fn fingerprint(
        &self,
        pass: &Pass<'_>,
        file: &Listed,
        seen: &mut BTreeMap<String, (u64, i64, String)>,
    ) -> Result<String, MemoryError> {
        let told = (file.size, file.mtime_micros);
        if let Some((size, mtime, sha)) = self.seen.get(&file.path)
            && (*size, *mtime) == told
        {
            seen.insert(file.path.clone(), (*size, *mtime, sha.clone()));
            return Ok(sha.clone());
        }
        let unread = format!("unread:{}:{}", file.size, file.mtime_micros);
        if file.size > MAX_MEMORY as u64 {
            return Ok(unread);
        }
        let now = pass.clock.now();
        match pass.folder.read(&file.path, MAX_MEMORY as u64).await? {
            None => Ok(unread),
            Some(content) => {
                let sha = sha256(&content);
                let settled = i64::try_from(SETTLED.as_micros()).unwrap_or(i64::MAX);
                if file.mtime_micros.saturating_add(settled) < now.as_micros() {
                    seen.insert(file.path.clone(), (told.0, told.1, sha.clone()));
                }
                Ok(sha)
            }
        }
    }

    /// All memories without their content, by path.
    async fn list(&self, pass: &Pass<'_>) -> Result<BTreeMap<String, RemoteMemory>, MemoryError> {
        let mut all = BTreeMap::new();
        let mut page = None;
        loop {
            let listing = pass
                .remote
                .list(&self.store, false, page.as_deref())
                .await?;
            for memory in listing.memories {
                if let Some(path) = relative(&memory.path) {
                    all.insert(path.to_owned(), memory);
                }
            }
            match listing.next {
                Some(next) => page = Some(next),
                None => return Ok(all),
            }
        }
    }

    /// A memory that holds what was sent without an answer is that upload. The notes end here:
    /// kept longer, one would claim another writer's same bytes.
    fn settle(&mut self, remote: &BTreeMap<String, RemoteMemory>) {
        let sent = std::mem::take(&mut *self.sent());
        for (path, sha) in sent {
            if remote.get(&path).is_some_and(|memory| memory.sha256 == sha) {
                self.baseline.insert(path, sha);
            }
        }
    }

    /// Deletes the file of a memory that is gone, unless it was changed since it was looked at:
    /// then it is to be uploaded.
    async fn delete_file(
        &mut self,
        pass: &Pass<'_>,
        path: String,
    ) -> Result<Option<Push>, MemoryError> {
        let now = pass.folder.read(&path, MAX_MEMORY as u64).await?;
        let fingerprint = now.as_deref().map(sha256);
        if let Some(fingerprint) = fingerprint
            && self.baseline.get(&path) != Some(&fingerprint)
        {
            self.baseline.remove(&path);
            let push = Push {
                path,
                fingerprint,
                existing: None,
            };
            return Ok(Some(push).filter(|_| !self.read_only));
        }
        match pass.folder.remove(&path).await {
            Ok(()) => {
                self.baseline.remove(&path);
            }
            Err(error) => self.warn_of(&error, "file of a deleted memory not removed"),
        }
        Ok(None)
    }

    /// Deletes memories whose files have been missing for long enough and still are.
    async fn delete_memories(
        &mut self,
        pass: &Pass<'_>,
        candidates: Vec<(String, MemoryId, String)>,
        cap: usize,
    ) -> Result<(), MemoryError> {
        if candidates.is_empty() || pass.rules.deletions == Deletions::Disabled {
            return Ok(());
        }
        let now = pass.clock.now();
        let window = i64::try_from(pass.rules.delete_window.as_millis()).unwrap_or(i64::MAX);
        let mut due = Vec::new();
        for (path, id, sha) in candidates {
            let since = *self.missing.entry(path.clone()).or_insert(now);
            if pass.last || since.plus_millis(window) <= now {
                due.push((path, id, sha));
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        let again = pass.folder.list().await?;
        if again.truncated || self.check_marker(pass).await? != Marker::Ours {
            return Ok(());
        }
        let there: BTreeSet<&str> = again.files.iter().map(|f| f.path.as_str()).collect();
        let (mut done, mut held) = (0, 0);
        for (path, id, sha) in due {
            if there.contains(path.as_str()) {
                self.missing.remove(&path);
                continue;
            }
            if done == cap {
                held += 1;
                continue;
            }
            done += 1;
            if pass.rules.deletions == Deletions::LogOnly {
                tracing::info!(store = %self.store, memory = %id, "would delete a memory");
                continue;
            }
            match pass.remote.delete(&self.store, &id, &sha).await {
                Ok(()) | Err(RemoteError::Gone) => {
                    self.baseline.remove(&path);
                    self.missing.remove(&path);
                }
                Err(error) => self.warn_of(&error, "memory not deleted"),
            }
        }
        if held > 0 {
            tracing::warn!(store = %self.store, done, held, "many files deleted; the rest waits");
        }
        Ok(())
    }

    async fn push_all(&mut self, pass: &Pass<'_>, mut pushes: Vec<Push>) {
        pushes.truncate(MAX_UPLOADS);
        let this = &*self;
        let pushed: Vec<(Push, Pushed)> = stream::iter(pushes)
            .map(|push| async move {
                let pushed = this.push(pass, &push).await;
                (push, pushed)
            })
            .buffer_unordered(UPLOADS)
            .collect()
            .await;
        for (push, pushed) in pushed {
            match pushed {
                Pushed::Saved(sha) => {
                    self.sent().remove(&push.path);
                    self.refused.remove(&push.path);
                    self.baseline.insert(push.path, sha);
                }
                Pushed::Nothing => {}
                Pushed::Refused(why) => {
                    self.sent().remove(&push.path);
                    tracing::warn!(store = %self.store, why, "a file cannot be a memory");
                    self.refused.insert(push.path, push.fingerprint);
                }
                // What was sent is remembered: an attempt whose answer was lost may have been kept.
                Pushed::Failed(error) => self.warn_of(&error, "memory not uploaded"),
            }
        }
    }

    async fn push(&self, pass: &Pass<'_>, push: &Push) -> Pushed {
        let content = match pass.folder.read(&push.path, MAX_MEMORY as u64).await {
            Ok(Some(content)) => content,
            Ok(None) if push.fingerprint.starts_with("unread:") => {
                return Pushed::Refused(format!("not readable, or larger than {MAX_MEMORY} bytes"));
            }
            Ok(None) => return Pushed::Nothing,
            Err(error) => return Pushed::Failed(RemoteError::Failed(error.to_string())),
        };
        let sha = sha256(&content);
        let Ok(content) = String::from_utf8(content) else {
            return Pushed::Refused("not UTF-8".to_owned());
        };
        let path = format!("/{}", push.path);
        if let Err(problem) = check_path(&path) {
            return Pushed::Refused(problem);
        }
        self.sent().insert(push.path.clone(), sha);
        let store = &self.store;
        let answer = match &push.existing {
            None => pass.remote.create(store, &path, content).await,
            Some((id, expected)) => {
                match pass
                    .remote
                    .update(store, id, content.clone(), expected)
                    .await
                {
                    // Deleted meanwhile: nothing but the file holds it now.
                    Err(RemoteError::Gone) => pass.remote.create(store, &path, content).await,
                    answer => answer,
                }
            }
        };
        match answer {
            Ok(sha) => Pushed::Saved(sha),
            Err(RemoteError::Refused(why)) => Pushed::Refused(why),
            Err(error) => Pushed::Failed(error),
        }
    }

    async fn pull_all(&mut self, pass: &Pass<'_>, pulls: Vec<(String, MemoryId)>) {
        let store = &self.store;
        let pulled: Vec<(String, Result<String, MemoryError>)> = stream::iter(pulls)
            .map(|(path, id)| async move {
                let pulled = pull(pass, store, &path, &id).await;
                (path, pulled)
            })
            .buffer_unordered(FETCHES)
            .collect()
            .await;
        for (path, pulled) in pulled {
            match pulled {
                Ok(sha) => {
                    self.seen.remove(&path);
                    self.baseline.insert(path, sha);
                }
                // Deleted since it was listed: the next pass sees that.
                Err(MemoryError::Remote(RemoteError::Gone)) => {}
                Err(error) => self.warn_of(&error, "memory not downloaded"),
            }
        }
    }

    fn sent(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Whole between any two statements, so a poisoned lock is still usable.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn_of(&self, error: &(dyn std::error::Error + 'static), what: &str) {
        tracing::warn!(store = %self.store, error, "{what}");
    }
}

async fn pull(
    pass: &Pass<'_>,
    store: &MemoryStoreId,
    path: &str,
    id: &MemoryId,
) -> Result<String, MemoryError> {
    let memory = pass.remote.get(store, id).await?;
    let content = memory.content.unwrap_or_default();
    pass.folder.write(path, content.into_bytes()).await?;
    Ok(memory.sha256)
}

/// The file of a memory; `None` for what cannot be one, whatever a server says.
fn relative(path: &str) -> Option<&str> {
    let file = path.strip_prefix('/')?;
    (check_path(path).is_ok() && file != MARKER).then_some(file)
}

fn sha256(content: &[u8]) -> String {
    freehold_base::hex::encode(Sha256::digest(content))
}
