//! Environments (contract 20).

use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/environments`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_environment(&self, body: &Value) -> Result<Value, ClientError> {
        self.post(&["v1", "environments"], body).await
    }

    /// `GET /v1/environments/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn environment(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&["v1", "environments", id], &[]).await
    }

    /// `GET /v1/environments`.
    pub fn environments(&self) -> Pages<Value> {
        Pages::new(self, &["v1", "environments"], &[("limit", "100")])
    }
}
