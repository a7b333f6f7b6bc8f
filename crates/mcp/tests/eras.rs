//! Servers of each era, as they are met: what they speak is found out, sessions are kept apart.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Got, LONG, Rig, STREAM, Say, Server, http, json, rig, text};
use freehold_base::Secret;
use freehold_mcp::{AuditOutcome, McpError, Probe, ToolCall};
use serde_json::{Value, json as value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn initialized(got: &Got, session: &str) -> Say {
    let body = value!({"jsonrpc": "2.0", "id": got.body["id"],
        "result": {"protocolVersion": "2025-06-18", "capabilities": {}}});
    let head = format!("Content-Type: application/json\r\nMcp-Session-Id: {session}\r\n");
    http(200, &head, body.to_string().as_bytes())
}

fn tools(got: &Got) -> Say {
    got.result(value!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}))
}

/// A server with sessions; `refuse` is how it answers discovery.
async fn legacy(refuse: fn(&Got) -> Say) -> (Server, Arc<Mutex<Vec<String>>>) {
    let alive: Arc<Mutex<Vec<String>>> = Arc::default();
    let (sessions, made) = (alive.clone(), AtomicUsize::new(0));
    let server = Server::start(move |got| {
        let session = got.header("mcp-session-id").unwrap_or_default().to_owned();
        let mut sessions = sessions.lock().unwrap();
        if got.method() == "initialize" {
            let id = format!("s{}", made.fetch_add(1, Ordering::SeqCst));
            sessions.push(id.clone());
            return initialized(got, &id);
        }
        if got.method() == "server/discover" {
            return refuse(got);
        }
        if !sessions.contains(&session) {
            return got.error(404, -32001, "Session not found");
        }
        if got.line.starts_with("DELETE") {
            sessions.retain(|known| *known != session);
            return http(204, "", b"");
        }
        assert_eq!(got.header("mcp-protocol-version"), Some("2025-06-18"));
        match got.method() {
            "tools/list" => tools(got),
            "tools/call" => got.result(value!({"content": [{"type": "text", "text": session}]})),
            _ => http(202, "", b""),
        }
    })
    .await;
    (server, alive)
}

async fn says(rig: &Rig) -> String {
    text(&rig.call().await.unwrap())
}

#[tokio::test]
async fn every_refusal_of_discovery_leads_to_the_handshake() {
    for refuse in [
        (|got: &Got| got.error(400, -32000, "Server not initialized")) as fn(&Got) -> Say,
        |got| got.error(404, -32601, "Method not found"),
        |got| got.error(200, -32603, "process failed"),
        |_| {
            json(
                400,
                value!({"jsonrpc": "2.0", "id": "server-error", "error": {"code": -32600, "message": "Missing session ID"}}),
            )
        },
        |got| {
            json(
                400,
                value!({"jsonrpc": "2.0", "id": got.body["id"], "error": {"code": -32022, "message": "v", "data": {"supported": ["2025-11-25"]}}}),
            )
        },
        |_| http(405, "", b""),
        |_| http(200, "Content-Type: text/html\r\n", b"hello"),
    ] {
        let (server, _) = legacy(refuse).await;
        let rig = rig(&server, LONG);
        assert_eq!(
            rig.connector.list(&rig.endpoint).await.unwrap().tools.len(),
            1
        );
        assert_eq!(says(&rig).await, "s0");
        assert_eq!(
            server.methods(),
            [
                "server/discover",
                "initialize",
                "notifications/initialized",
                "tools/list",
                "tools/call"
            ]
        );
    }
}

#[tokio::test]
async fn sessions_are_never_shared_are_begun_again_once_and_end_with_their_owner() {
    let (server, alive) = legacy(|got| got.error(404, -32601, "no")).await;
    let mut one = rig(&server, LONG);
    assert_eq!(says(&one).await, "s0");
    assert_eq!(says(&one).await, "s0");
    one.endpoint.owner = "another".into();
    assert_eq!(says(&one).await, "s1");
    one.endpoint.owner = "owner".into();
    one.endpoint.bearer = Some(Secret::new("another credential".into()));
    assert_eq!(says(&one).await, "s2");

    // The server forgets: the next call begins anew.
    alive.lock().unwrap().retain(|session| session != "s2");
    assert_eq!(says(&one).await, "s3");

    one.connector.close("owner").await;
    assert_eq!(*alive.lock().unwrap(), ["s1"]);
    one.endpoint.owner = "another".into();
    one.endpoint.bearer = Some(Secret::new("bearer-of-secrets".into()));
    assert_eq!(says(&one).await, "s1");
}

