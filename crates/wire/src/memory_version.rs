//! Versions of memories (contract 74 §3).

use freehold_base::{ApiKeyId, MemoryId, MemoryStoreId, MemoryVersionId, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// The constant `memory_version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryVersionTag {
    /// `memory_version`.
    #[default]
    MemoryVersion,
}

/// What a version records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The memory came to be.
    Created,
    /// Its path or content changed.
    Modified,
    /// It is gone.
    Deleted,
}

impl Operation {
    /// Names on the wire.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("created", Self::Created),
        ("modified", Self::Modified),
        ("deleted", Self::Deleted),
    ];
    /// Its name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
        }
    }
}

/// Who wrote or redacted a version. This server has neither users nor service accounts, so it
/// writes the first two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Actor {
    /// An agent in a session.
    SessionActor {
        /// `sesn_…`.
        session_id: SessionId,
    },
    /// An API key.
    ApiActor {
        /// `apikey_…`.
        api_key_id: ApiKeyId,
    },
    /// A person.
    UserActor {
        /// Their id.
        user_id: String,
    },
    /// A service account.
    ServiceAccountActor {
        /// `svac_…`.
        service_account_id: String,
    },
}

/// A version as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryVersion {
    /// Always `memory_version`.
    pub r#type: MemoryVersionTag,
    /// `memver_…`.
    pub id: MemoryVersionId,
    /// Its store.
    pub memory_store_id: MemoryStoreId,
    /// Its memory, which may be gone.
    pub memory_id: MemoryId,
    /// What it records.
    pub operation: Operation,
    /// Null when redacted.
    pub path: Option<String>,
    /// Null in the basic view, when deleted and when redacted.
    pub content: Option<String>,
    /// Null when deleted or redacted.
    pub content_sha256: Option<String>,
    /// Null when deleted or redacted.
    pub content_size_bytes: Option<u64>,
    /// When.
    pub created_at: Timestamp,
    /// By whom. Left out where nobody is known: the TypeScript types do not allow null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<Actor>,
    /// When it was redacted.
    pub redacted_at: Option<Timestamp>,
    /// By whom. Left out before, as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_by: Option<Actor>,
}
