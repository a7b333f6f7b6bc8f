//! One piece of work for one caller, and the requests it takes: each is sent with the caller's
//! credential, timed, and recorded.

use std::time::Duration;

use bytes::Bytes;
use freehold_base::RequestId;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::failure::{Failure, Status};
use crate::http::{Deadline, Http, HttpError, Response};
use crate::mask;
use crate::options::{MAX_CALL, MAX_ERROR, MAX_MESSAGE, MAX_RESUMES, Options};
use crate::recording::Recording;
use crate::rpc::{self, Message, Reply};
use crate::sse::Decoder;
use crate::target::Target;

const BOTH: &str = "application/json, text/event-stream";
pub(crate) const STREAM: &str = "text/event-stream";
/// Longest wait before a stream is resumed, whatever the server says.
const MAX_RETRY: Duration = Duration::from_secs(30);
/// Longest wait for a server to take a message that has no answer.
const CONTROL: Duration = Duration::from_secs(5);

/// For whom, where, and what is known of it so far.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    pub(crate) http: &'a Http,
    pub(crate) options: &'a Options,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) target: &'a Target,
    pub(crate) request_id: RequestId,
    /// The tool and the hash of its arguments, if one is called.
    pub(crate) tool: Option<(&'a str, String)>,
    pub(crate) deadline: Deadline,
    /// Bytes received.
    pub(crate) received: u64,
    /// The server says that its tools are no longer the ones it listed.
    pub(crate) list_changed: bool,
    /// Id of the last request.
    pub(crate) last_id: u64,
    pub(crate) last_method: &'static str,
}

/// An answer, and what came with it.
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

