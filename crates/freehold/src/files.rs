//! Files that follow their session from one replica to another: the database says where they stand,
//! the blob store has their snapshots.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use freehold_base::{IdSource, SessionId, SharedClock};
use freehold_store::{SavedFiles, Store};
use freehold_worker::{Entered, Keeper, Save, Saved};
use tokio::io::AsyncRead;

/// The store as a [`Keeper`].
pub(crate) struct Files {
    store: Store,
    clock: SharedClock,
}

impl Files {
    pub(crate) fn new(store: &Store, ids: &IdSource) -> Self {
        Self {
            store: store.clone(),
            clock: Arc::clone(ids.clock()),
        }
    }
}

#[async_trait]
impl Keeper for Files {
    async fn enter(
        &self,
        session: &SessionId,
        known: Option<i64>,
        changing: bool,
    ) -> io::Result<Entered> {
        let files = self.store.enter_sandbox(session, known, changing).await;
        let files = files.map_err(io::Error::other)?;
        Ok(Entered {
            generation: files.generation,
            changes: files.changes,
            unsaved: files.unsaved,
            saved: files.saved.map(|saved| Saved {
                digest: saved.digest().to_owned(),
                key: saved.blob,
                bytes: saved.bytes,
                at: saved.at,
            }),
            first: files.first,
        })
    }

    async fn save(&self, session: &SessionId, save: Save<'_>) -> io::Result<bool> {
        let archive = tokio::fs::File::open(&save.snapshot.path).await?;
        let blob = self.store.blobs().put(archive, save.snapshot.bytes).await;
        // Pinned until the database refers to it.
        let blob = blob.map_err(io::Error::other)?;
        let files = SavedFiles {
            blob: blob.key.clone(),
            bytes: blob.size,
            at: save.at,
        };
        let saved = self
            .store
            .save_sandbox(session, save.generation, save.changes, files)
            .await;
        saved.map_err(io::Error::other)
    }

    async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        self.store.blobs().open(key).await.map_err(io::Error::other)
    }

    fn clock(&self) -> &SharedClock {
        &self.clock
    }
}
