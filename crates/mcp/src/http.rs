//! The one way out: HTTP/1.1 over connections that [`Dial`] opens. It follows no redirect, keeps
//! connections for each workspace apart, and reads no more than it is told to.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use freehold_base::WorkspaceId;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection as Pooled};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::dial::{Connection, Destination, Dial, DialError};
use crate::url::Server;

/// Idle connections kept for one host, and for how long.
const KEPT: usize = 32;
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Workspaces whose connections are kept.
const MAX_POOLS: usize = 1_024;
/// Characters of an error answer that are looked at.
const ERROR_BODY: usize = 2_048;

/// Why an exchange failed. Holds nothing that was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("{0}")]
    Dial(DialError),
    /// The exchange broke.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// An answer with a status that is no success. Redirects are among them.
    #[error("HTTP {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// `Content-Type`, if it is text.
        content_type: Option<String>,
        /// The beginning of the body.
        body: String,
        /// More was there.
        truncated: bool,
    },
    /// More than may be read.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// It took too long.
    #[error("no answer within {} seconds", .0.as_secs())]
    Slow(Duration),
    /// The answer makes no sense.
    #[error("{0}")]
    Unusable(String),
}

/// A client for all workspaces. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    dial: Arc<dyn Dial>,
    pools: Arc<Mutex<HashMap<WorkspaceId, Pool>>>,
}

/// The connections of one workspace.
type Pool = Client<Connector, Full<Bytes>>;

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Http")
    }
}

impl Http {
    /// Opens nothing yet.
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self {
            dial,
            pools: Arc::default(),
        }
    }

    /// Sends a request and gives the answer's head, whatever its status, within `patience`.
    ///
    /// # Errors
    /// [`HttpError`], but never `Status`.
    pub async fn send(
        &self,
        workspace: &WorkspaceId,
        mut request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, HttpError> {
        let agent = concat!("freehold/", env!("CARGO_PKG_VERSION"));
        let value = http::HeaderValue::from_static(agent);
        request
            .headers_mut()
            .insert(http::header::USER_AGENT, value);
        let sent = self.pool(workspace).request(request);
        match tokio::time::timeout(patience, sent).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(broken(&error)),
            Err(_) => Err(HttpError::Slow(patience)),
        }
    }

    /// Sends a form, as token endpoints want it; gives status, content type and at most `max` bytes
    /// of the body.
    ///
    /// # Errors
    /// [`HttpError`], but never `Status`.
    pub async fn post_form(
        &self,
        workspace: &WorkspaceId,
        url: &str,
        headers: http::HeaderMap,
        form: String,
        patience: Duration,
        max: usize,
    ) -> Result<(StatusCode, Option<String>, Bytes), HttpError> {
        let server = Server::parse(url).map_err(|why| HttpError::Dial(DialError(why)))?;
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = server.uri.clone();
        *request.headers_mut() = headers;
        let form = http::HeaderValue::from_static("application/x-www-form-urlencoded");
        let json = http::HeaderValue::from_static("application/json");
        request
            .headers_mut()
            .insert(http::header::CONTENT_TYPE, form);
        request.headers_mut().insert(http::header::ACCEPT, json);
        let exchange = async {
            let response = self.send(workspace, request, patience).await?;
            let (status, kind) = (response.status(), content_type(&response));
            Ok((status, kind, read(response.into_body(), max).await?))
        };
        tokio::time::timeout(patience, exchange)
            .await
            .map_err(|_| HttpError::Slow(patience))?
    }

    fn pool(&self, workspace: &WorkspaceId) -> Pool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= MAX_POOLS && !pools.contains_key(workspace) {
            // Connections in use are not cut: they belong to those who use them.
            pools.clear();
        }
        let pool = pools.entry(workspace.clone()).or_insert_with(|| {
            let connector = Connector {
                dial: Arc::clone(&self.dial),
                workspace: workspace.clone(),
            };
            Client::builder(TokioExecutor::new())
                .pool_idle_timeout(KEPT_FOR)
                .pool_max_idle_per_host(KEPT)
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .build(connector)
        });
        pool.clone()
    }
}

/// The whole body, if it is at most `max` bytes.
pub(crate) async fn read(mut body: Incoming, max: usize) -> Result<Bytes, HttpError> {
    let mut out = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| HttpError::Broken(chain(&e)))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if data.len() > max.saturating_sub(out.len()) {
            return Err(HttpError::TooLarge(max));
        }
        out.extend_from_slice(&data);
    }
    Ok(out.into())
}

/// An answer that is no success, with the beginning of its body.
pub(crate) async fn failed(response: Response<Incoming>) -> HttpError {
    let (status, content_type) = (response.status(), content_type(&response));
    let mut body = response.into_body();
    let (mut bytes, mut truncated) = (Vec::new(), false);
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            let room = ERROR_BODY - bytes.len();
            truncated = data.len() > room;
            bytes.extend_from_slice(&data[..data.len().min(room)]);
        }
        if truncated || bytes.len() == ERROR_BODY {
            break;
        }
    }
    HttpError::Status {
        status,
        content_type,
        body: String::from_utf8_lossy(&bytes).into_owned(),
        truncated,
    }
}

/// The type without parameters, in lower case.
pub(crate) fn content_type<B>(response: &Response<B>) -> Option<String> {
    let value = response.headers().get(http::header::CONTENT_TYPE)?;
    let essence = value.to_str().ok()?.split(';').next()?;
    Some(essence.trim().to_ascii_lowercase())
}

fn broken(error: &hyper_util::client::legacy::Error) -> HttpError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(now) = cause {
        if let Some(dial) = now.downcast_ref::<DialError>() {
            return HttpError::Dial(dial.clone());
        }
        cause = now.source();
    }
    HttpError::Broken(chain(error))
}

/// The innermost cause, in words: outer ones only say where.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let last = std::iter::successors(Some(error), |e| e.source()).last();
    last.map(ToString::to_string).unwrap_or_default()
}

/// Opens the connections of one workspace.
#[derive(Clone)]
struct Connector {
    dial: Arc<dyn Dial>,
    workspace: WorkspaceId,
}

impl tower_service::Service<Uri> for Connector {
    type Response = Wire;
    type Error = DialError;
    type Future = BoxFuture<'static, Result<Wire, DialError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (dial, workspace) = (Arc::clone(&self.dial), self.workspace.clone());
        Box::pin(async move {
            let tls = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let to = Destination {
                workspace,
                tls,
                host: host.to_owned(),
                port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            };
            dial.dial(&to).await.map(|io| Wire(TokioIo::new(io)))
        })
    }
}

/// A connection as the pool wants it.
struct Wire(TokioIo<Connection>);

impl Pooled for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
