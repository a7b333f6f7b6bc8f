//! Credentials of vaults (contract 64 §2).

use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/vaults/{id}/credentials`. The body holds a secret.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_credential(&self, vault: &str, body: &Value) -> Result<Value, ClientError> {
        self.post(&["v1", "vaults", vault, "credentials"], body)
            .await
    }

    /// `GET /v1/vaults/{id}/credentials/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn credential(&self, vault: &str, id: &str) -> Result<Value, ClientError> {
        self.get(&["v1", "vaults", vault, "credentials", id], &[])
            .await
    }

    /// `GET /v1/vaults/{id}/credentials`.
    pub fn credentials(&self, vault: &str) -> Pages<Value> {
        Pages::new(
            self,
            &["v1", "vaults", vault, "credentials"],
            &[("limit", "100")],
        )
    }

    /// `POST /v1/vaults/{id}/credentials/{id}/archive`: its secrets are gone.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn archive_credential(&self, vault: &str, id: &str) -> Result<Value, ClientError> {
        self.act(&["v1", "vaults", vault, "credentials", id, "archive"])
            .await
    }

    /// `DELETE /v1/vaults/{id}/credentials/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_credential(&self, vault: &str, id: &str) -> Result<Value, ClientError> {
        self.delete(&["v1", "vaults", vault, "credentials", id])
            .await
    }
}
