//! The bytes of files, by the SHA-256 of their content: equal content is stored once.
//!
//! A blob is put first and referred to by a `file` row afterwards. Between the two it is *pinned*:
//! a removal that finds no row must not take it away. [`BlobStore::remove`] therefore asks its
//! question under the same lock that pins.

mod local;

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use freehold_base::Timestamp;
use tokio::io::AsyncRead;

use crate::StoreError;
pub use local::LocalBlobs;

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
}

/// Stored bytes. Hold it until a row refers to them.
#[derive(Debug)]
pub struct Blob {
    /// 64 hex digits.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Keeps the blob from removal while this lives.
    pub pin: BlobPin,
}

/// A question asked under the lock: is the blob still referred to?
pub type StillUsed<'a> = Pin<Box<dyn Future<Output = Result<bool, StoreError>> + Send + 'a>>;

/// Where bytes are kept.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores what `content` gives, durably, at most `limit` bytes.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::Content`] or [`BlobError::Io`]; nothing is kept then.
    async fn put<'c>(
        &self,
        content: Box<dyn AsyncRead + Send + Unpin + 'c>,
        limit: u64,
    ) -> Result<Blob, BlobError>;
    /// Opens a blob for reading from its start.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], also for a key that is none; or [`BlobError::Io`].
    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, BlobError>;
    /// Removes a blob unless it is pinned or `still_used`; gives whether it did. Only
    /// [`crate::Store`] calls this: everybody else deletes rows.
    ///
    /// # Errors
    /// The question failed, or the disk.
    async fn remove(&self, key: &str, still_used: StillUsed<'_>) -> Result<bool, StoreError>;
    /// Blobs last written before a time, and an upper bound of how many are returned.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    async fn older_than(&self, time: Timestamp, limit: usize) -> Result<Vec<String>, BlobError>;
}

/// The bytes of files, as callers of [`crate::Store`] see them.
pub struct Blobs(Box<dyn BlobStore>);

impl Blobs {
    /// Over a place to keep them.
    pub fn new(place: Box<dyn BlobStore>) -> Self {
        Self(place)
    }
    /// Stores what `content` gives, durably, at most `limit` bytes. Hold the result until a row
    /// refers to it; without one the bytes go after a day.
    ///
    /// # Errors
    /// [`BlobError::TooLarge`], [`BlobError::Content`] or [`BlobError::Io`]; nothing is kept then.
    pub async fn put<R: AsyncRead + Send + Unpin>(
        &self,
        content: R,
        limit: u64,
    ) -> Result<Blob, BlobError> {
        self.0.put(Box::new(content), limit).await
    }
    /// Opens a blob for reading from its start.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], also for a key that is none; or [`BlobError::Io`].
    pub async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, BlobError> {
        self.0.open(key).await
    }
    pub(crate) fn place(&self) -> &dyn BlobStore {
        &*self.0
    }
}

/// Counts holders of blobs that may have no row yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<HashMap<String, usize>>>);

/// Keeps one blob from removal while it lives.
#[derive(Debug)]
pub struct BlobPin {
    pins: Pins,
    key: String,
}

impl Pins {
    pub(crate) fn pin(&self, key: &str) -> BlobPin {
        *self.counts().entry(key.to_owned()).or_default() += 1;
        BlobPin {
            pins: self.clone(),
            key: key.to_owned(),
        }
    }
    pub(crate) fn pinned(&self, key: &str) -> bool {
        self.counts().contains_key(key)
    }
    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        // The map is whole between any two statements, so a poisoned lock is still usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BlobPin {
    fn drop(&mut self) {
        let mut counts = self.pins.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}
