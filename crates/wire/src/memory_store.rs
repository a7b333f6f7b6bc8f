//! Memory stores (contract 74 §1).

use freehold_base::limits::{MAX_MEMORY_STORE_DESCRIPTION, MAX_MEMORY_STORE_NAME};
use freehold_base::{MemoryStoreId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ApiError;
use crate::agent::Metadata;
use crate::decode::{At, Decode, Object, text};
use crate::metadata::{self, MetadataPatch};
use crate::request::Request;

/// The constant `memory_store`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryStoreTag {
    /// `memory_store`.
    #[default]
    MemoryStore,
}

/// A memory store as shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryStore {
    /// Always `memory_store`.
    pub r#type: MemoryStoreTag,
    /// `memstore_…`.
    pub id: MemoryStoreId,
    /// 1 to 255 characters; not unique.
    pub name: String,
    /// What the store holds; empty when nobody said.
    pub description: String,
    /// Metadata.
    pub metadata: Metadata,
    /// When it was created.
    pub created_at: Timestamp,
    /// When name, description, metadata or archival last changed; memories do not count.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// `POST /v1/memory_stores`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateMemoryStore {
    name: String,
    description: String,
    metadata: Metadata,
}

impl Request for CreateMemoryStore {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            name: o.required("name", name)?,
            description: o.optional("description", description)?.unwrap_or_default(),
            metadata: o.optional("metadata", metadata::bag)?.unwrap_or_default(),
        };
        o.finish()?;
        Ok(request)
    }
}

impl CreateMemoryStore {
    /// The store asked for.
    pub fn into_store(self, id: MemoryStoreId, now: Timestamp) -> MemoryStore {
        MemoryStore {
            r#type: MemoryStoreTag::MemoryStore,
            id,
            name: self.name,
            description: self.description,
            metadata: self.metadata,
            created_at: now,
            updated_at: now,
            archived_at: None,
        }
    }
}

/// `POST /v1/memory_stores/{id}`: what is null or left out keeps its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMemoryStore {
    name: Option<String>,
    description: Option<String>,
    metadata: Option<MetadataPatch>,
}

impl Request for UpdateMemoryStore {
    fn decode(value: Value, at: &At<'_>) -> Decode<Self> {
        let mut o = Object::new(value, at)?;
        let request = Self {
            name: o.optional("name", name)?,
            description: o.optional("description", description)?,
            metadata: o.optional("metadata", metadata::patch)?,
        };
        o.finish()?;
        Ok(request)
    }
}

impl UpdateMemoryStore {
    /// The stored one with this change, or `None` when nothing would change.
    ///
    /// # Errors
    /// The store is archived, or the metadata would break a limit.
    pub fn resolve(self, stored: &MemoryStore) -> Decode<Option<MemoryStore>> {
        if stored.archived_at.is_some() {
            return Err(archived(&stored.id));
        }
        let mut after = stored.clone();
        if let Some(name) = self.name {
            after.name = name;
        }
        if let Some(description) = self.description {
            after.description = description;
        }
        if let Some(patch) = &self.metadata {
            after.metadata = patch.apply(&stored.metadata)?;
        }
        Ok((after != *stored).then_some(after))
    }
}

/// The refusal of a change to an archived store.
pub fn archived(id: &MemoryStoreId) -> ApiError {
    ApiError::invalid(format!(
        "Memory store `{id}` is archived: it can be read and deleted, but not changed."
    ))
    .with_code("memory_store_archived")
}

fn name(value: Value, at: &At<'_>) -> Decode<String> {
    let name = text(1, MAX_MEMORY_STORE_NAME)(value, at)?;
    if name.chars().any(char::is_control) {
        return Err(at.error("String should not contain control characters"));
    }
    Ok(name)
}

fn description(value: Value, at: &At<'_>) -> Decode<String> {
    text(0, MAX_MEMORY_STORE_DESCRIPTION)(value, at)
}
