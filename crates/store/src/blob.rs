//! The bytes of files, under keys that begin with the SHA-256 of their content.
//!
//! A blob is put first and referred to by a row afterwards. Between the two a removal that finds no
//! row must not take it away. Two things keep it:
//!
//! - Within this process the blob is *pinned* until its holder has written the row, and
//!   [`BlobStore::remove`] does not take what is pinned.
//! - Other processes know nothing of pins. Where several share a place ([`ObjectBlobs`]), each put
//!   gets a key of its own, and what is unreferenced is collected only when it is older than a day.
//!   See `blob/object.rs` for why no more is needed.
//!
//! So a key is 64 hexadecimal digits, and in a shared place 32 more that are used once
//! (`SHA256-ID`). Either kind can be read and removed in either place: their folders are laid out
//! alike, so that blobs move from one to the other by being copied.

mod error;
mod key;
mod local;
mod object;
mod pin;

use std::future::Future;
use std::pin::Pin;

use async_trait::async_trait;
use freehold_base::Timestamp;
use tokio::io::AsyncRead;

use crate::StoreError;
pub use error::{BlobError, StorageCause};
pub(crate) use key::{hash as content, place, same_content};
pub use local::LocalBlobs;
pub use object::{ObjectBlobs, ObjectStorage};
pub use pin::BlobPin;

/// Stored bytes. Hold it until a row refers to them.
#[derive(Debug)]
pub struct Blob {
    /// What rows refer to it by.
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
    /// [`BlobError::TooLarge`], [`BlobError::Content`], [`BlobError::Io`] or
    /// [`BlobError::Storage`]; nothing is kept then. If it is not known whether the storage kept it,
    /// no row will refer to it, and it goes after a day.
    async fn put<'c>(
        &self,
        content: Box<dyn AsyncRead + Send + Unpin + 'c>,
        limit: u64,
    ) -> Result<Blob, BlobError>;
    /// Stores a blob under the key it has elsewhere, for an import into a place that nobody else uses
    /// yet: in a shared place every other key is used once.
    ///
    /// # Errors
    /// As for [`BlobStore::put`]; [`BlobError::NotFound`] if the content is not the key's.
    async fn put_as<'c>(
        &self,
        key: &str,
        content: Box<dyn AsyncRead + Send + Unpin + 'c>,
    ) -> Result<(), BlobError>;
    /// Opens a blob for reading from its start. Reading fails if it is cut short.
    ///
    /// # Errors
    /// [`BlobError::NotFound`], also for a key that is none; [`BlobError::Io`] or
    /// [`BlobError::Storage`].
    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, BlobError>;
    /// Removes a blob unless it is pinned or `still_used`; gives whether it did. Only
    /// [`crate::Store`] calls this: everybody else deletes rows.
    ///
    /// # Errors
    /// The question failed, or the disk or storage.
    async fn remove(&self, key: &str, still_used: StillUsed<'_>) -> Result<bool, StoreError>;
    /// Keys of blobs last written before a time: the first `limit` in ascending order, of those
    /// `after` a key.
    ///
    /// # Errors
    /// [`BlobError::Io`] or [`BlobError::Storage`].
    async fn older_than(
        &self,
        time: Timestamp,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BlobError>;
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
    /// See [`BlobStore::put`].
    pub async fn put<R: AsyncRead + Send + Unpin>(
        &self,
        content: R,
        limit: u64,
    ) -> Result<Blob, BlobError> {
        self.0.put(Box::new(content), limit).await
    }
    /// Opens a blob for reading from its start. Reading fails if it is cut short.
    ///
    /// # Errors
    /// See [`BlobStore::open`].
    pub async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, BlobError> {
        self.0.open(key).await
    }
    pub(crate) fn place(&self) -> &dyn BlobStore {
        &*self.0
    }
}
