//! What can go wrong below the nouns.

use std::path::PathBuf;
use std::sync::Arc;

/// A failure of the store itself, as opposed to a refusal of one operation.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the data directory open.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
    },
    /// A later version of this program wrote the database.
    #[error(
        "the database has schema {found}, this version knows up to {known}: run the newer version"
    )]
    SchemaNewer {
        /// Schema number found.
        found: i64,
        /// Newest schema number this program has.
        known: i64,
    },
    /// A migration was applied in another form than this program has it.
    #[error("schema {version} of the database is not the one this version made")]
    SchemaAltered {
        /// The migration's number.
        version: i64,
    },
    /// The database was made by an earlier version of this program, and only reading it was asked for.
    #[error("the database's schema is {pending} steps behind: run `freehold migrate`")]
    SchemaBehind {
        /// Steps to be done.
        pending: usize,
    },
    /// An import into the database has begun and not ended.
    #[error("an import into this database did not finish: empty it, and import again")]
    ImportUnfinished,
    /// A store that was opened for reading was asked to write.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// A file of the data directory could not be used.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database refused or failed a statement.
    #[error("the database failed")]
    Database(#[source] DatabaseFailure),
    /// The database could not be reached, or ended the connection, for longer than the store waits
    /// for it. Nothing was kept.
    #[error("the database is not available")]
    Connection(#[source] DatabaseFailure),
    /// A value that must be unique exists already.
    #[error("a unique value exists already")]
    Unique(#[source] DatabaseFailure),
    /// A stored value is not what its column holds: a fault of ours, or of whoever edited the file.
    #[error("stored {what} is unreadable")]
    Corrupt {
        /// Which value.
        what: &'static str,
    },
    /// Bytes of a file could not be stored or removed.
    #[error("the blob store failed")]
    Blob(#[from] crate::BlobError),
    /// The master keys of secrets cannot be used.
    #[error("the master keys cannot be used")]
    Keys(#[from] crate::KeyringError),
    /// The operation panicked; nothing of it was kept.
    #[error("the operation panicked")]
    Panicked,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// The database engine's own error. Shared, because one failed commit fails a whole group.
#[derive(Debug, Clone)]
pub struct DatabaseFailure(Arc<dyn std::error::Error + Send + Sync>);

impl DatabaseFailure {
    /// Wraps an engine's error.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }
}

impl std::fmt::Display for DatabaseFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for DatabaseFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
