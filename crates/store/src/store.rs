//! The handle everybody holds.

use std::path::Path;
use std::sync::Arc;

use freehold_base::{EnvironmentId, IdSource, SessionId};

use crate::backend::{Backend, Boxed, Tx};
use crate::secrets::KEY_FILE;
use crate::sqlite::Sqlite;
use crate::{BlobStore, Blobs, Keyring, LocalBlobs, StoreError, StoredEvent, workspaces};

/// Hears of what has become durable. Called by the writer, one call at a time and each session's
/// events in sequence order, before the writer's caller is answered: it must be quick, and must not
/// call the store.
pub trait CommitListener: Send + Sync + 'static {
    /// Events were appended.
    fn committed(&self, session: &SessionId, events: &[Arc<StoredEvent>]);
    /// The session was deleted.
    fn deleted(&self, session: &SessionId);
    /// The environment's work queue has an item more to give.
    fn queued(&self, environment: &EnvironmentId);
    /// A token of some work item stopped working.
    fn work_ended(&self);
}

/// Listens to nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoListener;

impl CommitListener for NoListener {
    fn committed(&self, _: &SessionId, _: &[Arc<StoredEvent>]) {}
    fn deleted(&self, _: &SessionId) {}
    fn queued(&self, _: &EnvironmentId) {}
    fn work_ended(&self) {}
}

/// The store. Cheap to clone; every method may be called from any task. A write whose future is
/// dropped after it was queued still happens.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Box<dyn Backend>,
    blobs: Blobs,
    ids: IdSource,
    keys: Keyring,
}

impl Store {
    /// Opens the data directory with the master keys and blobs that are kept in it; see
    /// [`Store::open_with`].
    ///
    /// # Errors
    /// As there, or the key file cannot be used.
    pub fn open(
        dir: &Path,
        ids: IdSource,
        listener: Arc<dyn CommitListener>,
    ) -> Result<Self, StoreError> {
        Self::open_with(dir, ids, listener, None, None)
    }

    /// Opens the data directory, and makes what is missing: the directory, the database, the
    /// organization and its default workspace, without `keys` the file of the master keys, and
    /// without `blobs` a folder for them. No other process can open it until this one closes it or
    /// ends.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; a schema this version cannot use; or the disk fails.
    pub fn open_with(
        dir: &Path,
        ids: IdSource,
        listener: Arc<dyn CommitListener>,
        keys: Option<Keyring>,
        blobs: Option<Box<dyn BlobStore>>,
    ) -> Result<Self, StoreError> {
        let clock = Arc::clone(ids.clock());
        let backend = Sqlite::open(dir, clock, listener, |tx| {
            // The lock is ours, so whoever held leases on this file is dead.
            tx.execute("DELETE FROM replica", &[])?;
            workspaces::seed(tx, &ids)
        })?;
        let blobs = match blobs {
            Some(blobs) => blobs,
            None => Box::new(LocalBlobs::open(&dir.join("blobs"), ids.clone())?),
        };
        let keys = match keys {
            Some(keys) => keys,
            None => Keyring::load_or_create(&dir.join(KEY_FILE), &ids)?,
        };
        Ok(Self::assemble(Box::new(backend), blobs, ids, keys))
    }

    /// A store over other parts. The database must hold an organization already.
    pub fn assemble(
        backend: Box<dyn Backend>,
        blobs: Box<dyn BlobStore>,
        ids: IdSource,
        keys: Keyring,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                backend,
                blobs: Blobs::new(blobs),
                ids,
                keys,
            }),
        }
    }

    /// The bytes of files.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Finishes what is queued and lets go of the data directory. Later calls fail with
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        self.inner.backend.close().await;
    }

    pub(crate) fn ids(&self) -> &IdSource {
        &self.inner.ids
    }

    pub(crate) fn keys(&self) -> &Keyring {
        &self.inner.keys
    }

    pub(crate) async fn scrub(&self) -> Result<(), StoreError> {
        self.inner.backend.scrub().await
    }

    /// Runs `op` in a durable transaction; an `Err` undoes all of it.
    pub(crate) async fn write<T, E, F>(&self, op: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        open_box(
            self.inner
                .backend
                .write(Box::new(move |tx| close_box(op(tx))))
                .await?,
        )
    }

    /// Runs `op` on one snapshot.
    pub(crate) async fn read<T, E, F>(&self, op: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        open_box(
            self.inner
                .backend
                .read(Box::new(move |tx| close_box(op(tx))))
                .await?,
        )
    }
}

fn close_box<T: Send + 'static, E: Send + 'static>(done: Result<T, E>) -> Result<Boxed, Boxed> {
    match done {
        Ok(value) => Ok(Box::new(value)),
        Err(error) => Err(Box::new(error)),
    }
}

fn open_box<T: 'static, E: 'static>(done: Result<Boxed, Boxed>) -> Result<T, E> {
    // `close_box` in the same call put in exactly these types.
    match done {
        Ok(value) => Ok(*value.downcast().expect("an operation's own result type")),
        Err(error) => Err(*error.downcast().expect("an operation's own error type")),
    }
}
