//! MCP tunnels (contract 60 §1); needs an admin key or a key with the scope `tunnels`.

use serde_json::{Value, json};

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/tunnels`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_tunnel(&self, display_name: Option<&str>) -> Result<Value, ClientError> {
        let body = json!({ "display_name": display_name });
        self.post(&["v1", "tunnels"], &body).await
    }

    /// `GET /v1/tunnels/{id}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tunnel(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&["v1", "tunnels", id], &[]).await
    }

    /// `GET /v1/tunnels`.
    pub fn tunnels(&self, archived: bool) -> Pages<Value> {
        Pages::new(self, &["v1", "tunnels"], &page(archived))
    }

    /// `POST /v1/tunnels/{id}/archive`: its certificates too; its token works no more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn archive_tunnel(&self, id: &str) -> Result<Value, ClientError> {
        self.act(&["v1", "tunnels", id, "archive"]).await
    }

    /// `POST /v1/tunnels/{id}/reveal_token`. The answer holds a secret.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reveal_tunnel_token(&self, id: &str) -> Result<Value, ClientError> {
        self.act(&["v1", "tunnels", id, "reveal_token"]).await
    }

    /// `POST /v1/tunnels/{id}/rotate_token`. The answer holds a secret; the old token is refused from
    /// now on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rotate_tunnel_token(
        &self,
        id: &str,
        reason: Option<&str>,
    ) -> Result<Value, ClientError> {
        let body = json!({ "reason": reason });
        self.post(&["v1", "tunnels", id, "rotate_token"], &body)
            .await
    }

    /// `GET /v1/tunnels/{id}/connections`.
    pub fn tunnel_connections(&self, id: &str) -> Pages<Value> {
        Pages::new(self, &["v1", "tunnels", id, "connections"], &[])
    }

    /// `POST /v1/tunnels/{id}/certificates`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_tunnel_certificate(&self, id: &str, pem: &str) -> Result<Value, ClientError> {
        let body = json!({ "ca_certificate_pem": pem });
        self.post(&["v1", "tunnels", id, "certificates"], &body)
            .await
    }

    /// `GET /v1/tunnels/{id}/certificates`.
    pub fn tunnel_certificates(&self, id: &str, archived: bool) -> Pages<Value> {
        let path = ["v1", "tunnels", id, "certificates"];
        Pages::new(self, &path, &page(archived))
    }

    /// `POST /v1/tunnels/{id}/certificates/{certificate}/archive`: it is not trusted any more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn archive_tunnel_certificate(
        &self,
        id: &str,
        certificate: &str,
    ) -> Result<Value, ClientError> {
        let path = ["v1", "tunnels", id, "certificates", certificate, "archive"];
        self.act(&path).await
    }
}

fn page(archived: bool) -> [(&'static str, &'static str); 2] {
    let archived = if archived { "true" } else { "false" };
    [("limit", "100"), ("include_archived", archived)]
}
