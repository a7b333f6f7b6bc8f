//! The interface every provider has.

use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::value::RawValue;

use crate::accumulate::Accumulator;
use crate::{ModelError, ModelRequest};

/// One event of a Messages stream (contract 82 §4).
#[derive(Debug, Clone)]
pub struct StreamEvent {
    /// `message_start`, `content_block_delta`, …; also names this version does not know.
    pub name: String,
    /// The JSON as received.
    pub data: Box<RawValue>,
}

/// A running answer. Ends after `message_stop`, or after its first error; dropping it closes the
/// connection to the provider.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<StreamEvent, ModelError>> + Send>>;

/// What kind of provider this is; for logs, `doctor` and the model list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderInfo {
    /// Its name in the configuration.
    pub name: String,
    /// `messages`, `chat` or `rehearsal`.
    pub kind: &'static str,
    /// Where it sends requests, without credentials; `None` for the built-in model.
    pub endpoint: Option<String>,
}

/// An answer that was not streamed.
#[derive(Debug, Clone)]
pub struct RawReply {
    /// HTTP status.
    pub status: u16,
    /// The headers worth passing on: content type, `request-id`, `retry-after*`, rate limits.
    pub headers: Vec<(String, String)>,
    /// The JSON body, as received.
    pub body: Bytes,
}

/// A source of answers. Takes and gives Messages API JSON, whatever it speaks upstream.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Starts an answer. Errors known before the first byte come here, later ones in the stream.
    async fn stream(&self, req: ModelRequest) -> Result<EventStream, ModelError>;

    /// Counts the input tokens of a request; an estimate where the provider has no counter.
    async fn count_tokens(&self, req: ModelRequest) -> Result<u64, ModelError>;

    /// A whole answer. A provider that speaks Messages gives the upstream's status and body
    /// unchanged, refusals included; for the others a stream is folded.
    async fn send(&self, req: ModelRequest) -> Result<RawReply, ModelError> {
        folded(self.stream(req).await?).await
    }

    /// What this provider is.
    fn describe(&self) -> ProviderInfo;
}

/// The answer that a stream is, as if it had not been streamed.
///
/// # Errors
/// The stream's own, or that it was not one message.
pub async fn folded(mut events: EventStream) -> Result<RawReply, ModelError> {
    let mut fold = Accumulator::new();
    while let Some(event) = events.next().await {
        fold.push(&event?)?;
    }
    let body = fold.finish()?.to_json();
    Ok(RawReply {
        status: 200,
        headers: vec![("content-type".into(), "application/json".into())],
        body: Bytes::from(body.get().to_owned()),
    })
}
