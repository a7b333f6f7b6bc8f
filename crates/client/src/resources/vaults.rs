//! Vaults (contract 64 §1).

use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/vaults`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_vault(&self, body: &Value) -> Result<Value, ClientError> {
        self.post(&["v1", "vaults"], body).await
    }

    /// `GET /v1/vaults/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn vault(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&["v1", "vaults", id], &[]).await
    }

    /// `GET /v1/vaults`.
    pub fn vaults(&self) -> Pages<Value> {
        Pages::new(self, &["v1", "vaults"], &[("limit", "100")])
    }

    /// `POST /v1/vaults/{id}/archive`: its credentials too, and their secrets are gone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn archive_vault(&self, id: &str) -> Result<Value, ClientError> {
        self.act(&["v1", "vaults", id, "archive"]).await
    }

    /// `DELETE /v1/vaults/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_vault(&self, id: &str) -> Result<Value, ClientError> {
        self.delete(&["v1", "vaults", id]).await
    }
}
