//! What is done on either side.

use std::collections::BTreeSet;

use freehold_base::limits::MAX_MEMORY;
use freehold_base::{MemoryId, MemoryStoreId};
use freehold_wire::memory::check_path;
use futures_util::{StreamExt, stream};

use super::look::Marker;
use super::{MemoryError, Pass, StoreSync, sha256};
use crate::memory::{Deletions, RemoteError};

/// Memories fetched at a time.
const FETCHES: usize = 16;
/// Files uploaded at a time.
const UPLOADS: usize = 32;
/// Uploads of one pass: more files than a store can hold are left for later.
const MAX_UPLOADS: usize = freehold_base::limits::MAX_MEMORIES;
/// An upload.
pub(super) struct Push {
    pub(super) path: String,
    pub(super) fingerprint: String,
    /// The memory to change and its hash; `None` makes a new one.
    pub(super) existing: Option<(MemoryId, String)>,
}

enum Pushed {
    Saved(String),
    Nothing,
    Refused(String),
    Failed(RemoteError),
}

impl StoreSync {
    /// Deletes the file of a memory that is gone, unless it was changed since it was looked at:
    /// then it is to be uploaded.
    pub(super) async fn delete_file(
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
    pub(super) async fn delete_memories(
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

    pub(super) async fn push_all(&mut self, pass: &Pass<'_>, mut pushes: Vec<Push>) {
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

    pub(super) async fn pull_all(&mut self, pass: &Pass<'_>, pulls: Vec<(String, MemoryId)>) {
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