#[tokio::test]
async fn a_session_that_is_always_lost_is_an_error() {
    let server = Server::start(|got| match got.method() {
        "initialize" => initialized(got, "same"),
        "notifications/initialized" => http(202, "", b""),
        _ => got.error(404, -32001, "Session not found"),
    })
    .await;
    let rig = rig(&server, LONG);
    assert!(rig.connector.list(&rig.endpoint).await.is_err());
    let begun = server
        .methods()
        .iter()
        .filter(|method| *method == "initialize")
        .count();
    assert_eq!(begun, 2);
}

#[tokio::test]
async fn a_modern_server_gets_its_headers_and_a_list_is_kept_for_one_credential() {
    let server = Server::start(|got| match got.method() {
        "tools/list" => got.result(value!({"ttlMs": 1_000_000_000_000_u64, "cacheScope": "private", "tools": [{"name": "t",
            "inputSchema": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}}]})),
        "tools/call" => got.result(value!({"resultType": "complete", "isError": true, "content": []})),
        _ => common::modern(got).unwrap(),
    })
    .await;
    let mut rig = rig(&server, LONG);
    assert!(rig.call().await.unwrap().is_error);
    rig.connector.list(&rig.endpoint).await.unwrap();
    assert_eq!(
        server.methods(),
        ["server/discover", "tools/list", "tools/call"]
    );
    rig.endpoint.bearer = None;
    rig.connector.list(&rig.endpoint).await.unwrap();
    rig.connector.refresh(&rig.endpoint).await.unwrap();
    assert_eq!(server.methods().len(), 5);

    // Nor for another workspace.
    let foreign = freehold_mcp::Endpoint {
        workspace: freehold_base::IdSource::system().next(),
        ..rig.endpoint.clone()
    };
    rig.connector.list(&foreign).await.unwrap();
    assert_eq!(server.methods()[5..], ["server/discover", "tools/list"]);

    let seen = server.seen.lock().unwrap();
    let call = &seen[2];
    let meta = &call.body["params"]["_meta"];
    assert_eq!(
        meta["io.modelcontextprotocol/protocolVersion"],
        "2026-07-28"
    );
    for (name, sent) in [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "t"),
        ("mcp-param-n", "1"),
        ("authorization", "Bearer bearer-of-secrets"),
    ] {
        assert_eq!(call.header(name), Some(sent), "{name}");
    }
    assert_eq!(seen[3].header("authorization"), None);
    let records = rig.records.0.lock().unwrap();
    assert_eq!(records.len(), 7);
    assert_eq!(records[2].outcome, AuditOutcome::ToolError);
    assert_eq!(
        call.header("x-request-id"),
        Some(records[2].request_id.as_ref())
    );
    assert!(records[2].request_bytes > 0 && records[2].response_bytes > 0);
}

