//! Files (contract 72).

use bytes::Bytes;
use reqwest::Response;
use serde_json::Value;

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

/// A file's content, read piece by piece.
pub struct Download {
    client: Client,
    response: Response,
}

impl Download {
    pub(super) fn new(client: &Client, response: Response) -> Self {
        Self {
            client: client.clone(),
            response,
        }
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        self.client.chunk(&mut self.response).await
    }
}

impl Client {
    /// `GET /v1/files?scope_id=…`: what a session was given and what it wrote.
    pub fn session_files(&self, session: &str) -> Pages<Value> {
        Pages::new(
            self,
            &["v1", "files"],
            &[("scope_id", session), ("limit", "1000")],
        )
    }

    /// `GET /v1/files/{id}/content`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn file_content(&self, id: &str) -> Result<Download, ClientError> {
        let response = self.download(&["v1", "files", id, "content"]).await?;
        Ok(Download::new(self, response))
    }
}
