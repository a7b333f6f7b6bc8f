//! The layer around every route: it names the request, finds the caller, catches panics, writes
//! error envelopes and the headers of contract 00 §3, and logs one line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use freehold_base::{RequestId, WorkspaceId};
use freehold_wire::{ApiError, ErrorKind};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use tracing::Instrument;

use super::unread::Reading;
use super::{Fail, Kept};
use crate::app::App;
use crate::auth;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const ORGANIZATION_ID: HeaderName = HeaderName::from_static("anthropic-organization-id");
const WORKSPACE_ID: HeaderName = HeaderName::from_static("anthropic-workspace-id");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The versions of the API that are understood; they differ only in `POST /v1/messages`.
const VERSIONS: [&str; 3] = ["2023-01-01", "2023-06-01", "2026-10-21"];

/// The request's id, for handlers that write it into a stream.
#[derive(Debug, Clone)]
pub(crate) struct RequestName(pub(crate) RequestId);

/// See the module.
pub(crate) async fn outer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let version = request.version();
    let (reading, mut request) = Reading::watch(request);
    let id: RequestId = app.ids.next();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    request.extensions_mut().insert(RequestName(id.clone()));
    let mut workspace = None;
    let span = tracing::info_span!("request", request_id = %id);
    let inner = guarded(&app, matched.as_ref(), request, next, &mut workspace).instrument(span);
    // What a panicking handler shares with others is behind locks that tolerate poison.
    let mut response = match AssertUnwindSafe(inner).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(fail)) => axum::response::IntoResponse::into_response(fail),
        Err(_) => {
            tracing::error!(request_id = %id, "a request handler panicked");
            axum::response::IntoResponse::into_response(Fail(ApiError::internal()))
        }
    };
    if response.status().as_u16() >= 400 && response.extensions().get::<Kept>().is_none() {
        write_envelope(&mut response, &id);
    }
    // HTTP/2 has no such header: there a stream ends without its connection.
    if !reading.is_done() && version <= Version::HTTP_11 {
        put(response.headers_mut(), header::CONNECTION, "close");
    }
    put(response.headers_mut(), REQUEST_ID, id.as_str());
    put(
        response.headers_mut(),
        ORGANIZATION_ID,
        app.organization.as_str(),
    );
    if let Some(workspace) = &workspace {
        put(response.headers_mut(), WORKSPACE_ID, workspace.as_str());
    }
    log(
        &id,
        &method,
        matched.as_ref(),
        &response,
        workspace.as_ref(),
        started,
    );
    response
}

/// Runs the route for a caller that may.
async fn guarded(
    app: &App,
    matched: Option<&MatchedPath>,
    mut request: Request,
    next: Next,
    workspace: &mut Option<WorkspaceId>,
) -> Result<Response, Fail> {
    // Routes that do not exist answer 404 whoever asks; health checks carry no key.
    if matched.is_some_and(|m| m.as_str().starts_with("/v1/")) {
        let principal = auth::authenticate(app, request.headers()).await?;
        *workspace = Some(principal.workspace.clone());
        // Our own endpoints have no versions of the vendor's.
        if matched.is_some_and(|m| !m.as_str().starts_with("/v1/freehold/")) {
            check_version(request.headers())?;
        }
        request.extensions_mut().insert(principal);
        if changes_something(request.method(), matched) {
            return Ok(finish(next.run(request)).await);
        }
    }
    Ok(next.run(request).await)
}

/// Whether a request may leave something behind. The messages endpoints do not: when their client
/// goes away, so does the request to the model.
fn changes_something(method: &Method, matched: Option<&MatchedPath>) -> bool {
    *method != Method::GET && matched.is_some_and(|m| !m.as_str().starts_with("/v1/messages"))
}

/// Runs a handler to its end even if the client goes away, which drops the future that waits here:
/// what comes after a commit (a revoked key is forgotten, a session woken, a sandbox removed) must
/// not depend on who still listens.
async fn finish(handler: impl Future<Output = Response> + Send + 'static) -> Response {
    match tokio::spawn(handler.in_current_span()).await {
        Ok(response) => response,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Aborted with the runtime: the process ends.
            Err(_) => axum::response::IntoResponse::into_response(Fail(ApiError::internal())),
        },
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(version) = headers.get("anthropic-version") else {
        return Err(ApiError::invalid("anthropic-version: header is required"));
    };
    if VERSIONS.iter().any(|v| v.as_bytes() == version.as_bytes()) {
        return Ok(());
    }
    let known = VERSIONS.join(", ");
    Err(ApiError::invalid(format!(
        "anthropic-version: unknown version; known are {known}"
    )))
}

/// Replaces a response's body by the envelope of its error: the handler's, or for a status that
/// some layer of the framework gave, a general one.
fn write_envelope(response: &mut Response, id: &RequestId) {
    let error = response
        .extensions_mut()
        .remove::<ApiError>()
        .unwrap_or_else(|| general(response.status()));
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    put(headers, header::CONTENT_TYPE, "application/json");
    if let Some(again) = error.should_retry {
        put(headers, SHOULD_RETRY, if again { "true" } else { "false" });
    }
    if let Some(ms) = error.retry_after_ms {
        put(headers, RETRY_AFTER_MS, &ms.to_string());
        put(headers, header::RETRY_AFTER, &ms.div_ceil(1000).to_string());
    }
    if let Ok(status) = StatusCode::from_u16(error.kind.status()) {
        *response.status_mut() = status;
    }
    *response.body_mut() = Body::from(error.envelope(id.as_str()).to_string());
}

fn general(status: StatusCode) -> ApiError {
    match status {
        StatusCode::NOT_FOUND => ApiError::new(ErrorKind::NotFound, "no such endpoint"),
        StatusCode::METHOD_NOT_ALLOWED => ApiError::new(
            ErrorKind::MethodNotAllowed,
            "method not allowed at this endpoint",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ErrorKind::TooLarge, "the request body is too large")
        }
        s if s.is_client_error() => ApiError::invalid("malformed request"),
        _ => ApiError::internal(),
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    // Ids and numbers are visible ASCII; anything else is left out rather than sent broken.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// One line a request: no content, no query, no ids from the path.
fn log(
    id: &RequestId,
    method: &Method,
    matched: Option<&MatchedPath>,
    response: &Response,
    workspace: Option<&WorkspaceId>,
    started: Instant,
) {
    let path = matched.map_or("-", MatchedPath::as_str);
    if path == "/healthz" || path == "/readyz" {
        return; // Probes come every few seconds and say nothing.
    }
    tracing::info!(
        request_id = %id,
        %method,
        path,
        status = response.status().as_u16(),
        ms = format_args!("{:.1}", started.elapsed().as_secs_f64() * 1e3),
        workspace = workspace.map_or("-", WorkspaceId::as_str),
        "request"
    );
}
