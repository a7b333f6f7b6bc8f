//! A server that says what a test tells it to, byte for byte, and a connector that may reach it.
#![allow(dead_code)] // Each test binary uses its part.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::net::AddressPolicy;
use freehold_base::{IdSource, Secret};
use freehold_mcp::{
    Audit, AuditRecord, Connection, Connector, Destination, Dial, DialError, Direct, Endpoint,
    McpError, Options, ToolCall, ToolOutcome,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Got {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Value,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
    pub fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }
    pub fn result(&self, result: Value) -> Say {
        json(
            200,
            json!({"jsonrpc": "2.0", "id": self.body["id"], "result": result}),
        )
    }
    /// A result as it is written, escapes and all.
    pub fn written(&self, result: &str) -> Say {
        let id = &self.body["id"];
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        http(200, "Content-Type: application/json\r\n", body.as_bytes())
    }
    pub fn error(&self, status: u16, code: i64, message: &str) -> Say {
        let error = json!({"code": code, "message": message});
        json(
            status,
            json!({"jsonrpc": "2.0", "id": self.body["id"], "error": error}),
        )
    }
}

/// What to answer.
pub enum Say {
    /// These bytes; then the connection serves the next request.
    Bytes(Vec<u8>),
    /// These bytes, then the end.
    Close(Vec<u8>),
    /// These bytes, then nothing more, until the client goes away.
    Hang(Vec<u8>),
    /// These bytes, and those when the server's `go` says so; then the next request.
    Halves(Vec<u8>, Vec<u8>),
    /// A head, then a piece again and again, until the client goes away.
    Endless(Vec<u8>, Vec<u8>),
    /// The same, with a pause before each piece.
    Slow(Vec<u8>, Vec<u8>, Duration),
}

pub fn http(status: u16, headers: &str, body: &[u8]) -> Say {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
    Say::Bytes([head.as_bytes(), body].concat())
}

pub fn json(status: u16, body: Value) -> Say {
    http(
        status,
        "Content-Type: application/json\r\n",
        body.to_string().as_bytes(),
    )
}

pub const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";

pub fn stream(events: &[Value]) -> Say {
    let events: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    Say::Close(format!("{STREAM}{events}").into_bytes())
}

#[derive(Default)]
pub struct Server {
    pub url: String,
    pub seen: Arc<Mutex<Vec<Got>>>,
    pub connections: Arc<AtomicUsize>,
    pub go: Arc<Notify>,
}

impl Server {
    pub async fn start(script: impl Fn(&Got) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (connections, go) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let (script, log, count, may) = (
            Arc::new(script),
            seen.clone(),
            connections.clone(),
            go.clone(),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (script, log, may) = (script.clone(), log.clone(), may.clone());
                tokio::spawn(async move { serve(stream, &*script, &log, &may).await });
            }
        });
        Self {
            url,
            seen,
            connections,
            go,
        }
    }

    /// A modern server with one tool `t`, that answers calls as told.
    pub async fn modern(call: impl Fn(&Got) -> Say + Send + Sync + 'static) -> Self {
        Self::start(move |got| modern(got).unwrap_or_else(|| call(got))).await
    }

    pub fn methods(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|got| got.method().to_owned()).collect()
    }
}

