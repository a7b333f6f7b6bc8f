//! The eras of the protocol: the newest is stateless, the older begin with a handshake and may keep
//! a session, the oldest answers on a stream of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::headers;
use crate::http::{Deadline, HttpError};
use crate::options::MAX_SESSION_ID;
use crate::rpc::{self, Params, Reply};
use crate::scope::{Answered, Scope};

/// The stateless revision.
pub(crate) const MODERN: &str = "2026-07-28";
/// What the handshake offers.
pub(crate) const LEGACY: &str = "2025-11-25";
/// What a server may answer to that.
const LEGACY_KNOWN: &[&str] = &["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const UNSUPPORTED_VERSION: i64 = -32022;
/// A server that asks for another version, or for headers or capabilities, is a modern one.
const MODERN_ERRORS: &[i64] = &[-32020, -32021];

pub(crate) const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// 2026-07-28.
    Modern,
    /// A handshake first.
    Legacy,
    /// A stream first, then a handshake.
    Stream,
}

/// What a handshake came to.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// If the server keeps one.
    pub(crate) id: Option<HeaderValue>,
    pub(crate) version: String,
    /// Id of its last request. In a session no id stands for two requests: an answer that comes again,
    /// or to another of several at the same time, must not be taken for one that is waited for.
    last_id: Arc<AtomicU64>,
}

impl Session {
    /// One that was begun with the request `last_id`.
    pub(crate) fn new(id: Option<HeaderValue>, version: String, last_id: u64) -> Self {
        Self {
            id,
            version,
            last_id: Arc::new(AtomicU64::new(last_id)),
        }
    }

    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(version) = HeaderValue::from_str(&self.version) {
            headers.insert(VERSION_HEADER, version);
        }
        if let Some(id) = &self.id {
            headers.insert(SESSION_HEADER, id.clone());
        }
        headers
    }
}

fn client_info() -> Value {
    json!({"name": "freehold", "version": env!("CARGO_PKG_VERSION")})
}

fn capabilities(scope: &Scope<'_>) -> Value {
    match scope.options.elicit {
        Some(_) => json!({"elicitation": {"form": {"applyDefaults": true}}}),
        None => json!({}),
    }
}

/// A request of the stateless era: everything the server must know goes with it.
pub(crate) async fn ask_modern(
    scope: &mut Scope<'_>,
    method: &'static str,
    params: Params,
    name: Option<&str>,
    mut extra: HeaderMap,
) -> Result<Answered, Failure> {
    let id = scope.id();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": client_info(),
        "io.modelcontextprotocol/clientCapabilities": capabilities(scope),
        "progressToken": id,
    });
    let body = rpc::request(id, method, &params.with("_meta", &meta));
    extra.insert(VERSION_HEADER, HeaderValue::from_static(MODERN));
    extra.insert("mcp-method", HeaderValue::from_static(method));
    if let Some(name) = name {
        extra.insert("mcp-name", headers::value(name));
    }
    scope.exchange(method, id, body, extra).await
}

/// A request within a session.
pub(crate) async fn ask_legacy(
    scope: &mut Scope<'_>,
    session: &Session,
    method: &'static str,
    params: Params,
) -> Result<Answered, Failure> {
    let id = session.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    scope.last_id = id;
    let body = rpc::request(
        id,
        method,
        &params.with("_meta", &json!({"progressToken": id})),
    );
    let headers = session.headers();
    // Only a client that offers something is asked on the session's own stream.
    let asked = scope.options.elicit.is_some() && session.id.is_some() && method == "tools/call";
    let listening = match asked {
        true => scope.listen(headers.clone()).await,
        false => None,
    };
    let Some(stream) = listening else {
        return scope.exchange(method, id, body, headers).await;
    };
    let attend = scope.clone().attend(stream, headers.clone());
    tokio::select! {
        answered = scope.exchange(method, id, body, headers) => answered,
        () = attend => Err(Failure::malformed("no answer to a request")),
    }
}

/// Whether what came of a request means that the session is gone: then the server has not worked
/// on it.
pub(crate) fn session_lost(session: &Session, outcome: &Result<Answered, Failure>) -> bool {
    let (status, code) = match outcome {
        Ok(answered) => match &answered.reply {
            Reply::Error(error) => (answered.status, Some(error.code)),
            Reply::Result(_) => return false,
        },
        Err(Failure::Status(status)) => (status.code, None),
        Err(_) => return false,
    };
    session.id.is_some()
        && match status {
            StatusCode::NOT_FOUND => true,
            StatusCode::BAD_REQUEST => matches!(code, None | Some(-32000 | -32600)),
            _ => false,
        }
}