impl<'a> Scope<'a> {
    /// Sends a request and waits for its answer.
    pub(crate) async fn exchange(
        &mut self,
        method: &'static str,
        id: u64,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Answered, Failure> {
        let mut record = Recording::start(self, method, body.len());
        self.last_method = method;
        let before = self.received;
        let answered = self.post_and_read(id, body, headers).await;
        record.end(&answered, self.received - before);
        answered
    }

    async fn post_and_read(
        &mut self,
        id: u64,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Answered, Failure> {
        let deadline = self.deadline;
        let mut response = deadline
            .wait(self.send(Method::POST, BOTH, headers.clone(), body))
            .await?;
        let status = response.status;
        let kind = response.media_type();
        if !status.is_success() {
            return self.refusal(response, id).await;
        }
        let reply = match kind.as_str() {
            "application/json" => {
                let body = deadline.wait(response.read_all(MAX_MESSAGE)).await;
                self.count(response.received)?;
                match rpc::read(&body?, id, false) {
                    Ok(Message::Reply(reply)) => reply,
                    _ => return Err(Failure::malformed("an answer that is not JSON-RPC")),
                }
            }
            STREAM => {
                let known = response.headers.clone();
                let reply = self.read_streams(response, id, &headers).await?;
                return Ok(Answered {
                    reply,
                    status,
                    headers: known,
                });
            }
            _ if status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT => {
                return Err(Failure::malformed("no answer to a request"));
            }
            other => {
                let other = mask::clean(other, 60);
                return Err(Failure::Malformed(format!(
                    "the server sent {other:?} instead of JSON or an event stream"
                )));
            }
        };
        Ok(Answered {
            reply,
            status,
            headers: response.headers,
        })
    }

    /// An answer with an error's status: a JSON-RPC error, or only the status.
    async fn refusal(&mut self, mut response: Response, id: u64) -> Result<Answered, Failure> {
        let status = response.status;
        let deadline = self.deadline;
        let read = deadline.wait(response.read_up_to(MAX_ERROR)).await;
        self.count(response.received)?;
        let (body, truncated) = read?;
        let auth = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if !auth
            && !truncated
            && let Ok(Message::Reply(reply @ Reply::Error(_))) = rpc::read(&body, id, true)
        {
            return Ok(Answered {
                reply,
                status,
                headers: response.headers,
            });
        }
        Err(Failure::Status(Box::new(Status::of(
            &response, &body, truncated,
        ))))
    }

    /// Reads a stream until the answer is there; goes back for the rest if the server lets us.
    async fn read_streams(
        &mut self,
        mut response: Response,
        id: u64,
        headers: &HeaderMap,
    ) -> Result<Reply, Failure> {
        let mut decoder = Decoder::default();
        for left in (0..=MAX_RESUMES).rev() {
            match self
                .read_stream(&mut response, &mut decoder, id, headers)
                .await
            {
                Ok(Some(reply)) => {
                    response.finish();
                    return Ok(reply);
                }
                Ok(None) | Err(Failure::Http(HttpError::Broken)) => {}
                Err(failure) => return Err(failure),
            }
            let (Some(last), wait) = (decoder.last_id.clone(), decoder.retry) else {
                break;
            };
            if left == 0 {
                break;
            }
            let wait = Duration::from_millis(wait.unwrap_or(1000)).min(MAX_RETRY);
            let deadline = self.deadline;
            let mut again = headers.clone();
            if let Ok(last) = HeaderValue::from_str(&last) {
                again.insert(HeaderName::from_static("last-event-id"), last);
            }
            again.remove(CONTENT_TYPE);
            response = deadline
                .wait(async {
                    tokio::time::sleep(wait).await;
                    self.send(Method::GET, STREAM, again, Bytes::new())
                        .await
                        .map_err(Failure::from)
                })
                .await?;
            if !response.status.is_success() || response.media_type() != STREAM {
                break;
            }
            decoder = decoder.resumed();
        }
        Err(Failure::malformed("a stream that ended before the answer"))
    }

    async fn read_stream(
        &mut self,
        response: &mut Response,
        decoder: &mut Decoder,
        id: u64,
        headers: &HeaderMap,
    ) -> Result<Option<Reply>, Failure> {
        let mut events = Vec::new();
        loop {
            let before = response.received;
            let deadline = self.deadline;
            let chunk = deadline.wait(response.chunk()).await?;
            self.count(response.received - before)?;
            let Some(chunk) = chunk else {
                return Ok(None);
            };
            decoder
                .feed(&chunk, &mut events)
                .map_err(|_| Failure::Http(HttpError::TooLarge))?;
            for event in events.drain(..) {
                if event.name != "message" || event.data.trim().is_empty() {
                    continue;
                }
                match rpc::read(event.data.as_bytes(), id, false) {
                    Ok(Message::Reply(reply)) => return Ok(Some(reply)),
                    Ok(message) => {
                        if let Some(body) = self.react(message, id) {
                            self.tell(body, headers.clone()).await;
                        }
                    }
                    Err(_) => {
                        return Err(Failure::malformed("an event that is not JSON-RPC"));
                    }
                }
            }
        }
    }

    /// Opens a session's own stream, on which a server may ask what belongs to no request.
    pub(crate) async fn listen(&self, headers: HeaderMap) -> Option<Response> {
        let opened = self.send(Method::GET, STREAM, headers, Bytes::new());
        let response = self.deadline.within(CONTROL).wait(opened).await.ok()?;
        (response.status.is_success() && response.media_type() == STREAM).then_some(response)
    }

    /// Answers what comes on such a stream. Does not end.
    pub(crate) async fn attend(mut self, mut response: Response, headers: HeaderMap) {
        let mut decoder = Decoder::default();
        // No request has this id.
        let ended = self
            .read_stream(&mut response, &mut decoder, 0, &headers)
            .await;
        tracing::debug!(failed = ended.is_err(), "a session's own stream ended");
        std::future::pending().await
    }

    /// Takes note of a message that is no answer; gives what to say to it.
    pub(crate) fn react(&mut self, message: Message, id: u64) -> Option<Bytes> {
        match message {
            Message::Notification { method, params } => {
                match method.as_str() {
                    "notifications/progress" if params["progressToken"] == json!(id) => {
                        self.deadline.extend();
                    }
                    "notifications/tools/list_changed" => self.list_changed = true,
                    _ => {}
                }
                None
            }
            Message::Request { id, method, params } => {
                let answer = match method.as_str() {
                    "ping" => Ok(json!({})),
                    "elicitation/create" => Ok(self.elicit(&params)),
                    _ => Err((-32601, "this client does not offer that")),
                };
                Some(rpc::response(&id, answer))
            }
            Message::Reply(_) | Message::Unrelated => None,
        }
    }

    /// What to say to a question for a person.
    pub(crate) fn elicit(&self, params: &Value) -> Value {
        match &self.options.elicit {
            Some(elicit) => elicit.elicit(params),
            None => json!({"action": "decline"}),
        }
    }

    /// Sends a message that has no answer. That it arrives is not certain.
    pub(crate) async fn tell(&self, body: Bytes, headers: HeaderMap) {
        let told = self
            .deadline
            .within(CONTROL)
            .wait(async {
                let mut response = self.send(Method::POST, BOTH, headers, body).await?;
                response.read_up_to(MAX_ERROR).await
            })
            .await;
        if let Err(error) = told {
            tracing::debug!(%error, "an MCP server did not take a message");
        }
    }

    /// Sends a request of ours; the credential goes to the endpoint's origin only.
    pub(crate) async fn send(
        &self,
        method: Method,
        accept: &'static str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, HttpError> {
        self.send_to(self.target, method, accept, headers, body)
            .await
    }

    /// The same to another path of the same origin.
    pub(crate) async fn send_to(
        &self,
        target: &Target,
        method: Method,
        accept: &'static str,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response, HttpError> {
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let id = HeaderValue::from_str(self.request_id.as_ref()).expect("ids are ASCII");
        headers.insert(HeaderName::from_static("x-request-id"), id);
        if let Some(bearer) = &self.endpoint.bearer {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose()))
                .map_err(|_| HttpError::Url("the credential cannot be sent in a header".into()))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        self.http
            .send(&self.endpoint.workspace, target, method, headers, body)
            .await
    }

    /// Counts what was received.
    pub(crate) fn count(&mut self, bytes: u64) -> Result<(), Failure> {
        self.received += bytes;
        match self.received > MAX_CALL {
            true => Err(Failure::Http(HttpError::TooLarge)),
            false => Ok(()),
        }
    }

    /// The id of the next request.
    pub(crate) fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// The credential, for masking.
    pub(crate) fn bearer(&self) -> Option<&'a str> {
        self.endpoint.bearer.as_ref().map(|b| b.expose().as_str())
    }
}
