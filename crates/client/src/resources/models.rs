//! Models (contract 82) and what the server can do.

use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;

impl Client {
    /// `GET /v1/models`: the first thousand, newest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn models(&self) -> Result<Vec<Value>, ClientError> {
        let page: crate::Page<Value> = self.get(&["v1", "models"], &[("limit", "1000")]).await?;
        Ok(page.data)
    }

    /// `GET /v1/freehold/status`: version, sandbox, web search, session counts. Needs an admin key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Value, ClientError> {
        self.get(&["v1", "freehold", "status"], &[]).await
    }
}
