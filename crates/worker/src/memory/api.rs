//! Memory stores behind the API, for workers on other hosts.

use async_trait::async_trait;
use freehold_base::{MemoryId, MemoryStoreId};
use freehold_client::{Client, ClientError};
use freehold_wire::memory::{Memory, MemoryItem};

use super::{Listing, Remote, RemoteError, RemoteMemory};

/// The stores of a session; the client must carry the session token of a work item, which memory
/// endpoints demand.
pub struct ApiMemory(pub Client);

#[async_trait]
impl Remote for ApiMemory {
    async fn list(
        &self,
        store: &MemoryStoreId,
        content: bool,
        page: Option<&str>,
    ) -> Result<Listing, RemoteError> {
        let page = self.0.memories(store.as_str(), content, page).await;
        let page = page.map_err(classify)?;
        let memories = page.data.into_iter().filter_map(|item| match item {
            MemoryItem::Memory(memory) => Some(remote(*memory)),
            MemoryItem::Prefix(_) => None,
        });
        Ok(Listing {
            memories: memories.collect(),
            next: page.next_page.filter(|cursor| !cursor.is_empty()),
        })
    }

    async fn get(&self, store: &MemoryStoreId, id: &MemoryId) -> Result<RemoteMemory, RemoteError> {
        let found = self.0.memory(store.as_str(), id.as_str()).await;
        found.map(remote).map_err(classify)
    }

    async fn create(
        &self,
        store: &MemoryStoreId,
        path: &str,
        content: String,
    ) -> Result<String, RemoteError> {
        let made = self.0.create_memory(store.as_str(), path, &content).await;
        made.map(|m| m.content_sha256).map_err(classify)
    }

    async fn update(
        &self,
        store: &MemoryStoreId,
        id: &MemoryId,
        content: String,
        expected: &str,
    ) -> Result<String, RemoteError> {
        let (store, id) = (store.as_str(), id.as_str());
        let changed = self.0.update_memory(store, id, &content, expected).await;
        changed.map(|m| m.content_sha256).map_err(classify)
    }

    async fn delete(
        &self,
        store: &MemoryStoreId,
        id: &MemoryId,
        expected: &str,
    ) -> Result<(), RemoteError> {
        let (store, id) = (store.as_str(), id.as_str());
        self.0
            .delete_memory(store, id, expected)
            .await
            .map_err(classify)
    }
}

fn remote(memory: Memory) -> RemoteMemory {
    RemoteMemory {
        id: memory.id,
        path: memory.path,
        sha256: memory.content_sha256,
        content: memory.content,
    }
}

/// By status alone (contract 55 §14).
fn classify(error: ClientError) -> RemoteError {
    match error.status() {
        Some(404) => RemoteError::Gone,
        Some(409 | 412) => RemoteError::Conflict,
        Some(400 | 413) => RemoteError::Refused(error.to_string()),
        _ => RemoteError::Failed(error.to_string()),
    }
}
