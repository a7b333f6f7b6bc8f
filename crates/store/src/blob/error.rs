//! What can go wrong with blobs.

use std::path::PathBuf;

/// Why bytes were not stored or read.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// More than the caller allowed.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The caller's limit.
        limit: u64,
    },
    /// There is no such blob.
    #[error("no such blob")]
    NotFound,
    /// The content could not be read from where it came.
    #[error("cannot read the content")]
    Content(#[source] std::io::Error),
    /// The disk failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The object storage failed.
    #[error("the object storage cannot {action}")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: StorageCause,
    },
}

/// Why the object storage failed. Nothing of what was sent, and of what it answered only the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageCause {
    /// No connection came about.
    #[error("the endpoint cannot be reached ({reason})")]
    Unreachable {
        /// What the network said.
        reason: String,
    },
    /// It was too slow.
    #[error("it did not answer in time")]
    TimedOut,
    /// A connection broke off, and again when it was tried anew.
    #[error("the connection broke off ({reason})")]
    Interrupted {
        /// What the network said.
        reason: String,
    },
    /// The bucket is not there.
    #[error("the bucket does not exist")]
    NoBucket,
    /// The credentials are wrong, or may not do this.
    #[error("access is refused ({code})")]
    Refused {
        /// The storage's word for it.
        code: String,
    },
    /// It sends elsewhere.
    #[error("it redirects to another endpoint: the region is likely wrong")]
    Redirected,
    /// Another failure of its own.
    #[error("it answered {status} ({code})")]
    Answered {
        /// HTTP status.
        status: u16,
        /// The storage's word for it.
        code: String,
    },
    /// The stored bytes are not those that were put.
    #[error("the stored bytes are not those that were put")]
    Damaged,
    /// The settings cannot be used.
    #[error("{reason}")]
    Settings {
        /// What is wrong with them.
        reason: String,
    },
    /// An answer that is none.
    #[error("it answered what is not understood")]
    NotUnderstood,
}
