//! The oldest transport: answers come on one stream, requests go to the endpoint it names. A stream
//! lives for one piece of work; servers that keep state for each stream keep none for us.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;

use crate::era::{self, Session};
use crate::failure::{Failure, Status};
use crate::http::{HttpError, Response};
use crate::options::MAX_ERROR;
use crate::recording::Recording;
use crate::rpc::{self, Message, Params, Reply};
use crate::scope::{Answered, STREAM, Scope};
use crate::sse::{Decoder, Event};
use crate::target::Target;

/// An open stream, the handshake done.
pub(crate) struct Stream {
    response: Response,
    decoder: Decoder,
    waiting: std::collections::VecDeque<Event>,
    endpoint: Target,
    headers: HeaderMap,
}

impl Stream {
    pub(crate) async fn open(scope: &mut Scope<'_>) -> Result<Self, Failure> {
        let deadline = scope.deadline;
        let mut response = deadline
            .wait(scope.send(Method::GET, STREAM, HeaderMap::new(), Bytes::new()))
            .await?;
        if response.status != StatusCode::OK || response.media_type() != STREAM {
            let (body, cut) = deadline.wait(response.read_up_to(MAX_ERROR)).await?;
            return Err(match response.status.is_success() {
                true => Failure::malformed("no stream to a request for one"),
                false => Failure::Status(Box::new(Status::of(&response, &body, cut))),
            });
        }
        let mut stream = Self {
            response,
            decoder: Decoder::default(),
            waiting: std::collections::VecDeque::new(),
            endpoint: scope.target.clone(),
            headers: HeaderMap::new(),
        };
        let first = stream.event(scope).await?;
        if first.name != "endpoint" {
            return Err(Failure::malformed("a stream that names no endpoint"));
        }
        stream.endpoint = scope
            .target
            .join(first.data.trim())
            .map_err(Failure::Malformed)?;
        let reply = stream
            .ask(scope, "initialize", era::initialize(scope))
            .await?
            .reply;
        // Its ids are those of this piece of work, which the stream does not outlive.
        let session = Session::new(None, era::version(reply)?, scope.last_id);
        stream.headers = session.headers();
        let initialized = rpc::notification("notifications/initialized", None);
        stream.post(scope, initialized).await?;
        Ok(stream)
    }

    /// A request over the stream.
    pub(crate) async fn ask(
        &mut self,
        scope: &mut Scope<'_>,
        method: &'static str,
        params: Params,
    ) -> Result<Answered, Failure> {
        let id = scope.id();
        let params = match method {
            "initialize" => params,
            _ => params.with("_meta", &json!({"progressToken": id})),
        };
        let body = rpc::request(id, method, &params);
        let mut record = Recording::start(scope, method, body.len());
        scope.last_method = method;
        let before = scope.received;
        let answered = self.post_and_read(scope, id, body).await;
        record.end(&answered, scope.received - before);
        answered
    }

    async fn post_and_read(
        &mut self,
        scope: &mut Scope<'_>,
        id: u64,
        body: Bytes,
    ) -> Result<Answered, Failure> {
        self.post(scope, body).await?;
        let reply = self.reply(scope, id).await?;
        Ok(Answered {
            reply,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
        })
    }

    async fn reply(&mut self, scope: &mut Scope<'_>, id: u64) -> Result<Reply, Failure> {
        loop {
            let event = self.event(scope).await?;
            if event.name != "message" || event.data.trim().is_empty() {
                continue;
            }
            match rpc::read(event.data.as_bytes(), id, false) {
                Ok(Message::Reply(reply)) => return Ok(reply),
                Ok(message) => {
                    if let Some(body) = scope.react(message, id) {
                        self.post(scope, body).await?;
                    }
                }
                Err(_) => return Err(Failure::malformed("an event that is not JSON-RPC")),
            }
        }
    }

    async fn post(&self, scope: &Scope<'_>, body: Bytes) -> Result<(), Failure> {
        let headers = self.headers.clone();
        let post = async {
            let mut response = scope
                .send_to(
                    &self.endpoint,
                    Method::POST,
                    "application/json",
                    headers,
                    body,
                )
                .await?;
            let (body, cut) = response.read_up_to(MAX_ERROR).await?;
            match response.status.is_success() {
                true => Ok(()),
                false => Err(Failure::Status(Box::new(Status::of(&response, &body, cut)))),
            }
        };
        scope.deadline.wait(post).await
    }

    async fn event(&mut self, scope: &mut Scope<'_>) -> Result<Event, Failure> {
        let mut events = Vec::new();
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let before = self.response.received;
            let deadline = scope.deadline;
            let chunk = deadline.wait(self.response.chunk()).await?;
            scope.count(self.response.received - before)?;
            let chunk =
                chunk.ok_or_else(|| Failure::malformed("a stream that ended before the answer"))?;
            self.decoder
                .feed(&chunk, &mut events)
                .map_err(|_| Failure::Http(HttpError::TooLarge))?;
            self.waiting.extend(events.drain(..));
        }
    }
}
