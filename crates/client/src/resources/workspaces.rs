//! Workspaces; needs an admin key.

use serde_json::{Value, json};

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/freehold/workspaces`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_workspace(&self, name: &str) -> Result<Value, ClientError> {
        self.post(&["v1", "freehold", "workspaces"], &json!({ "name": name }))
            .await
    }

    /// `GET /v1/freehold/workspaces`.
    pub fn workspaces(&self) -> Pages<Value> {
        Pages::new(self, &["v1", "freehold", "workspaces"], &[])
    }
}
