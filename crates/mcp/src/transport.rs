//! Streamable HTTP for rmcp, on our own HTTP layer. What is read here is hostile: sizes, types and
//! ids of sessions are checked before rmcp sees them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use freehold_base::WorkspaceId;
use futures_util::stream::BoxStream;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ErrorData, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::Sse;

use crate::Options;
use crate::client::RequestName;
use crate::events::events;
use crate::http::{Http, HttpError, content_type, failed, read};

/// Longest session id a server may give, bytes; visible ASCII only.
const MAX_SESSION_ID: usize = 1_024;
const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The HTTP side of one client of one server.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) http: Http,
    pub(crate) workspace: WorkspaceId,
    pub(crate) options: Options,
}

type Failed = StreamableHttpError<HttpError>;
type Stream = BoxStream<'static, Result<Sse, sse_stream::Error>>;

impl Transport {
    /// A request with what every one carries.
    fn request(
        method: Method,
        uri: &str,
        session: Option<&str>,
        bearer: Option<&str>,
        custom: HashMap<HeaderName, HeaderValue>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failed> {
        let unusable = |what: &str| Failed::Client(HttpError::Unusable(what.to_owned()));
        let mut headers: HeaderMap = custom.into_iter().collect();
        headers.insert(ACCEPT, BOTH);
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        if let Some(id) = session {
            let id =
                HeaderValue::from_str(id).map_err(|_| unusable("the session id is unusable"))?;
            headers.insert(SESSION_ID, id);
        }
        if let Some(token) = bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| unusable("the credential cannot be put into a header"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri
            .parse()
            .map_err(|_| unusable("the URL cannot be used"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failed> {
        let patience = self.options.call_total;
        let sent = self.http.send(&self.workspace, request, patience).await;
        sent.map_err(Failed::Client)
    }

    fn stream(&self, body: Incoming) -> Stream {
        events(body, self.options.max_event, self.options.max_stream)
    }
}

impl StreamableHttpClient for Transport {
    type Error = HttpError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        bearer: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Failed> {
        let body = serde_json::to_vec(&message)?;
        let mut custom = custom;
        if let Some(id) = request_name(&message) {
            custom.insert(REQUEST_ID, id);
        }
        let attached = session.is_some();
        let request = Self::request(
            Method::POST,
            &uri,
            session.as_deref(),
            bearer.as_deref(),
            custom,
            body.into(),
        )?;
        let response = self.send(request).await?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::NOT_FOUND && attached {
            return Err(Failed::SessionExpired);
        }
        if !status.is_success() {
            return refused(response, &message, attached).await;
        }
        let expects_answer = matches!(message, ClientJsonRpcMessage::Request(_));
        let id = session_id(&response)?;
        match content_type(&response).as_deref() {
            _ if !expects_answer => Ok(StreamableHttpPostResponse::Accepted),
            Some(EVENTS) => {
                let stream = self.stream(response.into_body());
                Ok(StreamableHttpPostResponse::Sse(stream, id))
            }
            Some(JSON) => {
                let max = self.options.max_json;
                let body = read(response.into_body(), max)
                    .await
                    .map_err(Failed::Client)?;
                let parsed = serde_json::from_slice(&body).map_err(|_| {
                    Failed::Client(HttpError::Unusable("the answer is not JSON-RPC".to_owned()))
                })?;
                Ok(StreamableHttpPostResponse::Json(parsed, id))
            }
            _ => Err(Failed::Client(HttpError::Unusable(
                "the answer is neither JSON nor an event stream".to_owned(),
            ))),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        bearer: Option<String>,
        custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failed> {
        let request = Self::request(
            Method::DELETE,
            &uri,
            Some(&session),
            bearer.as_deref(),
            custom,
            Bytes::new(),
        )?;
        // Whatever the server says of it: we do not come back.
        self.send(request).await.map(drop)
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        bearer: Option<String>,
        mut custom: HashMap<HeaderName, HeaderValue>,
    ) -> Result<Stream, Failed> {
        if let Some(Ok(id)) = last_event.map(|id| HeaderValue::from_str(&id)) {
            custom.insert(LAST_EVENT_ID, id);
        }
        let request = Self::request(
            Method::GET,
            &uri,
            session.as_deref(),
            bearer.as_deref(),
            custom,
            Bytes::new(),
        )?;
        let response = self.send(request).await?;
        match (response.status(), content_type(&response).as_deref()) {
            (StatusCode::METHOD_NOT_ALLOWED, _) => Err(Failed::ServerDoesNotSupportSse),
            (status, Some(EVENTS)) if status.is_success() => Ok(self.stream(response.into_body())),
            (status, _) if status.is_success() => Err(Failed::UnexpectedContentType(None)),
            _ => Err(Failed::Client(failed(response).await)),
        }
    }
}

/// The name a call goes by in our records.
fn request_name(message: &ClientJsonRpcMessage) -> Option<HeaderValue> {
    let ClientJsonRpcMessage::Request(request) = message else {
        return None;
    };
    let ClientRequest::CallToolRequest(call) = &request.request else {
        return None;
    };
    let RequestName(id) = call.extensions.get()?;
    HeaderValue::from_str(id.as_str()).ok()
}

/// An answer that is no success: a JSON-RPC error is one of the protocol, and a rejected
/// `server/discover` tells the era, whatever its body.
async fn refused(
    response: Response<Incoming>,
    message: &ClientJsonRpcMessage,
    attached: bool,
) -> Result<StreamableHttpPostResponse, Failed> {
    let status = response.status();
    let error = failed(response).await;
    let auth = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let (ClientJsonRpcMessage::Request(request), HttpError::Status { body, .. }, false) =
        (message, &error, auth)
    else {
        return Err(Failed::Client(error));
    };
    let said = match serde_json::from_str(body) {
        Ok(ServerJsonRpcMessage::Error(said)) => Some(said.error),
        _ => None,
    };
    let probe = matches!(request.request, ClientRequest::DiscoverRequest(_));
    let said = match said {
        None if probe && !attached && status.is_client_error() => {
            let text = format!("server/discover was answered with HTTP {status}");
            Some(ErrorData::invalid_request(text, None))
        }
        said => said,
    };
    match said {
        // Middleware cannot echo the id; the answer is to this request all the same.
        Some(said) => Ok(StreamableHttpPostResponse::Json(
            ServerJsonRpcMessage::error(said, Some(request.id.clone())),
            None,
        )),
        None => Err(Failed::Client(error)),
    }
}

fn session_id(response: &Response<Incoming>) -> Result<Option<String>, Failed> {
    let Some(id) = response.headers().get(SESSION_ID) else {
        return Ok(None);
    };
    let id = id.to_str().ok().filter(|id| {
        (1..=MAX_SESSION_ID).contains(&id.len()) && id.bytes().all(|c| c.is_ascii_graphic())
    });
    match id {
        Some(id) => Ok(Some(id.to_owned())),
        None => Err(Failed::Client(HttpError::Unusable(
            "the server's session id is not visible ASCII of at most 1024 characters".to_owned(),
        ))),
    }
}
