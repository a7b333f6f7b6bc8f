//! API keys; needs an admin key.

use serde_json::{Value, json};

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/freehold/keys`. The answer shows the key, once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_key(
        &self,
        name: &str,
        workspace: Option<&str>,
        admin: bool,
        scope: Option<&str>,
    ) -> Result<Value, ClientError> {
        let mut body = json!({ "name": name, "admin": admin });
        if let Some(workspace) = workspace {
            body["workspace_id"] = workspace.into();
        }
        if let Some(scope) = scope {
            body["scope"] = scope.into();
        }
        self.post(&["v1", "freehold", "keys"], &body).await
    }

    /// `GET /v1/freehold/keys`.
    pub fn keys(&self) -> Pages<Value> {
        Pages::new(self, &["v1", "freehold", "keys"], &[])
    }

    /// `POST /v1/freehold/keys/{id}/revoke`. Takes effect with the next request.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_key(&self, id: &str) -> Result<Value, ClientError> {
        self.act(&["v1", "freehold", "keys", id, "revoke"]).await
    }
}
