//! Providers that speak the Messages API: everything is forwarded, nothing reshaped.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use freehold_base::Secret;
use futures_util::stream;
use http::HeaderMap;
use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use crate::classify;
use crate::config::{ConfigError, Timeouts};
use crate::error::{ModelError, ModelErrorKind};
use crate::http::{Frames, Upstream};
use crate::provider::{EventStream, Provider, ProviderInfo, RawReply, StreamEvent};
use crate::raw::RawObject;
use crate::request::ModelRequest;

/// Sent when the request names no version.
pub const DEFAULT_VERSION: &str = "2023-06-01";

/// Fields of `POST /v1/messages` that `count_tokens` refuses (contract 82 §5).
const NOT_COUNTED: &[&str] = &[
    "max_tokens",
    "stream",
    "stop_sequences",
    "metadata",
    "container",
    "service_tier",
    "inference_geo",
    "diagnostics",
    "fallbacks",
    "fallback_credit_token",
    "thread",
    "temperature",
    "top_p",
    "top_k",
];

/// Headers of an answer that are passed on, besides every `anthropic-ratelimit-*` and its kin.
const PASSED_ON: &[&str] = &[
    "content-type",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
];

/// A Messages API at some base URL.
pub struct MessagesProvider {
    upstream: Arc<Upstream>,
    /// Our id to upstream's, where they differ.
    ids: BTreeMap<String, String>,
}

impl MessagesProvider {
    /// A provider at `base_url`, the part before `/v1/messages`; a path prefix is kept, and a
    /// `/v1` at its end is not doubled. `ids` maps our model ids to upstream's; others go as
    /// they are.
    ///
    /// # Errors
    /// [`ConfigError`] when the URL cannot be used or the client cannot be made.
    pub fn new(
        name: &str,
        base_url: &str,
        key: Option<Secret<String>>,
        timeouts: Timeouts,
        ids: BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let upstream = Arc::new(Upstream::new(name, base_url, key, timeouts)?);
        Ok(Self { upstream, ids })
    }

    fn url(&self, last: &[&str]) -> Url {
        let path = self.upstream.base().path().trim_end_matches('/');
        let versioned = path.rsplit('/').next() == Some("v1");
        let mut segments = if versioned { vec![] } else { vec!["v1"] };
        segments.extend(last);
        self.upstream.at(&segments)
    }

    fn request(&self, url: Url, req: &ModelRequest, body: &RawObject) -> RequestBuilder {
        let mut request = self
            .upstream
            .post(url, body.to_raw().get().as_bytes().to_vec())
            .header(
                "anthropic-version",
                req.anthropic_version.as_deref().unwrap_or(DEFAULT_VERSION),
            );
        if !req.beta.is_empty() {
            request = request.header("anthropic-beta", req.beta.join(","));
        }
        if let Some(key) = self.upstream.key_header("") {
            request = request.header("x-api-key", key);
        }
        request
    }

    fn body(&self, req: &ModelRequest) -> RawObject {
        let mut body = req.body.clone();
        if let Some(upstream) = req.model().and_then(|id| self.ids.get(&id)) {
            body.set("model", upstream.as_str());
        }
        body
    }
}

#[async_trait]
impl Provider for MessagesProvider {
    async fn stream(&self, req: ModelRequest) -> Result<EventStream, ModelError> {
        let mut body = self.body(&req);
        body.set("stream", true);
        let request = self
            .request(self.url(&["messages"]), &req, &body)
            .header("accept", "text/event-stream");
        let response = self.upstream.accepted(request).await?;
        let frames = self.upstream.frames(response)?;
        Ok(Box::pin(stream::unfold(Some(frames), next_event)))
    }

    async fn count_tokens(&self, req: ModelRequest) -> Result<u64, ModelError> {
        #[derive(Deserialize)]
        struct Count {
            input_tokens: u64,
        }
        let mut body = self.body(&req);
        for field in NOT_COUNTED {
            body.remove(field);
        }
        let request = self.request(self.url(&["messages", "count_tokens"]), &req, &body);
        let response = self.upstream.accepted(request).await?;
        let answer = self.upstream.body(response).await?;
        serde_json::from_slice::<Count>(&answer)
            .map(|count| count.input_tokens)
            .map_err(|_| {
                ModelError::new(
                    ModelErrorKind::Protocol,
                    "the model endpoint's answer to count_tokens has no input_tokens",
                )
            })
    }

    async fn send(&self, req: ModelRequest) -> Result<RawReply, ModelError> {
        let mut body = self.body(&req);
        body.remove("stream");
        let request = self.request(self.url(&["messages"]), &req, &body);
        let response = self.upstream.head(request).await?;
        let status = response.status().as_u16();
        let headers = passed_on(response.headers());
        let mut body = self.upstream.body(response).await?;
        if let Some(key) = self.upstream.key()
            && !(200..300).contains(&status)
        {
            body = without(&body, key);
        }
        Ok(RawReply {
            status,
            headers,
            body,
        })
    }

    fn describe(&self) -> ProviderInfo {
        ProviderInfo {
            name: self.upstream.name().to_owned(),
            kind: "messages",
            endpoint: Some(self.upstream.base().to_string()),
        }
    }
}

/// One step of the stream; its state is gone once it has ended.
async fn next_event(
    frames: Option<Frames>,
) -> Option<(Result<StreamEvent, ModelError>, Option<Frames>)> {
    let mut frames = frames?;
    let frame = match frames.next().await {
        Some(Ok(frame)) => frame,
        Some(Err(error)) => return Some((Err(error), None)),
        None => {
            let error = ModelError::new(
                ModelErrorKind::Network,
                "the model endpoint closed the stream before the end of its answer",
            );
            return Some((Err(error), None));
        }
    };
    match to_event(frame.event, frame.data) {
        Ok(event) if event.name == "error" => {
            let error = frames.scrub(classify::stream_error(event.data.get()));
            Some((Err(error), None))
        }
        Ok(event) if event.name == "message_stop" => Some((Ok(event), None)),
        Ok(event) => Some((Ok(event), Some(frames))),
        Err(error) => Some((Err(error), None)),
    }
}

/// The name is the `event:` field, or the `type` in the data where a proxy has dropped the field.
fn to_event(name: String, data: String) -> Result<StreamEvent, ModelError> {
    #[derive(Deserialize)]
    struct Typed {
        r#type: String,
    }
    let malformed = || {
        ModelError::new(
            ModelErrorKind::Protocol,
            "the model endpoint sent an event that is not JSON",
        )
    };
    let data = RawValue::from_string(data).map_err(|_| malformed())?;
    let name = if name.is_empty() {
        serde_json::from_str::<Typed>(data.get())
            .map_err(|_| malformed())?
            .r#type
    } else {
        name
    };
    Ok(StreamEvent { name, data })
}

fn passed_on(headers: &HeaderMap) -> Vec<(String, String)> {
    let wanted = |name: &str| {
        PASSED_ON.contains(&name)
            || [
                "anthropic-ratelimit-",
                "anthropic-priority-",
                "anthropic-fast-",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    headers
        .iter()
        .filter(|(name, _)| wanted(name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// An upstream that echoes our key must not hand it to our callers.
fn without(body: &Bytes, key: &str) -> Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if !key.is_empty() && text.contains(key) => {
            Bytes::from(text.replace(key, "[key removed]"))
        }
        _ => body.clone(),
    }
}
