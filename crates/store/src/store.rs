//! The handle everybody holds.

use std::path::Path;
use std::sync::Arc;

use freehold_base::{EnvironmentId, IdSource, ReplicaId, SessionId, SystemClock};

use crate::backend::{self, Backend, Boxed, Scope, Tx, params};
use crate::data_dir::Seat;
use crate::due::LastLook;
use crate::migrate::MigrationStep;
use crate::postgres::{Address, Postgres, Time};
use crate::secrets::KEY_FILE;
use crate::sqlite::Sqlite;
use crate::together::{Kin, Together};
use crate::{BlobStore, Blobs, Keyring, LocalBlobs, StoreError, StoredEvent, workspaces};

/// Hears of what has become durable, before its writer is answered: it must be quick, and must not
/// call the store. With one writer (SQLite) it is called one call at a time and with each session's
/// events in sequence order; with several it may be called at once, and must be able to deal with a
/// gap, or with news that is old.
pub trait CommitListener: Send + Sync + 'static {
    /// Events were appended.
    fn committed(&self, session: &SessionId, events: &[Arc<StoredEvent>]);
    /// The session was deleted.
    fn deleted(&self, session: &SessionId);
    /// The environment's work queue has an item more to give.
    fn queued(&self, environment: &EnvironmentId);
    /// A token of some work item stopped working.
    fn work_ended(&self);
    /// A key, a tunnel's token or certificate, or a workspace stopped or began to count, here or in
    /// another replica.
    fn access_changed(&self) {}
    /// Another replica appended to the session's log, which ends at `head` now, or (0) changed
    /// something else of it.
    fn moved(&self, _session: &SessionId, _head: i64) {}
    /// The sessions of which [`CommitListener::moved`] is wanted in any case.
    fn watched(&self) -> Vec<SessionId> {
        Vec::new()
    }
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

/// Where a store keeps what it keeps; by default all of it in the data directory.
#[derive(Default)]
pub struct Place {
    /// A PostgreSQL database instead of the SQLite file. Replicas share it, each with a data directory
    /// of its own.
    pub database: Option<Address>,
    /// Master keys instead of those in the data directory. Replicas need the same.
    pub keys: Option<Keyring>,
    /// Where the bytes of files are instead of the data directory. Replicas share it.
    pub blobs: Option<Box<dyn BlobStore>>,
}

/// A replica that was not heard of for this long is forgotten: a week, in milliseconds.
const SILENT_MS: i64 = 7 * 24 * 60 * 60 * 1_000;

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
    seat: Seat,
    last_look: LastLook,
}

impl Store {
    /// Opens the data directory with SQLite, and the master keys and blobs that are kept in it; see
    /// [`Store::open_with`].
    ///
    /// # Errors
    /// As there.
    pub fn open(
        dir: &Path,
        ids: IdSource,
        listener: Arc<dyn CommitListener>,
    ) -> Result<Self, StoreError> {
        Self::open_with(dir, Place::default(), ids, listener)
    }

    /// Opens a store, and makes what is missing: the data directory, the schema, the organization and
    /// its default workspace, without keys the file of the master keys, and without blobs a folder for
    /// them. No other process can open the same data directory until this one closes it or ends.
    /// Blocks: call it where that is no harm.
    ///
    /// # Errors
    /// [`StoreError::InUse`]; a schema this version cannot use; or the database or the disk fails.
    pub fn open_with(
        dir: &Path,
        place: Place,
        ids: IdSource,
        listener: Arc<dyn CommitListener>,
    ) -> Result<Self, StoreError> {
        let (backend, seat): (Box<dyn Backend>, _) = match &place.database {
            Some(address) => {
                let (seat, dead) = Seat::shared(dir, &ids)?;
                let first = |tx: &mut dyn Tx| {
                    // The last process in this directory is dead, and so is who was not heard of for long.
                    let long = tx.now().plus_millis(-SILENT_MS);
                    let sql = "DELETE FROM replica WHERE id = ?1 OR lease_until < ?2";
                    tx.execute(sql, params![dead.as_deref(), long])?;
                    workspaces::seed(tx, &ids)
                };
                let origin = seat.replica.to_string();
                let backend = Postgres::open(address, Time::Database, origin, listener, first)?;
                (Box::new(backend), seat)
            }
            None => {
                let clock = Arc::clone(ids.clock());
                let backend = Sqlite::open(dir, clock, listener, |tx| {
                    // The lock is ours, so whoever held leases on this file is dead.
                    tx.execute("DELETE FROM replica", &[])?;
                    workspaces::seed(tx, &ids)
                })?;
                (Box::new(backend), Seat::alone(&ids))
            }
        };
        let blobs = match place.blobs {
            Some(blobs) => blobs,
            None => Box::new(LocalBlobs::open(&dir.join("blobs"), ids.clone())?),
        };
        let keys = match place.keys {
            Some(keys) => keys,
            None => Keyring::load_or_create(&dir.join(KEY_FILE), &ids)?,
        };
        Ok(Self::seated(backend, blobs, ids, keys, seat))
    }

