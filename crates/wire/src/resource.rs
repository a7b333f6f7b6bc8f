//! Resources of a session as shown (contract 30, "Resource objects"; contract 72 §5).

use freehold_base::{FileId, MemoryStoreId, SessionResourceId, Timestamp};
use serde::{Deserialize, Serialize};

mod mount;
mod request;

pub use mount::{MEMORY, Mounts, UPLOADS, memory_mounts, normalise};
pub use request::{
    AddResource, FileParam, MemoryStoreParam, RepositoryParam, ResourceParam, UpdateResource,
    resources,
};

/// What to check out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Checkout {
    /// A branch's head.
    Branch {
        /// Its name.
        name: String,
    },
    /// A commit.
    Commit {
        /// 40 hexadecimal digits.
        sha: String,
    },
}

/// Access to a memory store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// The default.
    ReadWrite,
    /// Mounted read-only.
    ReadOnly,
}

/// A resource as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Resource {
    /// A file.
    File(FileResource),
    /// A repository.
    GithubRepository(RepositoryResource),
    /// A memory store.
    MemoryStore(MemoryStoreResource),
}

/// A file of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileResource {
    /// `sesrsc_…`.
    pub id: SessionResourceId,
    /// The session's own copy, not the uploaded file.
    pub file_id: FileId,
    /// Absolute, under [`UPLOADS`].
    pub mount_path: String,
    /// When it was attached.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A repository of a session; the token is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryResource {
    /// `sesrsc_…`.
    pub id: SessionResourceId,
    /// Its URL.
    pub url: String,
    /// Absolute, under `/workspace`.
    pub mount_path: String,
    /// What is checked out; null is the default branch.
    pub checkout: Option<Checkout>,
    /// When it was attached.
    pub created_at: Timestamp,
    /// When its token was last changed.
    pub updated_at: Timestamp,
}

/// A memory store of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStoreResource {
    /// `memstore_…`.
    pub memory_store_id: MemoryStoreId,
    /// Access.
    pub access: Access,
    /// Guidance.
    pub instructions: Option<String>,
    /// Name at the time it was attached.
    pub name: Option<String>,
    /// Description at that time; empty when there was none.
    pub description: String,
    /// Where it is mounted.
    pub mount_path: Option<String>,
}