/// A list that may not be kept is looked at by whoever judges a call, and not again for its headers.
#[tokio::test]
async fn a_call_that_was_judged_is_one_request() {
    let schema =
        value!({"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}});
    let listed = schema.clone();
    let server = Server::start(move |got| match got.method() {
        "tools/list" => got.result(
            value!({"ttlMs": 0, "cacheScope": "private", "tools": [{"name": "t", "inputSchema": listed}]}),
        ),
        "tools/call" => got.result(value!({"resultType": "complete", "content": []})),
        _ => common::modern(got).unwrap(),
    })
    .await;
    let rig = rig(&server, LONG);
    let listing = rig.connector.refresh(&rig.endpoint).await.unwrap();
    assert_eq!(Some(&listing.tools[0].input_schema), schema.as_object());
    let call = ToolCall {
        input_schema: Some(listing.tools[0].input_schema.clone()),
        ..common::tool_call()
    };
    let cancel = CancellationToken::new();
    let called = rig.connector.call(&rig.endpoint, &call, &cancel).await;
    assert!(!called.unwrap().is_error);
    assert_eq!(
        server.methods(),
        ["server/discover", "tools/list", "tools/call"]
    );
    assert_eq!(
        server.seen.lock().unwrap()[2].header("mcp-param-n"),
        Some("1")
    );
}

#[tokio::test]
async fn what_a_model_says_ends_no_header_and_takes_the_place_of_none() {
    let server = Server::start(|got| match got.method() {
        "tools/list" => got.result(
            value!({"ttlMs": 60_000, "cacheScope": "private", "tools": [{"name": "t",
            "inputSchema": {"type": "object", "properties": {
                "crlf": {"type": "string", "x-mcp-header": "Authorization"},
                "wide": {"type": "string", "x-mcp-header": "Host"},
                "marked": {"type": "string", "x-mcp-header": "Marked"}}}},
            {"name": "bad", "inputSchema": {"type": "object", "properties": {
                "p": {"type": "string", "x-mcp-header": "Host: evil"}}}}]}),
        ),
        "tools/call" => got.result(value!({"resultType": "complete", "content": []})),
        _ => common::modern(got).unwrap(),
    })
    .await;
    let rig = rig(&server, LONG);
    let listing = rig.connector.list(&rig.endpoint).await.unwrap();
    assert_eq!((listing.tools.len(), listing.left_out.len()), (1, 1));
    let said = value!({"crlf": "x\r\nAuthorization: Bearer evil\r\n\r\nGET /", "wide": "\u{e4}\u{4f60}",
        "marked": "=?base64?ZXZpbA==?="});
    let call = ToolCall {
        arguments: serde_json::value::to_raw_value(&said).unwrap(),
        ..common::tool_call()
    };
    let cancel = CancellationToken::new();
    rig.connector
        .call(&rig.endpoint, &call, &cancel)
        .await
        .unwrap();
    let seen = server.seen.lock().unwrap();
    let call = seen
        .iter()
        .find(|got| got.method() == "tools/call")
        .unwrap();
    for (name, argument) in [
        ("mcp-param-authorization", "crlf"),
        ("mcp-param-host", "wide"),
        ("mcp-param-marked", "marked"),
    ] {
        let text = said[argument].as_str().unwrap();
        let sent = format!("=?base64?{}?=", STANDARD.encode(text));
        assert_eq!(call.header(name), Some(&*sent), "{name}");
    }
    let all = |name: &str| call.headers.iter().filter(|(n, _)| n == name).count();
    assert_eq!((all("authorization"), all("host")), (1, 1));
    assert_eq!(
        call.header("authorization"),
        Some("Bearer bearer-of-secrets")
    );
    assert_eq!(call.line, "POST /mcp HTTP/1.1");
}

#[tokio::test]
async fn a_server_that_goes_back_to_an_older_era_is_asked_again() {
    let old = Arc::new(AtomicUsize::new(0));
    let now = old.clone();
    let server = Server::start(
        move |got| match (now.load(Ordering::SeqCst), got.method()) {
            (0, "tools/call") => {
                got.result(value!({"content": [{"type": "text", "text": "modern"}]}))
            }
            (0, _) => common::modern(got).unwrap(),
            (_, "initialize") => initialized(got, "s"),
            (_, "notifications/initialized") => http(202, "", b""),
            (_, "tools/call") if got.header("mcp-session-id").is_some() => {
                got.result(value!({"content": [{"type": "text", "text": "legacy"}]}))
            }
            _ => got.error(400, -32600, "Missing session ID"),
        },
    )
    .await;
    let rig = rig(&server, LONG);
    assert_eq!(says(&rig).await, "modern");
    old.store(1, Ordering::SeqCst);
    assert_eq!(says(&rig).await, "legacy");
}

#[tokio::test]
async fn news_of_other_tools_makes_the_next_list_a_new_one() {
    let server = Server::modern(|got| {
        let news = value!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        let answer = value!({"jsonrpc": "2.0", "id": got.body["id"], "result": {"content": []}});
        common::stream(&[news, answer])
    })
    .await;
    let rig = rig(&server, LONG);
    rig.call().await.unwrap();
    rig.connector.list(&rig.endpoint).await.unwrap();
    let lists = server
        .methods()
        .iter()
        .filter(|method| *method == "tools/list")
        .count();
    assert_eq!(lists, 2);
}

#[tokio::test]
async fn a_broken_stream_is_resumed_where_it_broke() {
    let server = Server::start(|got| {
        if got.line.starts_with("GET") {
            assert_eq!(got.header("last-event-id"), Some("e1"));
            let answer = value!({"jsonrpc": "2.0", "id": 3, "result": {"content": [{"type": "text", "text": "late"}]}});
            return common::stream(&[answer]);
        }
        match got.method() {
            "tools/call" => Say::Close(format!("{STREAM}id: e1\nretry: 1\ndata:\n\n").into_bytes()),
            _ => common::modern(got).unwrap(),
        }
    })
    .await;
    assert_eq!(says(&rig(&server, LONG)).await, "late");
}

/// In a session an id stands for one request, so that an answer that comes again, or was for another call
/// at the same time, is nobody's.
#[tokio::test]
async fn no_answer_of_a_session_is_taken_twice() {
    let old = Arc::new(Mutex::new(Vec::<Value>::new()));
    let server = Server::start(move |got| {
        let mut old = old.lock().unwrap();
        if got.line.starts_with("GET") {
            // All that was ever answered, once more, and the answer at last.
            let mut all = old.clone();
            all.rotate_right(1);
            let last = all.remove(0);
            all.push(last);
            return common::stream(&all);
        }
        match got.method() {
            "server/discover" => got.error(404, -32601, "no"),
            "initialize" => initialized(got, "s"),
            "tools/list" => tools(got),
            "tools/call" => {
                let n = old.len();
                let text = format!("answer {n}");
                old.push(value!({"jsonrpc": "2.0", "id": got.body["id"],
                    "result": {"content": [{"type": "text", "text": text}]}}));
                Say::Close(format!("{STREAM}id: e{n}\nretry: 1\ndata:\n\n").into_bytes())
            }
            _ => http(202, "", b""),
        }
    })
    .await;
    let rig = rig(&server, LONG);
    for n in 0..5 {
        assert_eq!(says(&rig).await, format!("answer {n}"));
    }
    let ids = || -> Vec<u64> {
        let seen = server.seen.lock().unwrap();
        seen.iter()
            .filter_map(|got| got.body["id"].as_u64())
            .collect()
    };
    let mut found = ids();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), ids().len(), "{:?}", ids());
}

