//! Connections, headers, retries.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_base::{Entropy, Secret, SystemEntropy};
use reqwest::{Method, RequestBuilder, Response, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::{ApiFailure, ClientError};
use crate::retry;

/// `anthropic-version` sent with each request.
const VERSION: &str = "2026-10-21";
/// Greatest JSON answer that is read, bytes: a full page of large events.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// Greatest error answer that is read, bytes.
const MAX_ERROR: usize = 64 * 1024;

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// `http://127.0.0.1:8787`; a path prefix is kept.
    pub base_url: String,
    /// An API key.
    pub key: Secret<String>,
    /// To connect.
    pub connect_timeout: Duration,
    /// From sending a request to the head of its answer, and between two pieces of an answer.
    pub read_timeout: Duration,
}

impl Options {
    /// Ten seconds to connect, a minute of silence.
    pub fn new(base_url: impl Into<String>, key: Secret<String>) -> Self {
        Self {
            base_url: base_url.into(),
            key,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
        }
    }
}

/// A client of one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    /// Marked sensitive, so that nothing shows it.
    bearer: header::HeaderValue,
}

struct Inner {
    http: reqwest::Client,
    base: Url,
    read_timeout: Duration,
    entropy: Box<dyn Entropy>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.inner.base.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client; connects on the first request. Goes to the server directly, by no proxy, and
    /// follows no redirect, so that the key is sent nowhere else.
    ///
    /// # Errors
    /// [`ClientError::Configuration`].
    pub fn new(options: Options) -> Result<Self, ClientError> {
        let wrong = |what: &str| ClientError::Configuration(what.to_owned());
        let base = Url::parse(&options.base_url)
            .map_err(|e| ClientError::Configuration(format!("the server's URL is wrong: {e}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(wrong(
                "the server's URL must begin with http:// or https://",
            ));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(wrong(
                "the server's URL must not hold a user name or a password",
            ));
        }
        let bearer = bearer(&options.key)?;
        let mut headers = header::HeaderMap::new();
        headers.insert(
            "anthropic-version",
            header::HeaderValue::from_static(VERSION),
        );
        let mut http = reqwest::Client::builder();
        if base.scheme() == "http" {
            // Never speaks TLS, so it need not hold the system's certificates.
            http = http.tls_certs_only([]);
        }
        let http = http
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            .default_headers(headers)
            .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| {
                ClientError::Configuration(format!("the HTTP client cannot be set up: {e}"))
            })?;
        Ok(Self {
            bearer,
            inner: Arc::new(Inner {
                http,
                base,
                read_timeout: options.read_timeout,
                entropy: Box::new(SystemEntropy),
            }),
        })
    }

    /// A client of the same server with another credential, for example the token of a work item.
    /// It shares this one's connections.
    ///
    /// # Errors
    /// [`ClientError::Configuration`].
    pub fn with_key(&self, key: &Secret<String>) -> Result<Self, ClientError> {
        Ok(Self {
            inner: Arc::clone(&self.inner),
            bearer: bearer(key)?,
        })
    }

    /// The server's URL.
    pub fn base_url(&self) -> &str {
        self.inner.base.as_str()
    }

    /// `GET path`, repeated after transient failures.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let response = self
            .send(true, || self.request(Method::GET, path, query))
            .await?;
        self.json(response).await
    }

    /// `POST path` with a JSON body. Not repeated, unless nothing can have arrived.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &(impl Serialize + ?Sized),
    ) -> Result<T, ClientError> {
        let body: Bytes = serde_json::to_vec(body)
            .map_err(|e| ClientError::Configuration(format!("the request cannot be written: {e}")))?
            .into();
        let build = || {
            self.request(Method::POST, path, &[])
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.clone())
        };
        let response = self.send(false, build).await?;
        self.json(response).await
    }

    /// `POST path` without a body, for actions that may be repeated, such as archiving.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn act<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.act_with(path, &[]).await
    }

    /// The same with a query.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn act_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let build = || {
            self.request(Method::POST, path, query)
                .header(header::CONTENT_LENGTH, "0")
        };
        let response = self.send(true, build).await?;
        self.json(response).await
    }

    /// `DELETE path`, repeated after transient failures; a 404 of a repetition can mean that an
    /// earlier attempt did it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.delete_with(path, &[]).await
    }

    /// The same with a query.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let response = self
            .send(true, || self.request(Method::DELETE, path, query))
            .await?;
        self.json(response).await
    }

    /// `GET path` for an answer that is read piece by piece.
    pub(crate) async fn open(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Response, ClientError> {
        self.attempt(self.request(Method::GET, path, query)).await
    }

    /// `GET path` for an answer that is read piece by piece, repeated after transient failures.
    pub(crate) async fn download(&self, path: &[&str]) -> Result<Response, ClientError> {
        self.send(true, || self.request(Method::GET, path, &[]))
            .await
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        &*self.inner.entropy
    }

    pub(crate) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> RequestBuilder {
        let mut url = self.inner.base.clone();
        // `new` lets only URLs pass that have a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.inner
            .http
            .request(method, url)
            .header(header::AUTHORIZATION, self.bearer.clone())
    }

    async fn send(
        &self,
        repeatable: bool,
        build: impl Fn() -> RequestBuilder,
    ) -> Result<Response, ClientError> {
        let mut attempt = 0;
        loop {
            match self.attempt(build()).await {
                Err(error) if attempt < retry::RETRIES && retry::may_retry(&error, repeatable) => {
                    attempt += 1;
                    tokio::time::sleep(retry::wait(&error, attempt, self.entropy())).await;
                }
                done => return done,
            }
        }
    }

    pub(crate) async fn attempt(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let quiet = self.inner.read_timeout;
        let response = match tokio::time::timeout(quiet, request.send()).await {
            Err(_) => return Err(ClientError::Silent(quiet)),
            Ok(Err(error)) if error.is_connect() => {
                let url = self.inner.base.to_string();
                return Err(ClientError::Connect {
                    url,
                    source: error.without_url(),
                });
            }
            Ok(Err(error)) => return Err(ClientError::Broken(error.without_url())),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // The status already says it failed; a body that breaks off adds nothing.
        let body = self.body(response, MAX_ERROR).await.unwrap_or_default();
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let mut failure = ApiFailure::read(status, &body);
        failure.request_id = text("request-id")
            .map(|id| id.chars().take(80).collect())
            .or(failure.request_id);
        failure.retry = match text("x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        let number = |name: &str| text(name).and_then(|v| v.parse::<f64>().ok());
        failure.after = number("retry-after-ms")
            .map(|ms| ms / 1e3)
            .or_else(|| number("retry-after"))
            .and_then(|s| Duration::try_from_secs_f64(s).ok());
        Err(failure.into())
    }

    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        response: Response,
    ) -> Result<T, ClientError> {
        let body = self.body(response, MAX_ANSWER).await?;
        serde_json::from_slice(&body).map_err(|e| ClientError::Protocol(e.to_string()))
    }

    async fn body(&self, mut response: Response, max: usize) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if max < body.len() + chunk.len() {
                return Err(ClientError::Protocol(format!(
                    "it is larger than {max} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The next piece of an answer; `None` at its end.
    pub(crate) async fn chunk(
        &self,
        response: &mut Response,
    ) -> Result<Option<Bytes>, ClientError> {
        let quiet = self.inner.read_timeout;
        match tokio::time::timeout(quiet, response.chunk()).await {
            Err(_) => Err(ClientError::Silent(quiet)),
            Ok(Err(error)) => Err(ClientError::Broken(error.without_url())),
            Ok(Ok(chunk)) => Ok(chunk),
        }
    }
}

fn bearer(key: &Secret<String>) -> Result<header::HeaderValue, ClientError> {
    let bearer = format!("Bearer {}", key.expose());
    let mut bearer = header::HeaderValue::from_str(&bearer).map_err(|_| {
        ClientError::Configuration("the API key holds characters that no key has".to_owned())
    })?;
    bearer.set_sensitive(true);
    Ok(bearer)
}
