//! What keeps the files of sandboxes where other server processes find them.

use std::io;

use async_trait::async_trait;
use freehold_base::{SessionId, SharedClock, Timestamp};
use freehold_sandbox::Snapshot;
use tokio::io::AsyncRead;

/// Keeps snapshots where every process finds them, and knows which directory holds a session's files.
#[async_trait]
pub trait Keeper: Send + Sync + 'static {
    /// Takes a session's files up, or makes sure that they are still those of the generation `known`;
    /// with `changing` it counts a change, unless the generation is another.
    ///
    /// # Errors
    /// Another process has the session, or nobody can say.
    async fn enter(
        &self,
        session: &SessionId,
        known: Option<i64>,
        changing: bool,
    ) -> io::Result<Entered>;
    /// Keeps a snapshot that holds what the first `changes` changes did, and forgets the one before.
    /// False if somebody else has taken the files up.
    ///
    /// # Errors
    /// It could not be kept.
    async fn save(&self, session: &SessionId, save: Save<'_>) -> io::Result<bool>;
    /// Opens a snapshot's archive.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>>;
    /// The clock by which snapshots are dated.
    fn clock(&self) -> &SharedClock;
}

/// Where a session's files stand.
#[derive(Debug, Clone)]
pub struct Entered {
    /// What the directory is to remember.
    pub generation: i64,
    /// How many changes there were.
    pub changes: i64,
    /// Whether some are not in the snapshot.
    pub unsaved: bool,
    /// The last snapshot.
    pub saved: Option<Saved>,
    /// Nobody had files of the session before.
    pub first: bool,
}

/// A snapshot that is kept.
#[derive(Debug, Clone)]
pub struct Saved {
    /// SHA-256 of the archive.
    pub digest: String,
    /// What it is found by.
    pub key: String,
    /// Bytes.
    pub bytes: u64,
    /// When it was taken.
    pub at: Timestamp,
}

/// A snapshot to be kept.
#[derive(Debug, Clone, Copy)]
pub struct Save<'a> {
    /// Of these files.
    pub generation: i64,
    /// Changes that are in it.
    pub changes: i64,
    /// The archive.
    pub snapshot: &'a Snapshot,
    /// When it was taken.
    pub at: Timestamp,
}