/// A session is of one version: another one, unknown or in the middle, ends it.
#[tokio::test]
async fn a_version_that_changes_is_not_followed() {
    for version in ["2026-07-28", "1999-01-01", "", "2025-06-18\r\nX: y"] {
        let server = Server::start(move |got| match got.method() {
            "initialize" => got.result(value!({"protocolVersion": version})),
            "server/discover" => got.error(404, -32601, "no"),
            _ => tools(got),
        })
        .await;
        let rig = rig(&server, LONG);
        let error = rig.connector.list(&rig.endpoint).await.unwrap_err();
        assert!(
            matches!(error, McpError::Connection(_)),
            "{version}: {error}"
        );
        assert_eq!(server.methods(), ["server/discover", "initialize"]);
    }
    // What later answers claim in their headers changes nothing.
    let server = Server::start(|got| match got.method() {
        "initialize" => initialized(got, "s"),
        "server/discover" => got.error(404, -32601, "no"),
        "notifications/initialized" => http(202, "", b""),
        method => {
            let body = match method {
                "tools/list" => {
                    value!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})
                }
                _ => value!({"content": [{"type": "text", "text": "x"}]}),
            };
            let body = value!({"jsonrpc": "2.0", "id": got.body["id"], "result": body});
            let head = "Content-Type: application/json\r\nMCP-Protocol-Version: 2024-11-05\r\n\
                Mcp-Session-Id: of-another-session\r\n";
            http(200, head, body.to_string().as_bytes())
        }
    })
    .await;
    let rig = rig(&server, LONG);
    rig.connector.list(&rig.endpoint).await.unwrap();
    assert_eq!(says(&rig).await, "x");
    assert_eq!(says(&rig).await, "x");
    let seen = server.seen.lock().unwrap();
    for got in seen.iter().skip(3) {
        assert_eq!(got.header("mcp-protocol-version"), Some("2025-06-18"));
        assert_eq!(got.header("mcp-session-id"), Some("s"));
    }
}

