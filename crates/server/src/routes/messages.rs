//! `POST /v1/messages` and `/v1/messages/count_tokens`: a gateway to the configured providers
//! (contract 82). Bodies pass through; only what is needed to route them is read, but for requests
//! that use MCP servers ([`mcp`]).

mod mcp;

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use freehold_base::RequestId;
use freehold_model::{
    EventStream, ModelEntry, ModelError, ModelRequest, RawObject, RawReply, folded,
};
use freehold_wire::{ApiError, ErrorKind};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Kept, Payload, Reply, RequestName, json, raw_json, sse};

/// `anthropic-beta` values that are passed on.
const MAX_BETAS: usize = 100;

/// `POST /v1/messages`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(RequestName(id)): Extension<RequestName>,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Reply {
    let body = object(&body)?;
    require::<Vec<&RawValue>>(&body, "messages", "an array")?;
    require::<u64>(&body, "max_tokens", "an integer")?;
    let streamed = match body.get("stream").map(RawValue::get) {
        None | Some("false" | "null") => false,
        Some("true") => true,
        Some(_) => return Err(ApiError::invalid("stream: expected a boolean").into()),
    };
    let (entry, request) = route(&app, body, &headers)?;
    if mcp::wanted(&request) {
        let turn = mcp::prepare(&app, entry, request, &caller.workspace, id.clone()).await?;
        let events = turn.stream(streamed).await.map_err(|e| refused(&e))?;
        if streamed {
            return Ok(sse::response(frames(&app, events, id)));
        }
        let reply = folded(events).await.map_err(|e| refused(&e))?;
        return pass_on(reply, &id);
    }
    if streamed {
        let events = entry
            .provider
            .stream(request)
            .await
            .map_err(|e| refused(&e))?;
        return Ok(sse::response(frames(&app, events, id)));
    }
    let reply = entry
        .provider
        .send(request)
        .await
        .map_err(|e| refused(&e))?;
    pass_on(reply, &id)
}

/// `POST /v1/messages/count_tokens`
pub(crate) async fn count_tokens(
    State(app): State<Arc<App>>,
    caller: Caller,
    Extension(RequestName(id)): Extension<RequestName>,
    headers: HeaderMap,
    Payload(body): Payload,
) -> Reply {
    let body = object(&body)?;
    require::<Vec<&RawValue>>(&body, "messages", "an array")?;
    let (mut entry, mut request) = route(&app, body, &headers)?;
    if mcp::wanted(&request) {
        let turn = mcp::prepare(&app, entry, request, &caller.workspace, id).await?;
        (entry, request) = turn.first();
    }
    let tokens = entry
        .provider
        .count_tokens(request)
        .await
        .map_err(|e| refused(&e))?;
    json(&serde_json::json!({ "input_tokens": tokens }))
}

fn object(body: &[u8]) -> Result<RawObject, ApiError> {
    if std::str::from_utf8(body).is_err() {
        return Err(ApiError::invalid("the request body is not valid UTF-8"));
    }
    RawObject::parse(body)
        .map_err(|_| ApiError::invalid("the request body is not a valid JSON object"))
}

fn require<'a, T: serde::Deserialize<'a>>(
    body: &'a RawObject,
    key: &str,
    what: &str,
) -> Result<T, ApiError> {
    let value = body
        .get(key)
        .ok_or_else(|| ApiError::invalid(format!("{key}: Field required")))?;
    serde_json::from_str(value.get())
        .map_err(|_| ApiError::invalid(format!("{key}: expected {what}")))
}

fn route(
    app: &App,
    body: RawObject,
    headers: &HeaderMap,
) -> Result<(Arc<ModelEntry>, ModelRequest), ApiError> {
    let model: String = require(&body, "model", "a string")?;
    let Some(entry) = app.models.resolve(&model) else {
        let shown: String = model.chars().take(80).collect();
        return Err(ApiError::new(
            ErrorKind::NotFound,
            format!("model: {shown}"),
        ));
    };
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    let betas = headers
        .get_all("anthropic-beta")
        .iter()
        .filter_map(|v| v.to_str().ok());
    let beta = betas
        .flat_map(|v| v.split(','))
        .map(|b| b.trim().to_owned())
        .filter(|b| !b.is_empty())
        .take(MAX_BETAS)
        .collect();
    let request = ModelRequest {
        body,
        anthropic_version: text("anthropic-version"),
        beta,
    };
    Ok((entry, request))
}

