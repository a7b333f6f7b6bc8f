//! Agents (contract 10).

use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/agents`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_agent(&self, body: &Value) -> Result<Value, ClientError> {
        self.post(&["v1", "agents"], body).await
    }

    /// `GET /v1/agents/{id}`: the latest version.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn agent(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&["v1", "agents", id], &[]).await
    }

    /// `GET /v1/agents`, newest first.
    pub fn agents(&self) -> Pages<Value> {
        Pages::new(self, &["v1", "agents"], &[("limit", "100")])
    }
}
