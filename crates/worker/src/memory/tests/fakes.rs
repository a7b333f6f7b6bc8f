//! A store, a folder, and a session with both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use freehold_base::{ManualClock, MemoryId, MemoryStoreId, Timestamp};
use sha2::{Digest, Sha256};

use super::super::*;

pub(super) fn sha(content: &str) -> String {
    let digest = Sha256::digest(content.as_bytes());
    digest.iter().map(|b| format!("{b:02x}")).collect()
}

/// What goes wrong with the next write of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is done, and the answer lost.
    AnswerLost,
    /// It is not done.
    Down,
    /// It is refused, every time.
    Refused,
    /// Somebody else changes the memory just before.
    Overtaken,
}

/// A store that follows the rules of the API.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) memories: Mutex<BTreeMap<String, (MemoryId, String)>>,
    pub(super) trouble: Mutex<BTreeMap<String, Trouble>>,
    /// What was asked, without listings of hashes.
    pub(super) asked: Mutex<Vec<String>>,
    made: Mutex<u32>,
}

impl Shelf {
    pub(super) fn put(&self, path: &str, content: &str) {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        let id: MemoryId = format!("mem_{made}").parse().unwrap();
        let mut memories = self.memories.lock().unwrap();
        let entry = memories
            .entry(path.to_owned())
            .or_insert((id, String::new()));
        entry.1 = content.to_owned();
    }
    pub(super) fn remove(&self, path: &str) {
        self.memories.lock().unwrap().remove(path);
    }
    pub(super) fn get(&self, path: &str) -> Option<String> {
        self.memories.lock().unwrap().get(path).map(|m| m.1.clone())
    }
    pub(super) fn trouble(&self, path: &str, trouble: Trouble) {
        self.trouble
            .lock()
            .unwrap()
            .insert(path.to_owned(), trouble);
    }
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
    fn note(&self, what: &str, path: &str) {
        self.asked.lock().unwrap().push(format!("{what} {path}"));
    }
    /// What stands in the way of a write; the answer of an attempt that was done anyway is lost.
    fn before(&self, path: &str) -> Result<bool, RemoteError> {
        let trouble = self.trouble.lock().unwrap().get(path).copied();
        if trouble != Some(Trouble::Refused) {
            self.trouble.lock().unwrap().remove(path);
        }
        match trouble {
            Some(Trouble::Down) => Err(RemoteError::Failed("down".into())),
            Some(Trouble::Refused) => Err(RemoteError::Refused("no".into())),
            Some(Trouble::Overtaken) => {
                self.put(path, "overtaken");
                Ok(false)
            }
            Some(Trouble::AnswerLost) => Ok(true),
            None => Ok(false),
        }
    }
    fn path_of(&self, id: &MemoryId) -> Result<String, RemoteError> {
        let memories = self.memories.lock().unwrap();
        let found = memories.iter().find(|(_, (i, _))| i == id);
        found.map(|(path, _)| path.clone()).ok_or(RemoteError::Gone)
    }
    fn one(path: &str, (id, content): &(MemoryId, String), full: bool) -> RemoteMemory {
        RemoteMemory {
            id: id.clone(),
            path: path.to_owned(),
            sha256: sha(content),
            content: full.then(|| content.clone()),
        }
    }
}

#[async_trait]
impl Remote for Shelf {
    async fn list(
        &self,
        _: &MemoryStoreId,
        content: bool,
        page: Option<&str>,
    ) -> Result<Listing, RemoteError> {
        if content {
            self.note("download", page.unwrap_or("/"));
        }
        // Pages of three, so that there are several.
        let memories = self.memories.lock().unwrap();
        let mut rest = memories
            .iter()
            .filter(|(path, _)| page.is_none_or(|p| p < path.as_str()));
        let some: Vec<_> = rest.by_ref().take(3).collect();
        let next = rest
            .next()
            .and(some.last().map(|(path, _)| (*path).clone()));
        let memories = some
            .into_iter()
            .map(|(path, m)| Self::one(path, m, content));
        Ok(Listing {
            memories: memories.collect(),
            next,
        })
    }
    async fn get(&self, _: &MemoryStoreId, id: &MemoryId) -> Result<RemoteMemory, RemoteError> {
        let path = self.path_of(id)?;
        self.note("get", &path);
        Ok(Self::one(
            &path,
            &self.memories.lock().unwrap()[&path],
            true,
        ))
    }
    async fn create(
        &self,
        _: &MemoryStoreId,
        path: &str,
        content: String,
    ) -> Result<String, RemoteError> {
        self.note("create", path);
        let lost = self.before(path)?;
        if self.get(path).is_some() {
            return Err(RemoteError::Conflict);
        }
        self.put(path, &content);
        if lost {
            return Err(RemoteError::Failed("the answer was lost".into()));
        }
        Ok(sha(&content))
    }
    async fn update(
        &self,
        _: &MemoryStoreId,
        id: &MemoryId,
        content: String,
        expected: &str,
    ) -> Result<String, RemoteError> {
        let path = self.path_of(id)?;
        self.note("update", &path);
        let lost = self.before(&path)?;
        if sha(&self.get(&path).ok_or(RemoteError::Gone)?) != expected {
            return Err(RemoteError::Conflict);
        }
        self.put(&path, &content);
        if lost {
            return Err(RemoteError::Failed("the answer was lost".into()));
        }
        Ok(sha(&content))
    }
    async fn delete(
        &self,
        _: &MemoryStoreId,
        id: &MemoryId,
        expected: &str,
    ) -> Result<(), RemoteError> {
        let path = self.path_of(id)?;
        self.note("delete", &path);
        self.before(&path)?;
        if sha(&self.get(&path).ok_or(RemoteError::Gone)?) != expected {
            return Err(RemoteError::Conflict);
        }
        self.remove(&path);
        Ok(())
    }
}