    /// Opens what is there for reading, beside the servers that use it: makes, locks and migrates
    /// nothing, and every write fails with [`StoreError::ReadOnly`]. Blocks, as
    /// [`Store::open_with`] does.
    ///
    /// # Errors
    /// [`StoreError::SchemaBehind`]; a schema this version cannot use; or the database or the disk
    /// fails.
    pub fn open_reading(dir: &Path, place: Place, ids: IdSource) -> Result<Self, StoreError> {
        let pending = Self::pending_migrations(dir, place.database.as_ref())?.len();
        if pending > 0 {
            return Err(StoreError::SchemaBehind { pending });
        }
        let reading = match &place.database {
            Some(address) => Postgres::reading(address)?,
            None => Sqlite::reading(dir, ids.clock())?,
        };
        let blobs = match place.blobs {
            Some(blobs) => blobs,
            None => Box::new(LocalBlobs::reading(&dir.join("blobs"), ids.clone())),
        };
        let file = dir.join(KEY_FILE);
        let keys = match place.keys {
            Some(keys) => keys,
            None if file.exists() => Keyring::load(&file)?,
            // Nothing can be sealed in this store, and nothing in it be opened without the keys.
            None => Keyring::generate(&ids),
        };
        Ok(Self::assemble(Box::new(reading), blobs, ids, keys))
    }

    /// Brings the schema of a database up to date without opening a store, and makes a new one if there
    /// is none; gives what was done. Replicas that share a database wait meanwhile. Blocks, as
    /// [`Store::open_with`] does.
    ///
    /// # Errors
    /// [`StoreError::InUse`] for a data directory with SQLite; a schema this version cannot use; or
    /// the database or the disk fails.
    pub fn migrate(
        dir: &Path,
        database: Option<&Address>,
    ) -> Result<Vec<MigrationStep>, StoreError> {
        match database {
            Some(address) => Postgres::migrate(address),
            None => Sqlite::migrate(dir, &SystemClock),
        }
    }

    /// What [`Store::migrate`] would do. Locks and changes nothing.
    ///
    /// # Errors
    /// A schema this version cannot use, or the database fails.
    pub fn pending_migrations(
        dir: &Path,
        database: Option<&Address>,
    ) -> Result<Vec<MigrationStep>, StoreError> {
        match database {
            Some(address) => Postgres::pending(address),
            None => Sqlite::pending(dir, &SystemClock),
        }
    }

    /// A store over other parts. The database must hold an organization already.
    pub fn assemble(
        backend: Box<dyn Backend>,
        blobs: Box<dyn BlobStore>,
        ids: IdSource,
        keys: Keyring,
    ) -> Self {
        let seat = Seat::alone(&ids);
        Self::seated(backend, blobs, ids, keys, seat)
    }

    fn seated(
        backend: Box<dyn Backend>,
        blobs: Box<dyn BlobStore>,
        ids: IdSource,
        keys: Keyring,
        seat: Seat,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                backend,
                blobs: Blobs::new(blobs),
                ids,
                keys,
                seat,
                last_look: LastLook::default(),
            }),
        }
    }

    /// The name under which this process holds leases.
    pub fn replica(&self) -> &ReplicaId {
        &self.inner.seat.replica
    }

    /// The bytes of files.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Whether other processes use the same database: then what is remembered here may have changed
    /// there.
    pub fn is_shared(&self) -> bool {
        self.inner.backend.shared()
    }

    /// Finishes what is queued and lets go of the data directory. Later calls fail with
    /// [`StoreError::Closed`].
    pub async fn close(&self) {
        self.inner.backend.close().await;
        self.inner.seat.leave();
    }

    /// Where sandboxes of sessions that are driven here are; `None` where there is but one place.
    pub(crate) fn home(&self) -> Option<String> {
        self.inner.seat.home.clone()
    }

    pub(crate) fn ids(&self) -> &IdSource {
        &self.inner.ids
    }

    pub(crate) fn last_look(&self) -> &LastLook {
        &self.inner.last_look
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
        self.write_scoped(Scope::All, op).await
    }

    /// The same for an operation that keeps to one session, as [`Scope::Session`] says: sessions do
    /// not wait for each other.
    pub(crate) async fn write_session<T, E, F>(&self, session: &SessionId, op: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        self.write_scoped(Scope::Session(session.clone()), op).await
    }

    /// The same for an operation of a single statement, as [`Scope::Single`] says.
    pub(crate) async fn write_single<T, E, F>(&self, op: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        self.write_scoped(Scope::Single, op).await
    }

    async fn write_scoped<T, E, F>(&self, scope: Scope, op: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        let op = backend::op(move |tx| close_box(op(tx)));
        open_box(self.inner.backend.write(scope, op).await?)
    }

    /// Runs one of a kind of operation that can be run together with others of it, and makes it durable.
    pub(crate) async fn write_together<T: Together>(
        &self,
        scope: Scope,
        op: T,
    ) -> Result<T::Done, T::Refusal> {
        open_box(self.inner.backend.write(scope, Box::new(Kin(op))).await?)
    }

    /// Runs `op` on one snapshot.
    pub(crate) async fn read<T, E, F>(&self, op: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        let op = backend::op(move |tx| close_box(op(tx)));
        open_box(self.inner.backend.read(op).await?)
    }

    /// The same for an `op` that reads a few rows by their keys, and may so be run where it is asked for.
    pub(crate) async fn look_up<T, E, F>(&self, op: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T, E> + Send + 'static,
    {
        let op = backend::op(move |tx| close_box(op(tx)));
        open_box(self.inner.backend.look_up(op).await?)
    }
}

pub(crate) fn close_box<T: Send + 'static, E: Send + 'static>(
    done: Result<T, E>,
) -> Result<Boxed, Boxed> {
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