#[tokio::test]
async fn without_credential_or_server_the_probe_says_where_it_failed() {
    let (server, _) = legacy(|_| http(404, "", b"")).await;
    let mut rig = rig(&server, LONG);
    assert_eq!(rig.connector.probe(&rig.endpoint).await, Probe::Works);
    rig.endpoint.url = "https://127.0.0.1:9/".into();
    match rig.connector.probe(&rig.endpoint).await {
        Probe::Failed { response: None, .. } => {}
        other => panic!("{other:?}"),
    }
}

/// The oldest transport needs a server that writes to one connection what came over another.
async fn oldest(endpoint: &'static str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let out: Arc<Mutex<Option<mpsc::UnboundedSender<String>>>> = Arc::default();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let out = out.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                let mut text = String::new();
                let whole = |text: &str| {
                    text.ends_with('}') || (text.starts_with("GET") && text.ends_with("\r\n\r\n"))
                };
                while !whole(&text) {
                    let n = stream.read(&mut buffer).await.unwrap();
                    if n == 0 {
                        return;
                    }
                    text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
                }
                if text.starts_with("GET") {
                    let (sender, mut receiver) = mpsc::unbounded_channel();
                    *out.lock().unwrap() = Some(sender);
                    let head = format!("{STREAM}event: endpoint\ndata: {endpoint}\n\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                    while let Some(event) = receiver.recv().await {
                        let event = format!("event: message\ndata: {event}\n\n");
                        if stream.write_all(event.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
                let status = if text.starts_with("POST /messages?s=1 ") {
                    "202 Accepted"
                } else {
                    "405 No"
                };
                let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                let body: Value = serde_json::from_str(body).unwrap_or_default();
                let result = match body["method"].as_str() {
                    Some("initialize") => value!({"protocolVersion": "2024-11-05"}),
                    Some("tools/list") => {
                        value!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})
                    }
                    _ => value!({"content": [{"type": "text", "text": "oldest"}]}),
                };
                let answer = value!({"jsonrpc": "2.0", "id": body["id"], "result": result});
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                if status.starts_with("202") && !body["id"].is_null() {
                    out.lock()
                        .unwrap()
                        .as_ref()
                        .unwrap()
                        .send(answer.to_string())
                        .unwrap();
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn the_oldest_transport_works_and_its_endpoint_may_not_be_elsewhere() {
    for (endpoint, works) in [
        ("/messages?s=1", true),
        ("http://127.0.0.1:1/messages?s=1", false),
    ] {
        let url = oldest(endpoint).await;
        let server = Server {
            url,
            ..Server::default()
        };
        let rig = rig(&server, LONG);
        match rig.connector.list(&rig.endpoint).await {
            Ok(listing) => assert!(works && listing.tools.len() == 1),
            Err(error) => assert!(
                !works && matches!(error, McpError::Connection(_)),
                "{error}"
            ),
        }
        if works {
            assert_eq!(says(&rig).await, "oldest");
        }
    }
}

#[tokio::test]
async fn a_connection_whose_stream_has_ended_serves_the_next_call() {
    let server = Server::modern(|got| {
        let reply = value!({"jsonrpc": "2.0", "id": got.body["id"],
            "result": {"resultType": "complete", "content": [{"type": "text", "text": "x"}]}});
        let event = format!("data: {reply}\n\n");
        let head = STREAM.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n");
        let first = format!("{head}{:x}\r\n{event}\r\n", event.len());
        Say::Halves(first.into(), b"0\r\n\r\n".into())
    })
    .await;
    let rig = rig(&server, LONG);
    for calls in 1..=1000 {
        // The answer is there before its stream ends.
        assert_eq!(says(&rig).await, "x");
        server.go.notify_one();
        // One connection may still be ending when the next call begins.
        if server.connections.load(Ordering::SeqCst) < calls {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("every call made a connection of its own");
}
