//! The connector: what a server offers, and calls of it.

use std::sync::Arc;

use freehold_base::{RequestId, hex};
use http::HeaderMap;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::content::CallResult;
use crate::definition::Listing;
use crate::dial::Dial;
use crate::endpoint::Endpoint;
use crate::era::{self, Era};
use crate::error::McpError;
use crate::failure::Failure;
use crate::headers;
use crate::http::{Deadline, Http};
use crate::known::{Key, Known};
use crate::listing::Pages;
use crate::options::{MAX_REQUEST_STATE, MAX_ROUNDS, Options};
use crate::outcome::{ToolCall, ToolOutcome};
use crate::probe::Probe;
use crate::rpc::{self, Params, Reply, RpcError};
use crate::scope::{Answered, Scope};
use crate::stream::Stream;
use crate::target::Target;

/// Talks to MCP servers. Cheap to clone; clones share connections, sessions and what is known of
/// servers.
#[derive(Clone)]
pub struct Connector {
    http: Http,
    options: Arc<Options>,
    known: Arc<Known>,
}

impl Connector {
    /// A connector that connects through `dial`.
    pub fn new(dial: Arc<dyn Dial>, options: Options) -> Self {
        Self {
            http: Http::new(dial, options.connect),
            options: Arc::new(options),
            known: Arc::default(),
        }
    }

    /// The HTTP client below, for what goes with MCP: token endpoints, metadata.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The server's tools, from the cache if they were listed lately with this credential.
    ///
    /// # Errors
    /// [`McpError::Connection`], [`McpError::Authentication`], or [`McpError::Refused`] from a
    /// server that lists no tools.
    pub async fn list(&self, endpoint: &Endpoint) -> Result<Arc<Listing>, McpError> {
        let target = target(endpoint)?;
        match self.known.listing(&Key::of(endpoint, &target)) {
            Some(listing) => Ok(listing),
            None => self.refresh(endpoint).await,
        }
    }

    /// The server's tools, asked for anew.
    ///
    /// # Errors
    /// As [`Connector::list`].
    pub async fn refresh(&self, endpoint: &Endpoint) -> Result<Arc<Listing>, McpError> {
        let target = target(endpoint)?;
        let mut scope = self.scope(endpoint, &target, self.options.ids.next(), None);
        self.list_again(&mut scope)
            .await
            .map_err(|failure| failure.into_error(scope.bearer()))
    }

