//! The one outbound HTTP client: HTTP/1.1 over [`Dial`], no redirects, no cookies, no compression,
//! bodies read within limits. Connections are kept for a while, each for one workspace.

mod pool;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freehold_base::{Secret, WorkspaceId};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::dial::Dial;
use crate::target::Target;
use pool::{Lease, Pool};

/// Longest answer of a token endpoint.
const MAX_FORM: usize = 256 << 10;

/// Most that is read after what was waited for, bytes, and for how long.
const MAX_REST: usize = 64 << 10;
const REST: Duration = Duration::from_secs(1);

/// Why there is no answer. The text is for clients and holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The URL may not be used.
    #[error("{0}")]
    Url(String),
    /// No connection.
    #[error("{0}")]
    Connect(String),
    /// The connection broke, or what came is not HTTP.
    #[error("the server did not answer with valid HTTP")]
    Broken,
    /// The answer is too large.
    #[error("the server's answer is too large")]
    TooLarge,
    /// The answer is compressed, which was not asked for.
    #[error("the server sent a compressed answer, which was not asked for")]
    Encoded,
    /// A redirect, which is never followed.
    #[error("the server answered with a redirect ({0}), which is not followed")]
    Redirect(u16),
    /// The deadline passed.
    #[error("the server did not answer in time")]
    Timeout,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status; never a redirect.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, cut at the limit if the caller said so.
    pub body: Bytes,
}

/// How a client of a token endpoint proves who it is.
#[derive(Debug, Clone)]
pub struct Basic {
    /// Client id.
    pub id: String,
    /// Its secret.
    pub secret: Secret<String>,
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    pool: Arc<Pool>,
}

impl Http {
    /// A client that connects through `dial`, giving each attempt `connect`.
    pub fn new(dial: Arc<dyn Dial>, connect: Duration) -> Self {
        Self {
            pool: Arc::new(Pool::new(dial, connect)),
        }
    }

    /// Sends one request, whose URI is absolute, and reads the whole answer: at most `limit` bytes,
    /// before `deadline`.
    ///
    /// # Errors
    /// Every failure but a status: 4xx and 5xx are answers.
    pub async fn fetch(
        &self,
        workspace: &WorkspaceId,
        request: Request<Bytes>,
        limit: usize,
        deadline: Duration,
    ) -> Result<Answer, HttpError> {
        let (head, body) = request.into_parts();
        let target = Target::parse(&head.uri.to_string()).map_err(HttpError::Url)?;
        let (method, headers) = (head.method, head.headers);
        let work = async {
            let mut response = self.send(workspace, &target, method, headers, body).await?;
            let body = response.read_all(limit).await?;
            Ok(Answer {
                status: response.status,
                headers: response.headers,
                body,
            })
        };
        tokio::time::timeout(deadline, work)
            .await
            .unwrap_or(Err(HttpError::Timeout))
    }

    /// `POST` of a form, as token endpoints take it: 30 s, at most 256 KiB back.
    ///
    /// # Errors
    /// Every failure but a status: 4xx and 5xx are answers.
    pub async fn form(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        fields: &[(&str, &str)],
        basic: Option<&Basic>,
    ) -> Result<Answer, HttpError> {
        // The serialiser must not live across an await: it is not `Send`.
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Bytes::from(form))
            .map_err(|_| HttpError::Url("the URL is not valid".into()))?;
        if let Some(basic) = basic {
            request.headers_mut().insert(AUTHORIZATION, basic.header());
        }
        self.fetch(workspace, request, MAX_FORM, Duration::from_secs(30))
            .await
    }

    /// Sends one request; the answer's body is still to be read.
    pub(crate) async fn send(
        &self,
        workspace: &WorkspaceId,
        target: &Target,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, HttpError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target
            .path
            .parse()
            .map_err(|_| HttpError::Url("the URL is not valid".into()))?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(target.authority())
            .map_err(|_| HttpError::Url("the URL is not valid".into()))?;
        let ours = request.headers_mut();
        ours.insert(HOST, host);
        ours.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        ours.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("freehold/", env!("CARGO_PKG_VERSION"))),
        );
        let (response, lease) = self
            .pool
            .send(target.destination(workspace), request)
            .await?;
        let (head, body) = response.into_parts();
        if head.status.is_redirection() {
            return Err(HttpError::Redirect(head.status.as_u16()));
        }
        let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
        if head
            .headers
            .get(CONTENT_ENCODING)
            .is_some_and(|v| !plain(v))
        {
            return Err(HttpError::Encoded);
        }
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
            lease: Some(lease),
            received: 0,
        })
    }
}

impl Basic {
    /// RFC 6749 §2.3.1: both parts are form-encoded before they are joined.
    fn header(&self) -> HeaderValue {
        use base64::Engine;
        let part = |text: &str| -> String {
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
        };
        let pair = format!("{}:{}", part(&self.id), part(self.secret.expose()));
        let text = base64::engine::general_purpose::STANDARD.encode(pair);
        let mut value = HeaderValue::from_str(&format!("Basic {text}"))
            .expect("base 64 is a valid header value");
        value.set_sensitive(true);
        value
    }
}

/// An answer whose body is still to be read. Dropping it closes the connection.
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    lease: Option<Lease>,
    /// Bytes read so far.
    pub(crate) received: u64,
}

impl Response {
    /// The next piece of the body; `None` at its end, when the connection can serve another.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
                Some(Err(_)) => return Err(HttpError::Broken),
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// What it was for has come. Streams end after that, so that the end is waited for, though by nobody
    /// who is in a hurry: the connection can serve another then.
    pub(crate) fn finish(mut self) {
        tokio::spawn(async move {
            let rest = self.read_up_to(MAX_REST);
            // One that does not end is closed with the answer.
            drop(tokio::time::timeout(REST, rest).await);
        });
    }

    /// The whole body.
    pub(crate) async fn read_all(&mut self, limit: usize) -> Result<Bytes, HttpError> {
        match self.read_up_to(limit).await? {
            (_, true) => Err(HttpError::TooLarge),
            (body, false) => Ok(body),
        }
    }

    /// The first `limit` bytes of the body, and whether there was more.
    pub(crate) async fn read_up_to(&mut self, limit: usize) -> Result<(Bytes, bool), HttpError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if chunk.len() > limit - body.len() {
                body.extend_from_slice(&chunk[..limit - body.len()]);
                return Ok((body.into(), true));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body.into(), false))
    }

    /// Media type without parameters, lower case.
    pub(crate) fn media_type(&self) -> String {
        media_type(&self.headers)
    }
}

/// Media type without parameters, lower case; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

/// A deadline that progress can move, up to a point.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    last: Instant,
    step: Duration,
}

impl Deadline {
    pub(crate) fn new(step: Duration, longest: Duration) -> Self {
        let now = Instant::now();
        Self {
            at: now + step,
            last: now + longest.max(step),
            step,
        }
    }

    /// There is progress.
    pub(crate) fn extend(&mut self) {
        self.at = self.at.max(Instant::now() + self.step).min(self.last);
    }

    /// The same, but not later than `step` from now.
    pub(crate) fn within(&self, step: Duration) -> Self {
        let at = self.at.min(Instant::now() + step);
        Self { at, last: at, step }
    }

    /// Waits for `work` until then.
    pub(crate) async fn wait<T, E: From<HttpError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::time::timeout_at(self.at, work)
            .await
            .unwrap_or_else(|_| Err(HttpError::Timeout.into()))
    }
}
