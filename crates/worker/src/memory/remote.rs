//! The store's side.

use async_trait::async_trait;
use freehold_base::{MemoryId, MemoryStoreId};

/// A memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteMemory {
    /// Its id.
    pub id: MemoryId,
    /// Starts with `/`.
    pub path: String,
    /// SHA-256 of the content, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The content, where it was asked for.
    pub content: Option<String>,
}

/// A page of memories.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The memories.
    pub memories: Vec<RemoteMemory>,
    /// Names the next page; `None` on the last.
    pub next: Option<String>,
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The memory, or the store, is gone.
    #[error("it is gone")]
    Gone,
    /// Somebody else was faster.
    #[error("it was changed meanwhile")]
    Conflict,
    /// The same would be refused again.
    #[error("refused: {0}")]
    Refused(String),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
}

/// Memory stores, with the rights of one session.
#[async_trait]
pub trait Remote: Send + Sync {
    /// One page of a store's memories; `content`: with their content.
    async fn list(
        &self,
        store: &MemoryStoreId,
        content: bool,
        page: Option<&str>,
    ) -> Result<Listing, RemoteError>;
    /// One memory with its content.
    async fn get(&self, store: &MemoryStoreId, id: &MemoryId) -> Result<RemoteMemory, RemoteError>;
    /// Makes a memory; gives the hash of its content.
    async fn create(
        &self,
        store: &MemoryStoreId,
        path: &str,
        content: String,
    ) -> Result<String, RemoteError>;
    /// Changes a memory that still has the content of this hash; gives the new one's.
    async fn update(
        &self,
        store: &MemoryStoreId,
        id: &MemoryId,
        content: String,
        expected: &str,
    ) -> Result<String, RemoteError>;
    /// Deletes a memory that still has the content of this hash.
    async fn delete(
        &self,
        store: &MemoryStoreId,
        id: &MemoryId,
        expected: &str,
    ) -> Result<(), RemoteError>;
}
