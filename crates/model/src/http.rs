//! The HTTP side shared by the providers that have an upstream.

use std::time::Duration;

use bytes::Bytes;
use freehold_base::Secret;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::{Client, RequestBuilder, Response, header};
use tokio::time::timeout;
use url::Url;

use crate::classify;
use crate::config::{ConfigError, Timeouts};
use crate::error::{ModelError, ModelErrorKind};
use freehold_wire::sse::{Decoder, Frame};

/// Bytes of an error body that are read.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// Bytes of an answer, streamed or whole.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// An upstream: where it is, how to authenticate, how long to wait.
pub(crate) struct Upstream {
    name: String,
    base: Url,
    key: Option<Secret<String>>,
    timeouts: Timeouts,
    client: Client,
}

impl Upstream {
    /// Checks the base URL and builds the client. Redirects are not followed, because the key
    /// would travel with them; the environment's proxy settings are not read.
    pub(crate) fn new(
        name: &str,
        base_url: &str,
        key: Option<Secret<String>>,
        timeouts: Timeouts,
    ) -> Result<Self, ConfigError> {
        let wrong = |reason: &str| ConfigError::BaseUrl {
            provider: name.to_owned(),
            reason: reason.to_owned(),
        };
        let base = Url::parse(base_url).map_err(|e| wrong(&e.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(wrong("only http and https URLs with a host"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong("credentials do not belong in the URL"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(wrong("no query or fragment"));
        }
        if let Some(key) = &key
            && header::HeaderValue::from_str(key.expose()).is_err()
        {
            return Err(ConfigError::Value {
                path: format!("provider `{name}`"),
                reason: "its key holds characters a header cannot carry, such as a line end"
                    .to_owned(),
            });
        }
        let mut builder = Client::builder()
            .no_proxy()
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_millis(timeouts.connect_ms))
            .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "http" {
            // No roots needed: saves reading the system's store, which may be missing.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|e| ConfigError::Client {
            provider: name.to_owned(),
            reason: e.without_url().to_string(),
        })?;
        Ok(Self {
            name: name.to_owned(),
            base,
            key,
            timeouts,
            client,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_ref().map(|k| k.expose().as_str())
    }

    /// The key as a header value after `prefix`, marked so that it is never printed.
    pub(crate) fn key_header(&self, prefix: &str) -> Option<header::HeaderValue> {
        // `new` has seen that the key fits a header.
        let mut value = header::HeaderValue::from_str(&format!("{prefix}{}", self.key()?)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The base URL with `segments` after its path.
    pub(crate) fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Holds for every http and https URL, and `new` lets no other pass.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    pub(crate) fn post(&self, url: Url, body: Vec<u8>) -> RequestBuilder {
        self.client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
    }

    /// Sends; waits for the head of the answer, whatever its status.
    pub(crate) async fn head(&self, request: RequestBuilder) -> Result<Response, ModelError> {
        match timeout(self.first_byte(), request.send()).await {
            Err(_) => Err(self.stalled("did not answer", self.timeouts.first_byte_ms)),
            Ok(Err(error)) => Err(network(&error)),
            Ok(Ok(response)) => Ok(response),
        }
    }

    /// Sends; an answer outside 2xx becomes its [`ModelError`].
    pub(crate) async fn accepted(&self, request: RequestBuilder) -> Result<Response, ModelError> {
        let response = self.head(request).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // The status already says it failed; a body that breaks off adds nothing.
        let (body, _) = self.read(response, MAX_ERROR_BODY).await;
        Err(self.scrub(classify::http_error(status, &headers, &body)))
    }

    /// The whole body of an answer.
    pub(crate) async fn body(&self, response: Response) -> Result<Bytes, ModelError> {
        let (body, end) = self.read(response, MAX_ANSWER).await;
        end.map(|()| Bytes::from(body))
    }

    async fn read(&self, mut response: Response, max: usize) -> (Vec<u8>, Result<(), ModelError>) {
        let mut body = Vec::new();
        let end = loop {
            match timeout(self.first_byte(), response.chunk()).await {
                Err(_) => break Err(self.stalled("stopped", self.timeouts.first_byte_ms)),
                Ok(Err(error)) => break Err(network(&error)),
                Ok(Ok(None)) => break Ok(()),
                Ok(Ok(Some(chunk))) if max < body.len() + chunk.len() => {
                    body.extend_from_slice(&chunk[..max - body.len()]);
                    break Err(too_large());
                }
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
            }
        };
        (body, end)
    }

    /// The events of a streamed answer.
    pub(crate) fn frames(&self, response: Response) -> Result<Frames, ModelError> {
        let content_type = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("");
        let essence = content_type.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("text/event-stream") {
            return Err(ModelError::new(
                ModelErrorKind::Protocol,
                "the model endpoint did not answer with an event stream; is the base URL right?",
            )
            .with_status(response.status().as_u16()));
        }
        Ok(Frames {
            bytes: response.bytes_stream().boxed(),
            decoder: Decoder::default(),
            wait_ms: self.timeouts.first_byte_ms,
            idle_ms: self.timeouts.idle_ms,
            key: self.key.clone(),
            taken: 0,
        })
    }

    /// Cuts our key out of an upstream text, should it have been echoed.
    pub(crate) fn scrub(&self, error: ModelError) -> ModelError {
        scrub(error, self.key())
    }

    fn first_byte(&self) -> Duration {
        Duration::from_millis(self.timeouts.first_byte_ms)
    }

    fn stalled(&self, what: &str, after_ms: u64) -> ModelError {
        stalled(what, after_ms)
    }
}

/// The events of one answer.
pub(crate) struct Frames {
    bytes: BoxStream<'static, reqwest::Result<Bytes>>,
    decoder: Decoder,
    /// Until the first event: reading a long prompt takes a model longer than one token.
    wait_ms: u64,
    idle_ms: u64,
    key: Option<Secret<String>>,
    taken: usize,
}

impl Frames {
    /// The next event; `None` when upstream closed the stream. Not to be called after an error.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame, ModelError>> {
        loop {
            if let Some(frame) = self.decoder.next_frame() {
                self.wait_ms = self.idle_ms;
                return Some(Ok(frame));
            }
            let chunk = match timeout(Duration::from_millis(self.wait_ms), self.bytes.next()).await
            {
                Err(_) => return Some(Err(stalled("stopped in its answer", self.wait_ms))),
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Err(network(&error))),
                Ok(Some(Ok(chunk))) => chunk,
            };
            self.taken = self.taken.saturating_add(chunk.len());
            if MAX_ANSWER < self.taken {
                return Some(Err(too_large()));
            }
            if let Err(error) = self.decoder.push(&chunk) {
                // Events that were complete before the damage are not worth delivering: the
                // answer is lost either way.
                return Some(Err(ModelError::new(
                    ModelErrorKind::Protocol,
                    format!("the model endpoint sent {error}"),
                )));
            }
        }
    }

    /// See [`Upstream::scrub`].
    pub(crate) fn scrub(&self, error: ModelError) -> ModelError {
        scrub(error, self.key.as_ref().map(|k| k.expose().as_str()))
    }
}

fn scrub(mut error: ModelError, key: Option<&str>) -> ModelError {
    let Some(key) = key.filter(|k| !k.is_empty()) else {
        return error;
    };
    error.message = error.message.replace(key, "[key removed]");
    error.upstream_body = error
        .upstream_body
        .map(|body| body.replace(key, "[key removed]"));
    error
}

fn stalled(what: &str, after_ms: u64) -> ModelError {
    ModelError::new(
        ModelErrorKind::Timeout,
        format!("the model endpoint {what} for {after_ms} ms"),
    )
}

fn too_large() -> ModelError {
    ModelError::new(
        ModelErrorKind::Protocol,
        format!("the model endpoint answered more than {MAX_ANSWER} bytes"),
    )
}

/// Says what kind of connection failure it was. The URL is left out, the cause is not: it names
/// refused connections, unknown hosts and untrusted certificates.
fn network(error: &reqwest::Error) -> ModelError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() {
        return ModelError::new(
            ModelErrorKind::Timeout,
            "connecting to the model endpoint took too long",
        );
    }
    let what = if error.is_connect() {
        "cannot connect to the model endpoint"
    } else if error.is_builder() {
        return ModelError::new(
            ModelErrorKind::InvalidRequest,
            "the request to the model endpoint cannot be built: a header value is not allowed",
        );
    } else {
        "the connection to the model endpoint broke"
    };
    // The error's own text names the URL; only what lies below it is shown.
    let detail = if std::ptr::addr_eq(cause, error) {
        what.to_owned()
    } else {
        format!("{what}: {cause}")
    };
    ModelError::new(ModelErrorKind::Network, detail)
}
