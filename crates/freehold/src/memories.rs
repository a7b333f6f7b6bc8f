//! Memory stores for sandboxes of this process: straight from the store, in the name of a session.

use async_trait::async_trait;
use freehold_base::{IdSource, MemoryId, MemoryStoreId, SessionId, WorkspaceId, chain};
use freehold_store::{
    MemoryChange, MemoryEntry, MemoryQuery, MemoryRemoval, MemoryRow, NewMemory, Store, StoreError,
    WriteMemoryError,
};
use freehold_wire::memory_version::Actor;
use freehold_worker::memory::{Listing, Remote, RemoteError, RemoteMemory};

/// Memories in a page, without their content and with it.
const PAGE: (usize, usize) = (500, 50);

/// A session's view of the stores.
pub(crate) struct SessionMemories {
    pub(crate) store: Store,
    pub(crate) ids: IdSource,
    pub(crate) workspace: WorkspaceId,
    pub(crate) session: SessionId,
}

impl SessionMemories {
    fn actor(&self) -> Actor {
        Actor::SessionActor {
            session_id: self.session.clone(),
        }
    }
}

#[async_trait]
impl Remote for SessionMemories {
    async fn list(
        &self,
        store: &MemoryStoreId,
        content: bool,
        page: Option<&str>,
    ) -> Result<Listing, RemoteError> {
        let limit = if content { PAGE.1 } else { PAGE.0 };
        let query = MemoryQuery {
            prefix: "/".to_owned(),
            folded: false,
            content,
            after: page.map(str::to_owned),
            limit,
        };
        let found = self.store.list_memories(&self.workspace, store, query);
        let mut entries = found.await.map_err(failed)?.ok_or(RemoteError::Gone)?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let memories: Vec<RemoteMemory> = entries
            .into_iter()
            .filter_map(|entry| match entry {
                MemoryEntry::Memory(row) => Some(remote(*row)),
                MemoryEntry::Prefix(_) => None,
            })
            .collect();
        let next = memories.last().filter(|_| more).map(|m| m.path.clone());
        Ok(Listing { memories, next })
    }

    async fn get(&self, store: &MemoryStoreId, id: &MemoryId) -> Result<RemoteMemory, RemoteError> {
        let found = self.store.memory(&self.workspace, store, id).await;
        found.map_err(failed)?.map(remote).ok_or(RemoteError::Gone)
    }

    async fn create(
        &self,
        store: &MemoryStoreId,
        path: &str,
        content: String,
    ) -> Result<String, RemoteError> {
        let new = NewMemory {
            id: self.ids.next(),
            version_id: self.ids.next(),
            path: path.to_owned(),
            content,
            actor: self.actor(),
        };
        let made = self.store.create_memory(&self.workspace, store, new).await;
        made.map(|row| row.sha256).map_err(refused)
    }

    async fn update(
        &self,
        store: &MemoryStoreId,
        id: &MemoryId,
        content: String,
        expected: &str,
    ) -> Result<String, RemoteError> {
        let change = MemoryChange {
            version_id: self.ids.next(),
            path: None,
            content: Some(content),
            expected_sha256: Some(expected.to_owned()),
            actor: self.actor(),
        };
        let changed = self.store.update_memory(&self.workspace, store, id, change);
        changed.await.map(|row| row.sha256).map_err(refused)
    }

    async fn delete(
        &self,
        store: &MemoryStoreId,
        id: &MemoryId,
        expected: &str,
    ) -> Result<(), RemoteError> {
        let removal = MemoryRemoval {
            version_id: self.ids.next(),
            expected_sha256: Some(expected.to_owned()),
            actor: self.actor(),
        };
        let deleted = self
            .store
            .delete_memory(&self.workspace, store, id, removal);
        deleted.await.map_err(refused)
    }
}

fn remote(row: MemoryRow) -> RemoteMemory {
    RemoteMemory {
        id: row.id,
        path: row.path,
        sha256: row.sha256,
        content: row.content,
    }
}

fn failed(error: StoreError) -> RemoteError {
    RemoteError::Failed(chain(&error))
}

fn refused(error: WriteMemoryError) -> RemoteError {
    match error {
        WriteMemoryError::StoreNotFound | WriteMemoryError::NotFound => RemoteError::Gone,
        WriteMemoryError::PathTaken { .. } | WriteMemoryError::Precondition => {
            RemoteError::Conflict
        }
        WriteMemoryError::Archived | WriteMemoryError::Full => {
            RemoteError::Refused(error.to_string())
        }
        WriteMemoryError::Store(error) => failed(error),
    }
}