/// A folder.
#[derive(Default)]
pub(super) struct Shoebox {
    pub(super) files: Mutex<BTreeMap<String, (Vec<u8>, i64)>>,
    pub(super) truncated: Mutex<bool>,
    /// Paths that cannot be written.
    pub(super) full: Mutex<BTreeSet<String>>,
    pub(super) reads: Mutex<u32>,
    /// Files that come back right after they were listed.
    pub(super) returning: Mutex<Vec<(String, String)>>,
}

impl Shoebox {
    pub(super) fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let mut files = self.files.lock().unwrap();
        let time = files.values().map(|f| f.1).max().unwrap_or_default() + 1;
        files.insert(path.to_owned(), (content.as_ref().to_vec(), time));
    }
    pub(super) fn remove(&self, path: &str) {
        self.files.lock().unwrap().remove(path);
    }
    pub(super) fn get(&self, path: &str) -> Option<String> {
        let files = self.files.lock().unwrap();
        files
            .get(path)
            .map(|f| String::from_utf8_lossy(&f.0).into_owned())
    }
    /// Paths without the marker.
    pub(super) fn paths(&self) -> Vec<String> {
        let files = self.files.lock().unwrap();
        files.keys().filter(|p| *p != MARKER).cloned().collect()
    }
}

struct Shared(Arc<Shoebox>);

#[async_trait]
impl Folder for Shared {
    async fn list(&self) -> Result<Files, FolderError> {
        let files = self.0.files.lock().unwrap().clone();
        for (path, content) in self.0.returning.lock().unwrap().drain(..) {
            self.0.put(&path, content);
        }
        let each = files.into_iter().map(|(path, (content, time))| Listed {
            path,
            size: content.len() as u64,
            mtime_micros: time,
        });
        Ok(Files {
            files: each.collect(),
            truncated: *self.0.truncated.lock().unwrap(),
        })
    }
    async fn read(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, FolderError> {
        *self.0.reads.lock().unwrap() += 1;
        let found = self.0.files.lock().unwrap().get(path).map(|f| f.0.clone());
        Ok(found.filter(|content| content.len() as u64 <= max))
    }
    async fn write(&self, path: &str, content: Vec<u8>) -> Result<(), FolderError> {
        if self.0.full.lock().unwrap().contains(path) {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        self.0.put(path, content);
        Ok(())
    }
    async fn remove(&self, path: &str) -> Result<(), FolderError> {
        self.0.remove(path);
        Ok(())
    }
}

/// A session with one store.
pub(super) struct Bench {
    pub(super) shelf: Arc<Shelf>,
    pub(super) folder: Arc<Shoebox>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) memory: SessionMemory,
    folders: Vec<Box<dyn Folder>>,
}

pub(super) fn store() -> MemoryStoreId {
    "memstore_1".parse().unwrap()
}

impl Bench {
    pub(super) async fn with(read_only: bool, rules: Rules, memories: &[(&str, &str)]) -> Self {
        let shelf = Arc::new(Shelf::default());
        for (path, content) in memories {
            shelf.put(path, content);
        }
        let start = Timestamp::from_micros(1_600_000_000_000_000);
        let clock = Arc::new(ManualClock::at(start));
        let mut bench = Self::over(shelf, Arc::default(), clock, read_only, rules, None).await;
        bench.open().await;
        bench.shelf.asked();
        bench
    }
    pub(super) async fn new(memories: &[(&str, &str)]) -> Self {
        Self::with(false, Rules::default(), memories).await
    }
    pub(super) async fn read_only(memories: &[(&str, &str)]) -> Self {
        Self::with(true, Rules::default(), memories).await
    }
    pub(super) async fn over(
        shelf: Arc<Shelf>,
        folder: Arc<Shoebox>,
        clock: Arc<ManualClock>,
        read_only: bool,
        rules: Rules,
        state: Option<std::path::PathBuf>,
    ) -> Self {
        let mount = MemoryMount {
            store: store(),
            mount_path: "/mnt/memory/m".into(),
            read_only,
        };
        let remote: Arc<dyn Remote> = shelf.clone();
        let memory = SessionMemory::new(vec![mount], remote, clock.clone(), rules, state).await;
        Self {
            shelf,
            folders: vec![Box::new(Shared(folder.clone()))],
            folder,
            clock,
            memory,
        }
    }
    pub(super) async fn open(&mut self) {
        self.memory.open(&self.folders).await.unwrap();
    }
    pub(super) async fn sync(&mut self) {
        self.memory.sync(&self.folders).await;
    }
    pub(super) async fn sync_if_due(&mut self) {
        self.memory.sync_if_due(&self.folders).await;
    }
    pub(super) async fn finish(&mut self) {
        self.memory.finish(&self.folders).await;
    }
    pub(super) async fn flush(&mut self) {
        self.memory.flush(&self.folders).await;
    }
    pub(super) fn wait(&self, seconds: i64) {
        self.clock.advance_millis(seconds * 1000);
    }
}
