//! The memory stores of one session, and when they are synced.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{Clock, SharedClock, Timestamp};
use futures_util::future::{join_all, try_join_all};

use super::sync::Pass;
use super::{Folder, MIN_INTERVAL, MemoryError, MemoryMount, Remote, Rules, StoreSync, saved};

/// Longest last sync, and longest flush after it.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// A session's stores. Folders are given with each pass, in the order of the mounts, because the
/// sandbox that holds them may be another one each time.
pub struct SessionMemory {
    mounts: Vec<MemoryMount>,
    stores: Vec<StoreSync>,
    remote: Arc<dyn Remote>,
    clock: SharedClock,
    rules: Rules,
    synced_at: Timestamp,
    state: Option<PathBuf>,
    /// Nobody has opened the folders here before.
    anew: bool,
}

impl SessionMemory {
    /// Nothing is downloaded yet. `state` is a file that keeps what is known of the folders over
    /// the end of the process, where they outlive it.
    pub async fn new(
        mounts: Vec<MemoryMount>,
        remote: Arc<dyn Remote>,
        clock: SharedClock,
        rules: Rules,
        state: Option<PathBuf>,
    ) -> Self {
        let anew = match &state {
            Some(path) => !tokio::fs::try_exists(path).await.unwrap_or(true),
            None => false,
        };
        let mut known = match &state {
            Some(path) => saved::read(path).await,
            None => BTreeMap::new(),
        };
        let stores = mounts
            .iter()
            .map(|mount| StoreSync::new(mount, known.remove(&mount.store)))
            .collect();
        Self {
            mounts,
            stores,
            remote,
            synced_at: clock.now(),
            clock,
            rules,
            state,
            anew,
        }
    }

    /// What is mounted.
    pub fn mounts(&self) -> &[MemoryMount] {
        &self.mounts
    }

    /// Makes every folder ready.
    ///
    /// # Errors
    /// A store could not be downloaded; a session should not run without its memory.
    pub async fn open(&mut self, folders: &[Box<dyn Folder>]) -> Result<(), MemoryError> {
        let (remote, clock, rules) = (&*self.remote, &*self.clock, self.rules);
        let (anew, each) = (self.anew, self.stores.iter_mut().zip(folders));
        try_join_all(each.map(|(store, folder)| async move {
            let pass = pass(remote, clock, rules, &**folder, false);
            if anew {
                store.open_anew(&pass).await
            } else {
                store.open(&pass).await
            }
        }))
        .await?;
        self.anew = false;
        self.passed().await;
        Ok(())
    }

    /// Syncs if the last time is [`Rules::interval`] ago. To be called after each tool call.
    pub async fn sync_if_due(&mut self, folders: &[Box<dyn Folder>]) {
        let interval = self.rules.interval.max(MIN_INTERVAL);
        let millis = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        if self.synced_at.plus_millis(millis) <= self.clock.now() {
            self.sync(folders).await;
        }
    }

    /// Syncs now.
    pub async fn sync(&mut self, folders: &[Box<dyn Folder>]) {
        self.pass(folders, false).await;
    }

    /// The last sync of a session that ends well: deletions do not wait. Bounded in time.
    pub async fn finish(&mut self, folders: &[Box<dyn Folder>]) {
        if tokio::time::timeout(END_TIMEOUT, self.pass(folders, true))
            .await
            .is_err()
        {
            tracing::warn!("the last sync of memory stores did not end in time");
        }
    }

    /// Uploads what was written, and nothing else: for every end of a session. Bounded in time.
    pub async fn flush(&mut self, folders: &[Box<dyn Folder>]) {
        let (remote, clock, rules) = (&*self.remote, &*self.clock, self.rules);
        let each = self.stores.iter_mut().zip(folders);
        let all = join_all(each.map(|(store, folder)| async move {
            store
                .flush(&pass(remote, clock, rules, &**folder, true))
                .await;
        }));
        if tokio::time::timeout(END_TIMEOUT, all).await.is_err() {
            tracing::warn!("the flush of memory stores was cut off; some files may be unsaved");
        }
        self.passed().await;
    }

    async fn pass(&mut self, folders: &[Box<dyn Folder>], last: bool) {
        let (remote, clock, rules) = (&*self.remote, &*self.clock, self.rules);
        let each = self.stores.iter_mut().zip(folders);
        join_all(each.map(|(store, folder)| async move {
            store
                .sync(&pass(remote, clock, rules, &**folder, last))
                .await;
        }))
        .await;
        self.passed().await;
    }

    async fn passed(&mut self) {
        self.synced_at = self.clock.now();
        let Some(path) = &self.state else { return };
        let each = self.mounts.iter().zip(&self.stores);
        let all = each.map(|(mount, store)| (&mount.store, store.saved()));
        if let Err(error) = saved::write(path, &all.collect()).await {
            tracing::warn!(%error, "the state of memory folders was not kept");
        }
    }
}

fn pass<'a>(
    remote: &'a dyn Remote,
    clock: &'a dyn Clock,
    rules: Rules,
    folder: &'a dyn Folder,
    last: bool,
) -> Pass<'a> {
    Pass {
        remote,
        folder,
        clock,
        rules,
        last,
    }
}
