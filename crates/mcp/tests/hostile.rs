//! Servers that do not play by the rules: each ends in one error or one outcome, and nothing hangs.

mod common;

use common::{Got, LONG, SHORT, STREAM, Say, Server, http, json, rig, stream, text};
use freehold_mcp::{AuditOutcome, McpError, Probe};
use serde_json::{Value, json as value};
use tokio_util::sync::CancellationToken;

fn answer(got: &Got, text: &str) -> Value {
    value!({"jsonrpc": "2.0", "id": got.body["id"],
        "result": {"resultType": "complete", "content": [{"type": "text", "text": text}]}})
}

/// What a call that went out ends with when its answer says nothing: it may have been carried out.
async fn unanswered(call: impl Fn(&Got) -> Say + Send + Sync + 'static) -> String {
    let server = Server::modern(call).await;
    let rig = rig(&server, LONG);
    match rig.call().await {
        Err(McpError::Unanswered(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answers_that_are_no_json_rpc_are_one_error() {
    for body in [
        "",
        "null",
        "{}",
        "[1]",
        "<html>",
        "{\"jsonrpc\":\"2.0\"",
        "\u{feff}",
        r#"[{"jsonrpc":"2.0","id":3,"result":{}}]"#,
        r#"{"jsonrpc":"2.0","id":999,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":3.5,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{},"error":{"code":1,"message":"x"}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{"content":7}}"#,
        r#"{"jsonrpc":"2.0","id":3,"result":{"resultType":"surprise"}}"#,
    ] {
        unanswered(move |_| http(200, "Content-Type: application/json\r\n", body.as_bytes())).await;
        unanswered(move |_| Say::Close(format!("{STREAM}data: {body}\n\n").into_bytes())).await;
    }
    let deep = "[".repeat(100_000);
    unanswered(move |got| {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{deep}"#,
            got.body["id"]
        );
        http(200, "Content-Type: application/json\r\n", body.as_bytes())
    })
    .await;
    unanswered(|_| http(200, "Content-Type: text/html\r\n", b"<html>")).await;
    unanswered(|_| http(202, "", b"")).await;
    unanswered(|_| Say::Close(b"HTTP/1.1 banana".to_vec())).await;
    unanswered(|_| Say::Close(Vec::new())).await;
}

#[tokio::test]
async fn redirects_are_not_followed_and_carry_no_credential() {
    let thief = Server::start(|got| got.result(value!({}))).await;
    for status in [301, 302, 307, 308] {
        let to = thief.url.clone();
        let text = unanswered(move |_| http(status, &format!("Location: {to}\r\n"), b"")).await;
        assert!(text.contains(&status.to_string()), "{text}");
    }
    assert!(thief.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let text = unanswered(|_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_vec();
        Say::Endless(head, vec![b' '; 1 << 20])
    })
    .await;
    assert_eq!(text, "the server's answer is too large");
    let text = unanswered(|_| Say::Endless(STREAM.into(), vec![b'x'; 1 << 20])).await;
    assert_eq!(text, "the server's answer is too large");
    let comments =
        unanswered(|_| Say::Endless(STREAM.into(), [b":".to_vec(), vec![b'x'; 1 << 20]].concat()));
    assert_eq!(comments.await, "the server's answer is too large");
    let head =
        unanswered(|_| Say::Endless(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 1 << 16]));
    assert_eq!(head.await, "the server did not answer with valid HTTP");
    let packed = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let text = unanswered(move |_| http(200, packed, b"\x1f\x8b")).await;
    assert!(text.contains("compressed"), "{text}");
}

#[tokio::test]
async fn servers_that_hang_are_given_up_in_time() {
    for script in [
        (|_: &Got| Say::Hang(Vec::new())) as fn(&Got) -> Say,
        |_| Say::Hang(STREAM.into()),
        |_| Say::Hang(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{".to_vec()),
        // Progress of something else extends nothing.
        |_| {
            Say::Hang(
                format!(
                    "{STREAM}data: {}\n\n",
                    value!({"jsonrpc": "2.0",
            "method": "notifications/progress", "params": {"progressToken": "other"}})
                )
                .into(),
            )
        },
    ] {
        let server = Server::modern(script).await;
        let rig = rig(&server, SHORT);
        // Discovery and list come before, and have had their time.
        let error = rig.call().await.unwrap_err();
        assert_eq!(
            error,
            McpError::Unanswered("the server did not answer in time".into())
        );
    }
}

#[tokio::test]
async fn a_call_given_up_closes_the_connection_and_is_recorded() {
    let server = Server::modern(|_| Say::Hang(STREAM.into())).await;
    let rig = rig(&server, LONG);
    let cancel = CancellationToken::new();
    let call = rig.call_with(&cancel);
    let give_up = async {
        while !server.methods().contains(&"tools/call".to_owned()) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(call, give_up);
    assert_eq!(outcome.unwrap_err(), McpError::Cancelled);
    let records = rig.records.0.lock().unwrap();
    let last = records.last().unwrap();
    assert_eq!(last.outcome, AuditOutcome::Cancelled);
    assert_eq!(last.tool.as_deref(), Some("t"));
    assert_eq!(last.arguments_sha256.as_ref().unwrap().len(), 64);
}

#[tokio::test]
async fn the_stream_may_hold_other_things_before_the_answer() {
    let server = Server::modern(|got| {
        stream(&[
            value!({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}),
            value!({"jsonrpc": "2.0", "id": 4711, "result": {"content": []}}),
            value!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {}}),
            answer(got, "first"),
            answer(got, "second"),
        ])
    })
    .await;
    let rig = rig(&server, LONG);
    assert_eq!(text(&rig.call().await.unwrap()), "first");
    let seen = server.seen.lock().unwrap();
    let told = seen.iter().find(|got| got.body["id"] == "q").unwrap();
    assert_eq!(told.body["error"]["code"], -32601);
}

#[tokio::test]
async fn the_credential_is_masked_wherever_it_comes_back() {
    let server = Server::modern(|got| {
        let header = got.header("authorization").unwrap().to_owned();
        stream(&[answer(got, &header)])
    })
    .await;
    let leaky = rig(&server, LONG);
    assert_eq!(text(&leaky.call().await.unwrap()), "Bearer [redacted]");
    assert!(
        leaky
            .records
            .0
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .credential_echoed
    );

    let server =
        Server::modern(|got| got.error(200, -32000, "bad bearer-of-secrets\u{1b}[2J")).await;
    let error = rig(&server, LONG).call().await.unwrap_err();
    assert_eq!(
        error,
        McpError::Refused("bad [redacted][2J (error -32000)".into())
    );

    let refusal = |_: &Got| {
        http(
            401,
            "Content-Type: text/plain\r\nWWW-Authenticate: Bearer x\r\n",
            b"no bearer-of-secrets",
        )
    };
    let server = Server::start(refusal).await;
    let denied = rig(&server, LONG);
    let error = denied.connector.list(&denied.endpoint).await.unwrap_err();
    assert_eq!(
        error,
        McpError::Authentication("401 from MCP server".into())
    );
    match denied.connector.probe(&denied.endpoint).await {
        Probe::Failed {
            method,
            response: Some(response),
            challenge,
            ..
        } => {
            assert_eq!(
                (method.as_str(), response.status_code),
                ("server/discover", 401)
            );
            assert_eq!(response.body, "no [redacted]");
            assert_eq!(challenge.as_deref(), Some("Bearer x"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn questions_are_declined_and_do_not_go_on_for_ever() {
    let ask = |got: &Got, method: &str| {
        got.result(
            value!({"resultType": "input_required", "requestState": "s\u{e9}\"",
            "inputRequests": {"k": {"method": method, "params": {"message": "password?"}}}}),
        )
    };
    let server = Server::modern(move |got| match got.body["params"].get("inputResponses") {
        None => ask(got, "elicitation/create"),
        Some(responses) => {
            assert_eq!(got.body["params"]["requestState"], "s\u{e9}\"");
            assert_eq!(responses["k"], value!({"action": "decline"}));
            stream(&[answer(got, "done")])
        }
    })
    .await;
    assert_eq!(text(&rig(&server, LONG).call().await.unwrap()), "done");

    let server = Server::modern(move |got| ask(got, "elicitation/create")).await;
    assert!(rig(&server, LONG).call().await.is_err());
    assert_eq!(
        server
            .methods()
            .iter()
            .filter(|m| *m == "tools/call")
            .count(),
        8
    );

    let server = Server::modern(move |got| ask(got, "sampling/createMessage")).await;
    assert!(matches!(
        rig(&server, LONG).call().await,
        Err(McpError::Refused(_))
    ));
    assert_eq!(
        server
            .methods()
            .iter()
            .filter(|m| *m == "tools/call")
            .count(),
        1
    );

    let server = Server::modern(|got| {
        got.result(value!({"resultType": "input_required", "requestState": "x".repeat(10 << 20)}))
    })
    .await;
    assert!(matches!(
        rig(&server, LONG).call().await,
        Err(McpError::Unanswered(_))
    ));
}

#[tokio::test]
async fn bad_tools_are_left_out_and_the_rest_is_offered() {
    let mut deep = value!({});
    for _ in 0..40 {
        deep = value!({"properties": {"p": deep}});
    }
    let tools = value!([
        {"name": "good", "description": "d", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}},
        {"name": "good", "inputSchema": {"type": "object"}},
        {"name": "b\u{e4}d name", "inputSchema": {"type": "object"}},
        {"name": "", "inputSchema": {"type": "object"}},
        {"name": "away", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1/x"}}}},
        {"name": "large", "description": "x".repeat(70_000), "inputSchema": {"type": "object"}},
        {"name": "deep", "inputSchema": {"type": "object", "properties": {"p": deep}}},
        {"name": "header", "inputSchema": {"type": "object", "properties": {"p": {"type": "string", "x-mcp-header": "a\r\nb"}}}},
        {"name": "none"},
        7,
    ]);
    let server = Server::start(move |got| match got.method() {
        "tools/list" => got.result(value!({"tools": tools, "nextCursor": "again"})),
        _ => common::modern(got).unwrap(),
    })
    .await;
    let rig = rig(&server, LONG);
    let listing = rig.connector.list(&rig.endpoint).await.unwrap();
    let names: Vec<&str> = listing
        .tools
        .iter()
        .map(|tool| tool.name.as_str())
        .collect();
    assert_eq!(names, ["good"]);
    // Nine here, ten on the page that points back, and the note of that.
    assert_eq!(listing.left_out.len(), 20);
    assert_eq!(
        server.methods(),
        ["server/discover", "tools/list", "tools/list"]
    );
}

#[tokio::test]
async fn no_server_lists_more_than_it_may() {
    let server = Server::start(|got| match got.method() {
        "tools/list" => {
            let page = got.body["params"]["cursor"]
                .as_str()
                .unwrap_or("0")
                .parse::<u32>()
                .unwrap();
            let tools: Vec<Value> = (0..10)
                .map(
                    |n| value!({"name": format!("t{page}-{n}"), "inputSchema": {"type": "object"}}),
                )
                .collect();
            got.result(value!({"tools": tools, "nextCursor": (page + 1).to_string()}))
        }
        _ => common::modern(got).unwrap(),
    })
    .await;
    let rig = rig(&server, LONG);
    let listing = rig.connector.list(&rig.endpoint).await.unwrap();
    assert_eq!((listing.tools.len(), listing.left_out.len()), (200, 1));
}

#[tokio::test]
async fn addresses_within_and_odd_urls_are_refused() {
    let server = Server::start(|got| got.result(value!({}))).await;
    let mut rig = rig(&server, LONG);
    let port = server.url[7..].split([':', '/']).nth(1).unwrap();
    for url in [
        "http://127.0.0.1:1/mcp".to_owned(),
        "https://169.254.169.254/".into(),
        "https://[::ffff:10.0.0.5]/".into(),
        "https://100.64.0.1/".into(),
        "https://[fd00::1]/".into(),
        "https://0.0.0.0/".into(),
        "https://2130706433/".into(),
        "https://0x7f000001/".into(),
        "https://localhost./".into(),
        format!("http://user@127.0.0.1:{port}/mcp"),
        "https://93.184.216.34:22/".into(),
        "http://93.184.216.34/".into(),
        "file:///etc/passwd".into(),
    ] {
        rig.endpoint.url = url.clone();
        let error = rig.connector.list(&rig.endpoint).await.unwrap_err();
        assert!(matches!(error, McpError::Connection(_)), "{url}: {error}");
    }
    assert!(server.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_session_id_that_breaks_the_rules_is_not_used() {
    for id in ["caf\u{e9}".to_owned(), "x".repeat(1025), "a b".into()] {
        let server = Server::start(move |got| match got.method() {
            "initialize" => {
                let body = value!({"jsonrpc": "2.0", "id": got.body["id"], "result": {"protocolVersion": "2025-11-25"}});
                let head = format!("Content-Type: application/json\r\nMcp-Session-Id: {id}\r\n");
                http(200, &head, body.to_string().as_bytes())
            }
            _ => json(400, value!({})),
        })
        .await;
        let rig = rig(&server, LONG);
        assert!(matches!(
            rig.connector.list(&rig.endpoint).await,
            Err(McpError::Connection(_))
        ));
        assert_eq!(server.methods(), ["server/discover", "initialize"]);
    }
}