/// The provider's failure as ours, keeping what it said where it said something.
fn refused(error: &ModelError) -> ApiError {
    tracing::warn!(kind = ?error.kind, status = error.status, "model request failed");
    let mut api = ApiError::new(kind(error), error.message.clone());
    api.retry_after_ms = error.retry_after_ms;
    api
}

fn kind(error: &ModelError) -> ErrorKind {
    match error.wire() {
        (400, _) => ErrorKind::InvalidRequest,
        (402, _) => ErrorKind::Billing,
        (403, _) => ErrorKind::Permission,
        (404, _) => ErrorKind::NotFound,
        (413, _) => ErrorKind::TooLarge,
        (429, _) => ErrorKind::RateLimit,
        (502 | 503, _) => ErrorKind::Unavailable,
        (504, _) => ErrorKind::Timeout,
        (529, _) => ErrorKind::Overloaded,
        _ => ErrorKind::Api,
    }
}

/// An upstream's answer with its status and body; an error envelope gets our request id, which is
/// the one our log and the response header know. What is no JSON, no answer and no error is not for
/// a client to see.
fn pass_on(reply: RawReply, id: &RequestId) -> Reply {
    let status = StatusCode::from_u16(reply.status).map_err(|e| Fail::internal(&e))?;
    let (status, body) = if status.is_success() {
        serde_json::from_slice::<&RawValue>(&reply.body).map_err(|_| unusable(status))?;
        // Never 201 or 204: contract 00 §4.
        (StatusCode::OK, reply.body)
    } else {
        let is_error = (400..600).contains(&status.as_u16());
        let envelope = renamed(&reply.body, id).filter(|_| is_error);
        (status, envelope.ok_or_else(|| unusable(status))?)
    };
    let mut response = raw_json(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in &reply.headers {
        let name = name.to_ascii_lowercase();
        let wanted = name.starts_with("anthropic-ratelimit-")
            || matches!(
                name.as_str(),
                "retry-after" | "retry-after-ms" | "x-should-retry"
            );
        if let (true, Ok(name), Ok(value)) = (
            wanted,
            HeaderName::try_from(name),
            HeaderValue::try_from(value),
        ) {
            headers.insert(name, value);
        }
    }
    response.extensions_mut().insert(Kept);
    Ok(response)
}

fn unusable(status: StatusCode) -> ApiError {
    tracing::warn!(
        status = status.as_u16(),
        "the model provider's answer is unusable"
    );
    let kind = match status.as_u16() {
        429 => ErrorKind::RateLimit,
        529 => ErrorKind::Overloaded,
        _ => ErrorKind::Unavailable,
    };
    ApiError::new(
        kind,
        format!("the model provider's answer (status {status}) is unusable"),
    )
}

fn renamed(body: &[u8], id: &RequestId) -> Option<bytes::Bytes> {
    let mut envelope = RawObject::parse(body).ok()?;
    envelope.get("error")?;
    envelope.set("type", "error");
    envelope.set("request_id", id.as_str());
    Some(envelope.to_raw().get().to_owned().into())
}

/// The provider's events as they come, with keep-alives while it is silent.
fn frames(
    app: &Arc<App>,
    events: EventStream,
    id: RequestId,
) -> impl Stream<Item = bytes::Bytes> + Send + use<> {
    struct Passing {
        app: Arc<App>,
        events: EventStream,
        id: RequestId,
        over: bool,
    }
    let passing = Passing {
        app: Arc::clone(app),
        events,
        id,
        over: false,
    };
    stream::unfold(passing, |mut p| async move {
        if p.over {
            return None;
        }
        let frame = tokio::select! {
            biased;
            event = p.events.next() => match event? {
                Ok(event) => sse::frame(line(&event.name), event.data.get()),
                Err(error) => {
                    p.over = true;
                    sse::frame("error", &refused(&error).envelope(p.id.as_str()).to_string())
                }
            },
            () = p.app.stopping.cancelled() => {
                p.over = true;
                let error = ApiError::new(ErrorKind::Overloaded, "the server is stopping");
                sse::frame("error", &error.envelope(p.id.as_str()).to_string())
            }
            () = tokio::time::sleep_until(Instant::now() + p.app.ping) => {
                bytes::Bytes::from_static(sse::PING.as_bytes())
            }
        };
        Some((frame, p))
    })
}

/// An event name fit for its line; upstream names are.
fn line(name: &str) -> &str {
    if name.contains(['\n', '\r']) {
        "message"
    } else {
        name
    }
}
