//! The work queue of a self-hosted environment (contract 50), as its workers see it.

use freehold_wire::work::{Heartbeat, Work};
use reqwest::{Method, header};
use serde_json::json;

use crate::client::Client;
use crate::error::ClientError;

/// How to ask for work.
#[derive(Debug, Clone, Copy)]
pub struct Poll<'a> {
    /// `Anthropic-Worker-ID`.
    pub worker: &'a str,
    /// How long the server may wait for an item, 1 to 999 ms.
    pub block_ms: u32,
}

impl Client {
    /// `GET /v1/environments/{id}/work/poll`; `None` if there is nothing to do. Not repeated: an
    /// item whose answer was lost is handed out again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn poll_work(
        &self,
        environment: &str,
        poll: Poll<'_>,
    ) -> Result<Option<Work>, ClientError> {
        let block = poll.block_ms.to_string();
        let response = self
            .send(false, || {
                self.request(
                    Method::GET,
                    &["v1", "environments", environment, "work", "poll"],
                    &[("block_ms", &block)],
                )
                .header("anthropic-worker-id", poll.worker)
            })
            .await?;
        self.json(response).await
    }

    /// `POST …/ack`: takes the item out of the queue.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ack_work(&self, environment: &str, work: &str) -> Result<Work, ClientError> {
        self.act(&["v1", "environments", environment, "work", work, "ack"])
            .await
    }

    /// `POST …/heartbeat`. `expected` is [`freehold_wire::work::NO_HEARTBEAT`] or the last value
    /// the server gave, byte for byte.
    ///
    /// # Errors
    /// See [`ClientError`]; 412 if the lease belongs to someone else.
    pub async fn heartbeat(
        &self,
        environment: &str,
        work: &str,
        expected: &str,
    ) -> Result<Heartbeat, ClientError> {
        let path = ["v1", "environments", environment, "work", work, "heartbeat"];
        let response = self
            .send(true, || {
                self.request(
                    Method::POST,
                    &path,
                    &[("expected_last_heartbeat", expected)],
                )
                .header(header::CONTENT_LENGTH, "0")
            })
            .await?;
        self.json(response).await
    }

    /// `POST …/stop`. 409 if it has stopped already.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stop_work(
        &self,
        environment: &str,
        work: &str,
        force: bool,
    ) -> Result<Work, ClientError> {
        self.post(
            &["v1", "environments", environment, "work", work, "stop"],
            &json!({ "force": force }),
        )
        .await
    }
}
