//! Skills and memory stores of a session, shown in its sandbox.

use freehold_client::Client;
use serde_json::Value;

use super::runner::AfterCall;

/// Why a session cannot be served with what it was promised.
#[derive(Debug, thiserror::Error)]
pub enum MountsError {
    /// The endpoints of memory stores refuse environment keys.
    #[error("the session has memory stores, and the item has no token that opens them")]
    NoToken,
}

/// What a session's sandbox shows beside its workspace.
pub(super) struct Mounts {}

impl Mounts {
    /// Fetches what the session names.
    pub(super) async fn fetch(
        _client: &Client,
        session: &Value,
        has_token: bool,
    ) -> Result<Self, MountsError> {
        let resources = session["resources"].as_array().into_iter().flatten();
        let stores = resources.filter(|resource| resource["type"] == "memory_store");
        if stores.count() > 0 && !has_token {
            return Err(MountsError::NoToken);
        }
        Ok(Self {})
    }

    /// Brings everything in step for the last time; `clean` if the session came to rest.
    pub(super) async fn finish(&self, _clean: bool) {}
}

#[async_trait::async_trait]
impl AfterCall for Mounts {
    async fn after_call(&self) {}
}
