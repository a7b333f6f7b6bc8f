//! A scripted MCP server, and a scripted Messages API that keeps what it is asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

pub const TOKEN: &str = "the-servers-own-token";

#[derive(Clone, Default)]
pub struct McpServer {
    pub url: String,
    /// Method, and the tool or null.
    pub seen: Arc<Mutex<Vec<(String, Value)>>>,
    /// A call of `hang` has come; it is cancelled.
    pub hanging: Arc<Notify>,
    pub cancelled: Arc<Notify>,
    needs_token: bool,
}

async fn bound(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

impl McpServer {
    pub async fn start() -> Self {
        Self::with(false).await
    }

    /// One that wants [`TOKEN`].
    pub async fn with(needs_token: bool) -> Self {
        let mut server = Self {
            needs_token,
            ..Self::default()
        };
        let router = Router::new()
            .route("/mcp", post(Self::answer))
            .with_state(server.clone());
        server.url = format!("{}/mcp", bound(router).await);
        server
    }

    pub fn methods(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|(method, _)| method.clone()).collect()
    }

    pub fn calls(&self) -> usize {
        self.methods().iter().filter(|m| *m == "tools/call").count()
    }

    async fn answer(State(server): State<Self>, headers: HeaderMap, body: Bytes) -> Response {
        let shown = headers
            .get("authorization")
            .map_or("", |v| v.to_str().unwrap());
        if server.needs_token && shown != format!("Bearer {TOKEN}") {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let message: Value = serde_json::from_slice(&body).unwrap();
        let method = message["method"].as_str().unwrap().to_owned();
        let (params, id) = (&message["params"], &message["id"]);
        let seen = (method.clone(), params["name"].clone());
        server.seen.lock().unwrap().push(seen);
        if method == "notifications/cancelled" {
            server.cancelled.notify_one();
        }
        if id.is_null() {
            return StatusCode::ACCEPTED.into_response();
        }
        let result = match method.as_str() {
            "initialize" => json!({"protocolVersion": "2025-06-18",
                "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}}),
            "tools/list" => {
                let tool = |name: &str, description: &str| {
                    json!({"name": name, "description": description,
                        "inputSchema": {"type": "object"}})
                };
                json!({"tools": [tool("add", "Adds two numbers."), tool("echo", "Says it back."),
                    tool("picture", "A picture."), tool("fail", "Fails."), tool("hang", "Hangs.")]})
            }
            "tools/call" => server.call(params, shown).await,
            _ => {
                let error = json!({"code": -32601, "message": "no such method"});
                let body = json!({"jsonrpc": "2.0", "id": id, "error": error});
                return axum::Json(body).into_response();
            }
        };
        axum::Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response()
    }

    async fn call(&self, params: &Value, shown: &str) -> Value {
        let text = |text: String| json!({"content": [{"type": "text", "text": text}]});
        let arguments = &params["arguments"];
        match params["name"].as_str().unwrap() {
            "add" => {
                let sum = arguments["a"].as_i64().unwrap() + arguments["b"].as_i64().unwrap();
                text(sum.to_string())
            }
            "echo" if arguments["chars"].is_u64() => {
                text("é".repeat(arguments["chars"].as_u64().unwrap() as usize))
            }
            "echo" => text(format!("{shown} said {arguments}")),
            "picture" => {
                json!({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]})
            }
            "hang" => {
                self.hanging.notify_one();
                std::future::pending().await
            }
            _ => {
                let content = json!([{"type": "text", "text": "it went wrong"}]);
                json!({"content": content, "isError": true})
            }
        }
    }
}

type Answering = dyn Fn(&Asked) -> Response + Send + Sync;

/// A request as a server of a test's own sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub at: String,
    /// `Host`.
    pub host: String,
    /// `Authorization`; empty without one.
    pub shown: String,
    /// The body, if it is JSON; otherwise its text.
    pub body: Value,
}

impl Asked {
    pub fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }
    /// The tool that is called, if one is.
    pub fn tool(&self) -> &str {
        let called = self.method() == "tools/call";
        let name = self.body["params"]["name"].as_str();
        name.filter(|_| called).unwrap_or_default()
    }
    pub fn result(&self, result: Value) -> Response {
        axum::Json(json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result}))
            .into_response()
    }
    /// A result of text.
    pub fn says(&self, text: &str) -> Response {
        self.result(json!({"content": [{"type": "text", "text": text}]}))
    }
    /// A list of these tools, each with a description.
    pub fn lists(&self, tools: &[(&str, &str)]) -> Response {
        let tools = tools.iter().map(|(name, description)| {
            json!({"name": name, "description": description, "inputSchema": {"type": "object"}})
        });
        self.result(json!({"tools": tools.collect::<Vec<_>>()}))
    }
}

/// A server on loopback that answers what a test says, whatever the path, and keeps what it is asked.
#[derive(Clone)]
pub struct Hostile {
    pub url: String,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Answering>,
}

