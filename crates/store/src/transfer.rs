//! Moving everything a store holds to another, of whatever engine: one file that [`export()`] writes and
//! [`import()`] reads. Both go over the tables that the schema has, and hold a few rows at a time.
//!
//! The file is JSON, a value a line, compressed with zstd (`docs/backup.md`):
//!
//! - the first line is an object that says what it is: `{"freehold":"export","format":1,"schema":…}`
//! - `{"table":…,"columns":[…]}` begins a table; its rows follow, each an array. Bytes are
//!   `{"base64":…}`
//! - `{"blob":KEY}` begins a blob; its content follows, in strings of base64
//! - `{"end":{…}}` counts what was before it, and has the SHA-256 of all lines before it

mod export;
mod import;
mod line;

pub use export::export;
pub use import::import;

use crate::{BlobError, StoreError};

/// Rows read or written together.
const ROWS: usize = 50;
/// Tables that are not moved: who lives, and what the migrations say of themselves.
const STAYS: [&str; 3] = ["poller", "replica", "schema_migration"];

/// What was moved, or has been by now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows, of all tables.
    pub rows: u64,
    /// Blobs.
    pub blobs: u64,
    /// Bytes of blobs.
    pub bytes: u64,
}

/// Hears of progress: what is moved at present, and how much was.
pub type Progress<'p> = &'p mut (dyn FnMut(&str, Moved) + Send);

/// Why nothing, or not everything, was moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A server uses the database.
    #[error("a server uses the database")]
    InUse,
    /// The store that is to be filled has something in it.
    #[error("the store is not empty: there are rows in `{table}`")]
    NotEmpty {
        /// The first table with rows.
        table: String,
    },
    /// The file is of another schema.
    #[error("the export is of schema {found}, this version has {known}")]
    Schema {
        /// The export's.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Secrets are sealed under master keys that the target does not have.
    #[error("secrets in the export need master keys that are not here: {}", missing.join(", "))]
    Keys {
        /// Their ids.
        missing: Vec<String>,
    },
    /// The file is not an export, cut short, or changed.
    #[error("the export is damaged in line {line}: {what}")]
    Damaged {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A blob could not be read or written.
    #[error("the blob {key} could not be moved")]
    Blob {
        /// Its key.
        key: String,
        /// Why not.
        source: BlobError,
    },
    /// The file could not be read or written.
    #[error("the file cannot be used")]
    File(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