/// What a modern server says to anything but a call.
pub fn modern(got: &Got) -> Option<Say> {
    match got.method() {
        "server/discover" => Some(got.result(json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
            "ttlMs": 0, "cacheScope": "private",
        }))),
        "tools/list" => Some(got.result(json!({
            "resultType": "complete", "tools": [{"name": "t", "inputSchema": {"type": "object"}}],
            "ttlMs": 60000, "cacheScope": "private",
        }))),
        _ => None,
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &(dyn Fn(&Got) -> Say + Sync),
    log: &Mutex<Vec<Got>>,
    go: &Notify,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(got) = read(&mut stream).await else {
            return;
        };
        log.lock().unwrap().push(got.clone());
        match script(&got) {
            Say::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Say::Close(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Say::Hang(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read_u8().await;
                return;
            }
            Say::Halves(first, second) => {
                let _ = stream.write_all(&first).await;
                go.notified().await;
                let _ = stream.write_all(&second).await;
            }
            Say::Endless(head, piece) => {
                let _ = stream.write_all(&head).await;
                while stream.write_all(&piece).await.is_ok() {}
                return;
            }
            Say::Slow(head, piece, pause) => {
                let _ = stream.write_all(&head).await;
                loop {
                    tokio::time::sleep(pause).await;
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn read(stream: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Got> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let form = || Value::String(String::from_utf8_lossy(&body).into_owned());
    Some(Got {
        line: lines[0].clone(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_else(|_| form()),
    })
}

/// A server at every address, over connections that are no sockets, so that a test may let time pass.
/// What is dialled is noted.
pub struct Memory {
    script: Arc<dyn Fn(&Got) -> Say + Send + Sync>,
    pub dialled: Mutex<Vec<Destination>>,
    pub seen: Arc<Mutex<Vec<Got>>>,
}

impl Memory {
    pub fn new(script: impl Fn(&Got) -> Say + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Arc::new(script),
            dialled: Mutex::default(),
            seen: Arc::default(),
        })
    }

    pub fn methods(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().map(|got| got.method().to_owned()).collect()
    }

    /// A connector with the limits that are documented.
    pub fn rig(self: &Arc<Self>, url: &str) -> Rig {
        rig_with(self.clone(), url, Options::default())
    }
}

#[async_trait]
impl Dial for Memory {
    async fn dial(&self, to: &Destination) -> Result<Connection, DialError> {
        self.dialled.lock().unwrap().push(to.clone());
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (script, seen) = (self.script.clone(), self.seen.clone());
        tokio::spawn(async move { serve(theirs, &*script, &seen, &Notify::new()).await });
        Ok(Box::new(ours))
    }
}

#[derive(Default)]
pub struct Records(pub Mutex<Vec<AuditRecord>>);

impl Audit for Records {
    fn record(&self, record: AuditRecord) {
        self.0.lock().unwrap().push(record);
    }
}

/// A connector that waits briefly and may reach the server.
pub struct Rig {
    pub connector: Connector,
    pub endpoint: Endpoint,
    pub records: Arc<Records>,
}

pub fn rig(server: &Server, wait: Duration) -> Rig {
    rig_allowing(server, &[], wait)
}

/// One that may reach other places as well.
pub fn rig_allowing(server: &Server, more: &[SocketAddr], wait: Duration) -> Rig {
    let address: SocketAddr = server.url[7..].trim_end_matches("/mcp").parse().unwrap();
    let all = [&[address], more].concat();
    let dial = Direct::new(AddressPolicy::allowing(all), None).unwrap();
    let options = Options {
        probe: wait,
        call: wait,
        call_with_progress: wait * 4,
        ..Options::default()
    };
    rig_with(Arc::new(dial), &server.url, options)
}

fn rig_with(dial: Arc<dyn Dial>, url: &str, options: Options) -> Rig {
    let records = Arc::new(Records::default());
    let options = Options {
        audit: records.clone(),
        ..options
    };
    let endpoint = Endpoint {
        workspace: IdSource::system().next(),
        owner: "owner".into(),
        url: url.into(),
        bearer: Some(Secret::new("bearer-of-secrets".into())),
    };
    Rig {
        connector: Connector::new(dial, options),
        endpoint,
        records,
    }
}

pub const LONG: Duration = Duration::from_secs(60);
pub const SHORT: Duration = Duration::from_millis(300);

impl Rig {
    pub async fn call(&self) -> Result<ToolOutcome, McpError> {
        self.call_with(&CancellationToken::new()).await
    }

    pub async fn call_with(&self, cancel: &CancellationToken) -> Result<ToolOutcome, McpError> {
        let call = tool_call();
        self.connector.call(&self.endpoint, &call, cancel).await
    }
}

/// A call of the tool `t`.
pub fn tool_call() -> ToolCall {
    ToolCall {
        name: "t".into(),
        arguments: serde_json::value::to_raw_value(&json!({"n": 1})).unwrap(),
        input_schema: None,
        request_id: IdSource::system().next(),
    }
}

pub fn text(outcome: &ToolOutcome) -> String {
    match &outcome.content[..] {
        [freehold_wire::content::ContentBlock::Text(text)] => text.text.clone(),
        other => panic!("not one text: {other:?}"),
    }
}