    /// Calls a tool. It is called at most once: after a failure the server may have run it, except
    /// that a request it refused because the session or the era was wrong is sent once more.
    ///
    /// # Errors
    /// [`McpError`]; a tool that fails is no error, but an outcome with `is_error`.
    pub async fn call(
        &self,
        endpoint: &Endpoint,
        call: &ToolCall,
        cancel: &CancellationToken,
    ) -> Result<ToolOutcome, McpError> {
        let target = target(endpoint)?;
        let arguments: Value = serde_json::from_str(call.arguments.get())
            .ok()
            .filter(Value::is_object)
            .ok_or_else(|| McpError::Refused("the arguments are not a JSON object".into()))?;
        let hash = hex::encode(Sha256::digest(call.arguments.get()));
        let tool = Some((call.name.as_str(), hash));
        let mut scope = self.scope(endpoint, &target, call.request_id.clone(), tool);
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            outcome = self.call_in(&mut scope, call, &arguments) => Some(outcome),
        };
        let Some(outcome) = outcome else {
            self.tell_cancelled(&scope).await;
            return Err(McpError::Cancelled);
        };
        if scope.list_changed {
            self.known.forget_listing(&Key::of(endpoint, &target));
        }
        outcome.map_err(|failure| {
            let open = scope.last_method == "tools/call" && failure.leaves_open();
            match failure.into_error(scope.bearer()) {
                McpError::Connection(why) if open => McpError::Unanswered(why),
                error => error,
            }
        })
    }

    /// Greets the server and lists its tools, past all that is cached.
    pub async fn probe(&self, endpoint: &Endpoint) -> Probe {
        let failed = |message: String| Probe::Failed {
            method: "initialize".into(),
            response: None,
            message,
            challenge: None,
        };
        let target = match Target::parse(&endpoint.url) {
            Ok(target) => target,
            Err(why) => return failed(why),
        };
        let mut scope = self.scope(endpoint, &target, self.options.ids.next(), None);
        self.known.forget_era(&Key::of(endpoint, &target));
        match self.list_again(&mut scope).await {
            Ok(_) => Probe::Works,
            Err(failure) => Probe::failed(scope.last_method, failure, scope.bearer()),
        }
    }

    /// Ends the older protocol's sessions of an owner, and forgets what was listed for it.
    pub async fn close(&self, owner: &str) {
        for (endpoint, session) in self.known.take_sessions(owner).await {
            let Ok(target) = Target::parse(&endpoint.url) else {
                continue;
            };
            let scope = self.scope(&endpoint, &target, self.options.ids.next(), None);
            era::end(&scope, &session).await;
        }
    }

    fn scope<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        target: &'a Target,
        request_id: RequestId,
        tool: Option<(&'a str, String)>,
    ) -> Scope<'a> {
        let options = &*self.options;
        Scope {
            http: &self.http,
            options,
            endpoint,
            target,
            request_id,
            tool,
            deadline: Deadline::new(options.call, options.call_with_progress),
            received: 0,
            list_changed: false,
            last_id: 0,
            last_method: "initialize",
        }
    }

    /// What the server speaks. It is asked if that is not known.
    async fn era(&self, scope: &mut Scope<'_>) -> Result<(Era, bool), Failure> {
        let key = Key::of(scope.endpoint, scope.target);
        if let Some(era) = self.known.era(&key) {
            return Ok((era, true));
        }
        let mut era = era::detect(scope).await?;
        if era == Era::Legacy
            && let Err(failure) = self.session(scope).await
        {
            if !era::wants_stream(&failure) {
                return Err(failure);
            }
            // The handshake's refusal says more than that of a stream nobody promised.
            if Stream::open(scope).await.is_err() {
                scope.last_method = "initialize";
                return Err(failure);
            }
            era = Era::Stream;
        }
        self.known.set_era(&key, era);
        Ok((era, false))
    }

    /// Before 2026, a connection that closes cancels nothing: the server is told. A server that
    /// answers on a stream is not, for its session ends with the stream.
    async fn tell_cancelled(&self, scope: &Scope<'_>) {
        let key = Key::of(scope.endpoint, scope.target);
        if scope.last_method != "tools/call" || self.known.era(&key) != Some(Era::Legacy) {
            return;
        }
        let slot = self.known.session(scope.endpoint, scope.target);
        let session = slot.lock().await.current.clone();
        if let Some(session) = session {
            let params = Params::default().with("requestId", &scope.last_id);
            let cancelled = rpc::notification("notifications/cancelled", Some(&params));
            scope.tell(cancelled, session.headers()).await;
        }
    }

    /// The owner's session, begun if there is none.
    async fn session(&self, scope: &mut Scope<'_>) -> Result<era::Session, Failure> {
        let slot = self.known.session(scope.endpoint, scope.target);
        let mut session = slot.lock().await;
        match &session.current {
            Some(session) => Ok(session.clone()),
            None => {
                let begun = era::handshake(scope).await?;
                session.current = Some(begun.clone());
                Ok(begun)
            }
        }
    }

    /// One request, in whichever era the server is of. What the server refused for being of the
    /// wrong era or session goes out once more.
    async fn ask(
        &self,
        scope: &mut Scope<'_>,
        method: &'static str,
        params: impl Fn() -> Params,
        header: Option<(&str, &HeaderMap)>,
    ) -> Result<Reply, Failure> {
        let (era, cached) = self.era(scope).await?;
        let outcome = self.ask_as(scope, era, method, &params, header).await;
        if !cached || !wrong_era(era, &outcome) {
            return outcome.map(|answered| answered.reply);
        }
        self.known
            .forget_era(&Key::of(scope.endpoint, scope.target));
        let (era, _) = self.era(scope).await?;
        let outcome = self.ask_as(scope, era, method, &params, header).await;
        outcome.map(|answered| answered.reply)
    }

    async fn ask_as(
        &self,
        scope: &mut Scope<'_>,
        era: Era,
        method: &'static str,
        params: &impl Fn() -> Params,
        header: Option<(&str, &HeaderMap)>,
    ) -> Result<Answered, Failure> {
        match era {
            Era::Modern => {
                let (name, extra) = header.unzip();
                let extra = extra.cloned().unwrap_or_default();
                era::ask_modern(scope, method, params(), name, extra).await
            }
            Era::Legacy => {
                let session = self.session(scope).await?;
                let outcome = era::ask_legacy(scope, &session, method, params()).await;
                if !era::session_lost(&session, &outcome) {
                    return outcome;
                }
                self.known
                    .lost(scope.endpoint, scope.target, &session)
                    .await;
                let session = self.session(scope).await?;
                era::ask_legacy(scope, &session, method, params()).await
            }
            Era::Stream => {
                let mut stream = Stream::open(scope).await?;
                stream.ask(scope, method, params()).await
            }
        }
    }

    async fn list_again(&self, scope: &mut Scope<'_>) -> Result<Arc<Listing>, Failure> {
        let mut pages = Pages::new(scope.bearer());
        let mut cursor = None;
        loop {
            let params = || cursor.clone().unwrap_or_default();
            let result = match self.ask(scope, "tools/list", params, None).await? {
                Reply::Result(result) => result,
                Reply::Error(error) => return Err(Failure::Rpc(error)),
            };
            cursor = pages.take(&result)?;
            if cursor.is_none() {
                break;
            }
        }
        let (listing, ttl) = pages.finish();
        let listing = Arc::new(listing);
        let key = Key::of(scope.endpoint, scope.target);
        let ttl = ttl.unwrap_or(self.options.ttl);
        self.known.set_listing(&key, listing.clone(), ttl);
        Ok(listing)
    }

    async fn call_in(
        &self,
        scope: &mut Scope<'_>,
        call: &ToolCall,
        arguments: &Value,
    ) -> Result<ToolOutcome, Failure> {
        let extra = self.param_headers(scope, call, arguments).await?;
        // The era and the schema are known by now; the tool's own time begins.
        scope.deadline = Deadline::new(self.options.call, self.options.call_with_progress);
        let (mut responses, mut state): Round = (None, None);
        for _ in 0..MAX_ROUNDS {
            let params = || {
                let mut params = Params::default()
                    .with("name", &call.name)
                    .with("arguments", &call.arguments);
                if let Some(responses) = &responses {
                    params = params.with("inputResponses", responses);
                }
                if let Some(state) = &state {
                    params = params.with("requestState", state);
                }
                params
            };
            let header = Some((call.name.as_str(), &extra));
            let result = match self.ask(scope, "tools/call", params, header).await? {
                Reply::Result(result) => result,
                Reply::Error(error) => return Err(Failure::Rpc(error)),
            };
            let result: CallResult = serde_json::from_str(result.get())
                .map_err(|_| Failure::malformed("a result that is none of a tool"))?;
            match result.result_type.as_deref() {
                None | Some("complete") => {
                    return Ok(ToolOutcome {
                        content: result.blocks(scope.bearer()),
                        is_error: result.is_error,
                        received: scope.received,
                    });
                }
                Some("input_required") => {
                    (responses, state) = answer_questions(scope, result)?;
                }
                Some(_) => return Err(Failure::malformed("a result of an unknown kind")),
            }
        }
        Err(Failure::Malformed(format!(
            "the server asked for input {MAX_ROUNDS} times and did not answer"
        )))
    }

    /// Headers that the tool's schema asks for. Only servers of the newest era read them.
    async fn param_headers(
        &self,
        scope: &mut Scope<'_>,
        call: &ToolCall,
        arguments: &Value,
    ) -> Result<HeaderMap, Failure> {
        let (era, _) = self.era(scope).await?;
        if era != Era::Modern {
            return Ok(HeaderMap::new());
        }
        if let Some(schema) = &call.input_schema {
            return Ok(headers::params(schema, arguments));
        }
        let listing = match self.known.listing(&Key::of(scope.endpoint, scope.target)) {
            Some(listing) => listing,
            None => self.list_again(scope).await?,
        };
        let tool = listing.tools.iter().find(|tool| tool.name == call.name);
        Ok(tool.map_or_else(HeaderMap::new, |tool| {
            headers::params(&tool.input_schema, arguments)
        }))
    }
}

