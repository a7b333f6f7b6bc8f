//! Environment keys; needs an admin key.

use serde_json::{Value, json};

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

impl Client {
    /// `POST /v1/freehold/environments/{id}/keys`. The answer shows the key, once.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn create_environment_key(
        &self,
        environment: &str,
        name: &str,
    ) -> Result<Value, ClientError> {
        self.post(
            &["v1", "freehold", "environments", environment, "keys"],
            &json!({ "name": name }),
        )
        .await
    }

    /// `GET /v1/freehold/environments/{id}/keys`.
    pub fn environment_keys(&self, environment: &str) -> Pages<Value> {
        Pages::new(
            self,
            &["v1", "freehold", "environments", environment, "keys"],
            &[],
        )
    }

    /// `POST /v1/freehold/environments/{id}/keys/{key}/revoke`. Takes effect with the next request.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn revoke_environment_key(
        &self,
        environment: &str,
        key: &str,
    ) -> Result<Value, ClientError> {
        self.act(&[
            "v1",
            "freehold",
            "environments",
            environment,
            "keys",
            key,
            "revoke",
        ])
        .await
    }
}
