//! Memory stores and memories (contract 74).

use freehold_wire::memory::{Memory, MemoryItem};
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::ClientError;
use crate::page::{Page, Pages};

impl Client {
    /// `POST /v1/memory_stores`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_memory_store(&self, body: &Value) -> Result<Value, ClientError> {
        self.post(&["v1", "memory_stores"], body).await
    }

    /// `GET /v1/memory_stores/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn memory_store(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&["v1", "memory_stores", id], &[]).await
    }

    /// `GET /v1/memory_stores`, newest first.
    pub fn memory_stores(&self) -> Pages<Value> {
        Pages::new(self, &["v1", "memory_stores"], &[("limit", "100")])
    }

    /// `GET /v1/memory_stores/{id}/memories`: one page, as large as may be; `content`: with the
    /// content.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn memories(
        &self,
        store: &str,
        content: bool,
        page: Option<&str>,
    ) -> Result<Page<MemoryItem>, ClientError> {
        let mut query = if content {
            vec![("view", "full"), ("limit", "20")]
        } else {
            vec![("view", "basic"), ("limit", "100")]
        };
        query.extend(page.map(|page| ("page", page)));
        self.get(&["v1", "memory_stores", store, "memories"], &query)
            .await
    }

    /// `GET /v1/memory_stores/{id}/memories/{id}`, with the content.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn memory(&self, store: &str, id: &str) -> Result<Memory, ClientError> {
        self.get(&["v1", "memory_stores", store, "memories", id], &[])
            .await
    }

    /// `POST /v1/memory_stores/{id}/memories`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_memory(
        &self,
        store: &str,
        path: &str,
        content: &str,
    ) -> Result<Memory, ClientError> {
        let body = json!({ "path": path, "content": content });
        self.post(&["v1", "memory_stores", store, "memories"], &body)
            .await
    }

    /// `POST /v1/memory_stores/{id}/memories/{id}`: new content, if the old one still has this hash.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn update_memory(
        &self,
        store: &str,
        id: &str,
        content: &str,
        expected_sha256: &str,
    ) -> Result<Memory, ClientError> {
        let precondition = json!({ "type": "content_sha256", "content_sha256": expected_sha256 });
        let body = json!({ "content": content, "precondition": precondition });
        self.post(&["v1", "memory_stores", store, "memories", id], &body)
            .await
    }

    /// `DELETE /v1/memory_stores/{id}/memories/{id}`, if the content still has this hash.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_memory(
        &self,
        store: &str,
        id: &str,
        expected_sha256: &str,
    ) -> Result<(), ClientError> {
        let path = ["v1", "memory_stores", store, "memories", id];
        let query = [("expected_content_sha256", expected_sha256)];
        let _: Value = self.delete_with(&path, &query).await?;
        Ok(())
    }
}