/// What goes back with the next round: answers, and the server's state as it is.
type Round = (Option<Map<String, Value>>, Option<String>);

/// Answers what a server wants to know before it goes on.
fn answer_questions(scope: &Scope<'_>, result: CallResult) -> Result<Round, Failure> {
    let refuse = |message: &str| {
        Failure::Rpc(RpcError {
            code: -32021,
            message: message.into(),
            data: None,
        })
    };
    let questions = result.input_requests.unwrap_or_default();
    if questions.is_empty() && result.request_state.is_none() {
        return Err(Failure::malformed("a question without content"));
    }
    if result
        .request_state
        .as_ref()
        .is_some_and(|s| s.len() > MAX_REQUEST_STATE)
    {
        return Err(Failure::malformed("more state than can be carried"));
    }
    let mut responses = Map::new();
    for (key, question) in questions {
        if question["method"] != json!("elicitation/create") {
            return Err(refuse(
                "the server asked for what this client does not offer",
            ));
        }
        responses.insert(key, scope.elicit(&question["params"]));
    }
    let responses = (!responses.is_empty()).then_some(responses);
    Ok((responses, result.request_state))
}

/// Whether what came of a request says that the server no longer is of this era, and has not worked
/// on it.
fn wrong_era(era: Era, outcome: &Result<Answered, Failure>) -> bool {
    let (status, code) = match outcome {
        Ok(answered) => match &answered.reply {
            Reply::Error(error) => (answered.status.as_u16(), Some(error.code)),
            Reply::Result(_) => return false,
        },
        Err(Failure::Status(status)) => (status.code.as_u16(), None),
        Err(_) => return false,
    };
    match era {
        Era::Modern => {
            matches!(status, 400 | 404 | 405) && matches!(code, None | Some(-32000 | -32600))
                || code == Some(-32022)
        }
        Era::Legacy => code == Some(-32022) || matches!(status, 404 | 405),
        Era::Stream => matches!(status, 404 | 405),
    }
}

fn target(endpoint: &Endpoint) -> Result<Target, McpError> {
    Target::parse(&endpoint.url).map_err(McpError::Connection)
}