impl Hostile {
    pub async fn start(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let mut server = Self {
            url: String::new(),
            asked: Arc::default(),
            answer: Arc::new(answer),
        };
        let router = Router::new()
            .fallback(Self::answer)
            .with_state(server.clone());
        server.url = format!("{}/mcp", bound(router).await);
        server
    }

    /// One that lists these tools and answers each call with `called`.
    pub async fn with(
        tools: &'static [(&'static str, &'static str)],
        called: impl Fn(&Asked) -> Response + Send + Sync + 'static,
    ) -> Self {
        Self::start(move |asked| match asked.method() {
            "tools/list" => asked.lists(tools),
            "tools/call" => called(asked),
            _ => discovered(asked),
        })
        .await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Names of the tools that were called.
    pub fn called(&self) -> Vec<String> {
        let asked = self.asked();
        let called = asked.iter().filter(|a| a.method() == "tools/call");
        called.map(|a| a.tool().to_owned()).collect()
    }

    async fn answer(
        State(server): State<Self>,
        uri: http::Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let header = |name: &str| {
            let value = headers.get(name).and_then(|v| v.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let asked = Asked {
            at: uri.to_string(),
            host: header("host"),
            shown: header("authorization"),
            body: serde_json::from_slice(&body).unwrap_or_else(|_| text()),
        };
        server.asked.lock().unwrap().push(asked.clone());
        (server.answer)(&asked)
    }
}

/// What a server of the newest revision says of itself.
pub fn discovered(asked: &Asked) -> Response {
    asked.result(json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}))
}

/// A Messages API that gives the scripted answers one after another.
#[derive(Clone, Default)]
pub struct Model {
    pub url: String,
    answers: Arc<Mutex<Vec<String>>>,
    pub asked: Arc<Mutex<Vec<Value>>>,
    pub betas: Arc<Mutex<Vec<String>>>,
}

impl Model {
    /// Each answer is its blocks and its stop reason.
    pub async fn start(answers: &[(Value, &str)]) -> Self {
        let mut model = Self::default();
        let answers = answers.iter().rev();
        *model.answers.lock().unwrap() = answers.map(|(b, stop)| answer(b, stop)).collect();
        let router = Router::new()
            .route("/v1/messages", post(Self::answer))
            .with_state(model.clone());
        model.url = bound(router).await;
        model
    }

    pub fn asked(&self, n: usize) -> Value {
        self.asked.lock().unwrap()[n].clone()
    }

    async fn answer(State(model): State<Self>, headers: HeaderMap, body: Bytes) -> Response {
        let asked = serde_json::from_slice(&body).unwrap();
        model.asked.lock().unwrap().push(asked);
        let betas = headers.get_all("anthropic-beta").iter();
        let betas = betas.map(|v| v.to_str().unwrap().to_owned());
        model.betas.lock().unwrap().extend(betas);
        let answer = model.answers.lock().unwrap().pop().unwrap();
        ([("content-type", "text/event-stream")], answer).into_response()
    }
}

fn answer(blocks: &Value, stop: &str) -> String {
    let mut events = vec![json!({"type": "message_start", "message": {"id": "msg_up",
        "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 3}, "service_tier": "standard"}}})];
    for (index, block) in blocks.as_array().unwrap().iter().enumerate() {
        let (mut start, mut delta) = (block.clone(), None);
        if block["type"] == "tool_use" {
            start["input"] = json!({});
            let partial = block["input"].to_string();
            delta = Some(json!({"type": "input_json_delta", "partial_json": partial}));
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        let delta =
            delta.map(|d| json!({"type": "content_block_delta", "index": index, "delta": d}));
        events.extend(delta);
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": stop,
        "stop_sequence": null}, "usage": {"output_tokens": 5}}),
    );
    events.push(json!({"type": "message_stop"}));
    let frame = |e: Value| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap());
    events.into_iter().map(frame).collect()
}

/// A Chat Completions endpoint that calls `demo_add` once and then says what it was given.
pub async fn chat() -> String {
    async fn answer(body: Bytes) -> Response {
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let last = asked["messages"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()
            .clone();
        let (delta, finish) = if last["role"] == "tool" {
            (
                json!({"content": format!("it is {}", last["content"].as_str().unwrap())}),
                "stop",
            )
        } else {
            assert_eq!(asked["tools"][0]["function"]["name"], "demo_add");
            let function = json!({"name": "demo_add", "arguments": "{\"a\":2,\"b\":3}"});
            let call =
                json!({"index": 0, "id": "call_1", "type": "function", "function": function});
            (json!({"tool_calls": [call]}), "tool_calls")
        };
        let chunk = |delta: Value, finish: Value| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            format!("data: {}\n\n", json!({"id": "c", "choices": [choice]}))
        };
        let mut answer = chunk(delta, Value::Null) + &chunk(json!({}), json!(finish));
        answer.push_str("data: [DONE]\n\n");
        ([("content-type", "text/event-stream")], answer).into_response()
    }
    bound(Router::new().route("/v1/chat/completions", post(answer))).await
}