/// Asks a server what it speaks. Without an answer that says so it is taken for an older one.
pub(crate) async fn detect(scope: &mut Scope<'_>) -> Result<Era, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered {
        supported_versions: Vec<String>,
    }
    let whole = scope.deadline;
    scope.deadline = whole.within(scope.options.probe);
    let answered = ask_modern(
        scope,
        "server/discover",
        Params::default(),
        None,
        HeaderMap::new(),
    )
    .await;
    scope.deadline = whole;
    match answered {
        Ok(Answered { reply, .. }) => Ok(match reply {
            Reply::Result(result) => {
                let found: Result<Discovered, _> = serde_json::from_str(result.get());
                match found {
                    Ok(found) if found.supported_versions.iter().any(|v| v == MODERN) => {
                        Era::Modern
                    }
                    _ => Era::Legacy,
                }
            }
            Reply::Error(error) if error.code == UNSUPPORTED_VERSION => {
                let supported = error.data.as_ref().map(|data| &data["supported"]);
                let modern = supported
                    .and_then(Value::as_array)
                    .is_some_and(|versions| versions.iter().any(|v| v == MODERN));
                if modern { Era::Modern } else { Era::Legacy }
            }
            Reply::Error(error) if MODERN_ERRORS.contains(&error.code) => Era::Modern,
            Reply::Error(_) => Era::Legacy,
        }),
        Err(failure) if failure.is_authentication() => Err(failure),
        Err(Failure::Http(
            error @ (HttpError::Connect(_) | HttpError::Url(_) | HttpError::Redirect(_)),
        )) => Err(error.into()),
        Err(_) => Ok(Era::Legacy),
    }
}

/// Whether a refused handshake means that the server is of the oldest kind.
pub(crate) fn wants_stream(failure: &Failure) -> bool {
    matches!(failure, Failure::Status(status) if matches!(status.code.as_u16(), 400 | 404 | 405))
}

/// Parameters of `initialize`.
pub(crate) fn initialize(scope: &Scope<'_>) -> Params {
    Params::default()
        .with("protocolVersion", &LEGACY)
        .with("capabilities", &capabilities(scope))
        .with("clientInfo", &client_info())
}

/// The version that a server chose in its answer to `initialize`.
pub(crate) fn version(reply: Reply) -> Result<String, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Initialized {
        protocol_version: String,
    }
    let result = match reply {
        Reply::Result(result) => result,
        Reply::Error(error) => return Err(Failure::Rpc(error)),
    };
    let chosen: Initialized = serde_json::from_str(result.get())
        .map_err(|_| Failure::malformed("an answer to initialize without a version"))?;
    match LEGACY_KNOWN.contains(&chosen.protocol_version.as_str()) {
        true => Ok(chosen.protocol_version),
        false => Err(Failure::malformed(
            "a version of the protocol that is not supported",
        )),
    }
}

/// The handshake over streamable HTTP.
pub(crate) async fn handshake(scope: &mut Scope<'_>) -> Result<Session, Failure> {
    let id = scope.id();
    let body = rpc::request(id, "initialize", &initialize(scope));
    let answered = scope
        .exchange("initialize", id, body, HeaderMap::new())
        .await?;
    let session_id = answered.headers.get(SESSION_HEADER).cloned();
    let version = version(answered.reply)?;
    let session = Session::new(session_id.map(checked).transpose()?, version, id);
    let initialized = rpc::notification("notifications/initialized", None);
    scope.tell(initialized, session.headers()).await;
    Ok(session)
}

/// A session id goes back in every request: visible ASCII, at most 1 KiB.
fn checked(id: HeaderValue) -> Result<HeaderValue, Failure> {
    let bytes = id.as_bytes();
    let sound = (1..=MAX_SESSION_ID).contains(&bytes.len())
        && bytes.iter().all(|b| (0x21..=0x7e).contains(b));
    match sound {
        true => Ok(id),
        false => Err(Failure::malformed("a session id that breaks the rules")),
    }
}

/// Ends a session, if the server keeps one.
pub(crate) async fn end(scope: &Scope<'_>, session: &Session) {
    if session.id.is_none() {
        return;
    }
    let deadline = Deadline::new(scope.options.connect, scope.options.connect);
    let deleted = deadline
        .wait(scope.send(
            Method::DELETE,
            "application/json",
            session.headers(),
            bytes::Bytes::new(),
        ))
        .await;
    if let Err(error) = deleted {
        tracing::debug!(%error, "an MCP session was not ended");
    }
}
