//! The work queue of self-hosted environments (contract 50). What a worker calls takes a client whose
//! key is the environment's, or the token of the item; see [`crate::Client::with_key`].

use std::collections::BTreeMap;

use freehold_base::EnvironmentId;
use freehold_wire::work::{Heartbeat, Work, WorkStats};
use reqwest::Method;
use serde_json::json;

use crate::client::Client;
use crate::error::ClientError;
use crate::page::Pages;

/// A poll for work.
#[derive(Debug, Clone, Copy, Default)]
pub struct Poll<'a> {
    /// Tells workers apart in the queue's statistics.
    pub worker_id: Option<&'a str>,
    /// Milliseconds the server waits for an item, 1 to 999; `None` answers at once.
    pub block_ms: Option<u64>,
    /// Items handed out longer ago than this, in milliseconds, and not acknowledged are handed out
    /// again; `None` is the server's 5 seconds.
    pub reclaim_older_than_ms: Option<u64>,
}

impl Client {
    /// `GET …/work/poll`: an item, or `None`. An item is this worker's only once it is acknowledged.
    /// Not repeated: an item whose answer is lost comes again by itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn poll_work(
        &self,
        environment: &EnvironmentId,
        poll: Poll<'_>,
    ) -> Result<Option<Work>, ClientError> {
        let (block, reclaim) = (
            poll.block_ms.map(|n| n.to_string()),
            poll.reclaim_older_than_ms.map(|n| n.to_string()),
        );
        let mut query = Vec::new();
        query.extend(block.as_deref().map(|n| ("block_ms", n)));
        query.extend(reclaim.as_deref().map(|n| ("reclaim_older_than_ms", n)));
        let mut request = self.request(Method::GET, &path(environment, &["poll"]), &query);
        if let Some(worker) = poll.worker_id {
            request = request.header("anthropic-worker-id", worker);
        }
        self.json(self.attempt(request).await?).await
    }

    /// `POST …/work/{id}/ack`: the item is this worker's now.
    ///
    /// # Errors
    /// See [`ClientError`]; 409 if it is somebody else's.
    pub async fn ack_work(
        &self,
        environment: &EnvironmentId,
        work: &str,
    ) -> Result<Work, ClientError> {
        self.act(&path(environment, &[work, "ack"])).await
    }

    /// `POST …/work/{id}/heartbeat`: `expected` is `last_heartbeat` of the answer before, or
    /// [`freehold_wire::work::NO_HEARTBEAT`]. Repeating it is safe: the server knows the same one
    /// again.
    ///
    /// # Errors
    /// See [`ClientError`]; 412 if the lease is somebody else's.
    pub async fn heartbeat_work(
        &self,
        environment: &EnvironmentId,
        work: &str,
        expected: &str,
        desired_ttl_seconds: Option<u64>,
    ) -> Result<Heartbeat, ClientError> {
        let desired = desired_ttl_seconds.map(|n| n.to_string());
        let mut query = vec![("expected_last_heartbeat", expected)];
        query.extend(desired.as_deref().map(|n| ("desired_ttl_seconds", n)));
        self.act_with(&path(environment, &[work, "heartbeat"]), &query)
            .await
    }

    /// `POST …/work/{id}/stop`: asks the item's worker to stop, or with `force` ends it at once.
    ///
    /// # Errors
    /// See [`ClientError`]; 409 if it has stopped already.
    pub async fn stop_work(
        &self,
        environment: &EnvironmentId,
        work: &str,
        force: bool,
    ) -> Result<Work, ClientError> {
        self.post(
            &path(environment, &[work, "stop"]),
            &json!({ "force": force }),
        )
        .await
    }

    /// `GET …/work/{id}`; takes an API key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn work(&self, environment: &EnvironmentId, work: &str) -> Result<Work, ClientError> {
        self.get(&path(environment, &[work]), &[]).await
    }

    /// `POST …/work/{id}`: merges metadata, `None` deletes a key; takes an API key.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn update_work(
        &self,
        environment: &EnvironmentId,
        work: &str,
        metadata: &BTreeMap<String, Option<String>>,
    ) -> Result<Work, ClientError> {
        self.post(
            &path(environment, &[work]),
            &json!({ "metadata": metadata }),
        )
        .await
    }

    /// `GET …/work`, newest first; takes the environment's key, and no API key.
    pub fn work_items(&self, environment: &EnvironmentId) -> Pages<Work> {
        Pages::new(self, &path(environment, &[]), &[("limit", "100")])
    }

    /// `GET …/work/stats`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn work_stats(&self, environment: &EnvironmentId) -> Result<WorkStats, ClientError> {
        self.get(&path(environment, &["stats"]), &[]).await
    }

    /// `GET /v1/freehold/environments/{id}/work`: the same list as [`Client::work_items`]; takes an
    /// admin key.
    pub fn environment_work(&self, environment: &str) -> Pages<Work> {
        Pages::new(
            self,
            &["v1", "freehold", "environments", environment, "work"],
            &[("limit", "100")],
        )
    }
}

fn path<'a>(environment: &'a EnvironmentId, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["v1", "environments", environment.as_str(), "work"];
    path.extend(rest);
    path
}
