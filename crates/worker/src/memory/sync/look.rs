//! What lies on either side.

use std::collections::BTreeMap;
use std::time::Duration;

use freehold_base::limits::MAX_MEMORY;

use super::{MemoryError, Pass, StoreSync, relative, sha256};
use crate::memory::{Listed, MARKER, RemoteMemory, marker};

/// A file changed this recently is read again at the next pass: its time of change may not tell a
/// second change from the first.
const SETTLED: Duration = Duration::from_secs(2);
/// Bytes of a marker that are looked at.
const MAX_MARKER: u64 = 256;

/// Whose folder it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Ours,
    Missing,
    Another,
}

/// What a folder holds.
pub(super) struct Scan {
    pub(super) marker: Marker,
    /// By path, fingerprints: a hash, or for what cannot be a memory some other text.
    pub(super) files: BTreeMap<String, String>,
    pub(super) truncated: bool,
}

impl StoreSync {
    pub(super) async fn scan(&mut self, pass: &Pass<'_>) -> Result<Scan, MemoryError> {
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

    pub(super) async fn check_marker(&self, pass: &Pass<'_>) -> Result<Marker, MemoryError> {
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
    pub(super) async fn list(
        &self,
        pass: &Pass<'_>,
    ) -> Result<BTreeMap<String, RemoteMemory>, MemoryError> {
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
    pub(super) fn settle(&mut self, remote: &BTreeMap<String, RemoteMemory>) {
        let sent = std::mem::take(&mut *self.sent());
        for (path, sha) in sent {
            if remote.get(&path).is_some_and(|memory| memory.sha256 == sha) {
                self.baseline.insert(path, sha);
            }
        }
    }
}
