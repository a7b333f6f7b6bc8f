//! Memories (contract 74 §2).

use freehold_base::{MemoryId, MemoryStoreId, MemoryVersionId, Timestamp};
use serde::{Deserialize, Serialize};

mod path;
mod request;

pub use path::{check_path, check_prefix};
pub use request::{CreateMemory, UpdateMemory, sha256};

/// Whether answers hold content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// `content` is null.
    Basic,
    /// `content` is there.
    Full,
}

impl View {
    /// Names on the wire.
    pub const NAMES: [(&'static str, Self); 2] = [("basic", Self::Basic), ("full", Self::Full)];
}

/// The constant `memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryTag {
    /// `memory`.
    #[default]
    Memory,
}

/// A memory as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Always `memory`.
    pub r#type: MemoryTag,
    /// `mem_…`; stays when the memory is renamed.
    pub id: MemoryId,
    /// Its store.
    pub memory_store_id: MemoryStoreId,
    /// The version it stands at.
    pub memory_version_id: MemoryVersionId,
    /// See [`check_path`].
    pub path: String,
    /// At most 102,400 bytes; null in the basic view.
    pub content: Option<String>,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits.
    pub content_sha256: String,
    /// Bytes of the content.
    pub content_size_bytes: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When path or content last changed.
    pub updated_at: Timestamp,
}

/// What a list of memories holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)] // Each carries its own `type`.
pub enum MemoryItem {
    /// A memory.
    Memory(Box<Memory>),
    /// A folder, in place of the memories below it.
    Prefix(MemoryPrefix),
}

/// The constant `memory_prefix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryPrefixTag {
    /// `memory_prefix`.
    #[default]
    MemoryPrefix,
}

/// Memories deeper than a list goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPrefix {
    /// Always `memory_prefix`.
    pub r#type: MemoryPrefixTag,
    /// Ends in `/`.
    pub path: String,
}
