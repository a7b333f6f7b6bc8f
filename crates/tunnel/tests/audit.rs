//! What the gateway notes of requests is what their servers read, or says that it is not known.

mod world;

use std::time::Duration;

use freehold_tunnel::gateway::Limits;
use serde_json::Value;

use world::logs::Logs;
use world::{Given, World, ask};

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm","arguments":{"path":"/secret"}}}"#;

fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /echo HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nX-Request-Id: req_1\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends a request, and waits for its record.
async fn noted(world: &World, logs: &Logs, request: &str) -> Value {
    let before = logs.all("request").len();
    let mut stream = world.dial().await.unwrap();
    ask(&mut stream, request).await;
    let written = async {
        while logs.all("request").len() == before {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, written)
        .await
        .expect("a record");
    logs.all("request").remove(before)
}

#[tokio::test]
async fn a_call_is_noted_without_what_it_carries() {
    let (logs, _guard) = Logs::start();
    let world = World::start().await;
    let headers = "Mcp-Method: tools/call\r\nMcp-Name: rm\r\n";
    let noted = noted(&world, &logs, &post(headers, CALL)).await;
    for (key, is) in [
        ("request_id", "req_1"),
        ("host", "app.abc.tunnel.test"),
        ("mcp_method", "tools/call"),
        ("tool", "rm"),
        ("mcp_headers", "match"),
        ("outcome", "ok"),
        // Of `{"path":"/secret"}`.
        (
            "arguments_sha256",
            "ef8caadddd0125d1b6730e1a83de06170c57977fa2e9f0ffbcba36e2d182241d",
        ),
    ] {
        assert_eq!(noted[key], is, "{key}: {noted}");
    }
    assert_eq!(
        (&noted["calls"], &noted["status"]),
        (&1.into(), &200.into())
    );
    assert!(
        noted.get("arguments").is_none() && noted.get("unparsed").is_none(),
        "{noted}"
    );
    assert!(!logs.text().contains("/secret"), "arguments were logged");
}

#[tokio::test]
async fn arguments_are_noted_where_that_is_asked_for() {
    let (logs, _guard) = Logs::start();
    let world = World::with(Given {
        config: "log_arguments: true\n".to_owned(),
        ..Given::default()
    })
    .await;
    let noted = noted(&world, &logs, &post("", CALL)).await;
    assert_eq!(noted["arguments"], r#"{"path":"/secret"}"#);
    assert!(noted.get("mcp_headers").is_none(), "{noted}");
}

#[tokio::test]
async fn each_call_of_a_batch_is_noted() {
    let (logs, _guard) = Logs::start();
    let world = World::start().await;
    let batch = format!(r#"[{{"method":"ping"}},{CALL}]"#);
    let said = noted(&world, &logs, &post("Mcp-Method: ping\r\n", &batch)).await;
    assert_eq!(
        (&said["mcp_method"], &said["calls"]),
        (&"batch".into(), &2.into())
    );
    assert_eq!(said["mcp_headers"], "mismatch");
    assert!(said.get("tool").is_none(), "{said}");
    let calls = logs.all("call");
    let tools: Vec<_> = calls
        .iter()
        .map(|c| (&c["mcp_method"], &c["tool"]))
        .collect();
    assert_eq!(
        tools,
        [
            (&"ping".into(), &"".into()),
            (&"tools/call".into(), &"rm".into())
        ]
    );
    assert!(
        calls.iter().all(|c| c["request_id"] == "req_1"),
        "{calls:?}"
    );
    let many = vec![CALL; 100].join(",");
    let said = noted(&world, &logs, &post("", &format!("[{many}]"))).await;
    assert_eq!(said["calls"], 100);
    assert_eq!(logs.all("call").len(), 2 + 64);
}

#[tokio::test]
async fn what_is_not_clear_is_not_noted_as_if_it_were() {
    let (logs, _guard) = Logs::start();
    let world = World::with(Given {
        limits: Limits {
            body_silence: Duration::from_secs(1),
            ..Limits::default()
        },
        ..Given::default()
    })
    .await;
    let large = CALL.replace("/secret", &"x".repeat(300 << 10));
    let twice = CALL.replace(r#""id":1"#, r#""method":"tools/list""#);
    let other = CALL.replace("params", "Params");
    let named = "Mcp-Method: tools/list\r\n";
    for (headers, body, why) in [
        (named, twice.as_str(), "a key is there twice"),
        ("", &other, "a key is written in another case"),
        ("", &large, "it is too large"),
        ("Content-Encoding: gzip\r\n", CALL, "it is encoded"),
        ("", "method=tools%2Fcall", "it is not JSON"),
    ] {
        let noted = noted(&world, &logs, &post(headers, body)).await;
        assert_eq!(noted["unparsed"], why, "{noted}");
        assert_eq!(noted["outcome"], "unparsed", "{noted}");
        assert_eq!(noted["mcp_method"], "", "{noted}");
        assert!(noted.get("tool").is_none(), "{noted}");
        if headers == named {
            assert_eq!(noted["mcp_headers"], "unchecked", "{noted}");
        }
    }
    // Whole JSON, but not a whole body.
    let half = format!(
        "POST /slow HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{CALL}\r\n",
        CALL.len()
    );
    let said = noted(&world, &logs, &half).await;
    assert_eq!(
        (&said["unparsed"], &said["status"]),
        (&"it is not whole".into(), &408.into())
    );
    // The header says one thing, the body another.
    let noted = noted(&world, &logs, &post("Mcp-Name: ls\r\n", CALL)).await;
    assert_eq!(
        (&noted["tool"], &noted["mcp_headers"]),
        (&"rm".into(), &"mismatch".into())
    );
}

#[tokio::test]
async fn what_was_refused_is_noted_too() {
    let (logs, _guard) = Logs::start();
    let world = World::start().await;
    let smuggling = post("Transfer-Encoding: chunked\r\n", "0\r\n\r\n");
    let said = noted(&world, &logs, &smuggling).await;
    assert_eq!(
        (&said["status"], &said["outcome"]),
        (&400.into(), &"refused".into())
    );
    assert_eq!(said["unparsed"], "Content-Length and Transfer-Encoding");
    let elsewhere = post("", CALL).replace("app.abc", "other.abc");
    let said = noted(&world, &logs, &elsewhere).await;
    assert_eq!(said["status"], 421, "{said}");
}

#[tokio::test]
async fn a_request_whose_headers_contradict_it_reaches_no_server() {
    let (logs, _guard) = Logs::start();
    let world = World::start().await;
    let with = |revision: &str, more: &str, body: &str| {
        post(&format!("MCP-Protocol-Version: {revision}\r\n{more}"), body)
    };
    let asks = async |request: &str| {
        let answer = world.raw(request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].to_owned(), body.to_owned(), head.to_lowercase())
    };
    let new = "2026-07-28";
    let good = "Mcp-Method: tools/call\r\nMcp-Name: rm\r\n";
    let batch = format!("[{CALL}]");
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nMCP-Protocol-Version: {new}\r\n\
         Mcp-Method: tools/list\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &CALL[..5],
        CALL.len() - 5,
        &CALL[5..]
    );
    for request in [
        with(new, "Mcp-Method: tools/list\r\nMcp-Name: rm\r\n", CALL),
        with(new, "Mcp-Method: tools/call\r\nMcp-Name: ls\r\n", CALL),
        with(new, "Mcp-Name: ls\r\n", CALL),
        with(new, &format!("{good}Mcp-Name: ls\r\n"), CALL),
        with("2027-01-01", "Mcp-Method: ping\r\n", CALL),
        with(new, "Mcp-Method: tools/call\r\n", &batch),
        chunked,
    ] {
        let (status, body, head) = asks(&request).await;
        assert_eq!(status, "400", "{request}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let told: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(told["error"]["code"], -32020, "{told}");
        let id = if request.contains("\r\n[") {
            None
        } else {
            Some(1)
        };
        assert_eq!(told["id"].as_i64(), id, "{told}");
    }
    assert_eq!(world.seen(), 0, "something was passed on");
    let noted = logs.all("request");
    assert!(
        noted
            .iter()
            .all(|n| n["mcp_headers"] == "mismatch" && n["status"] == 400)
    );
    // What is right passes whole, whatever its size; and so does what nobody has said must be right.
    let large = CALL.replace("/secret", &"x".repeat(300 << 10));
    for request in [
        with(new, good, CALL),
        with(new, good, &large),
        with(new, "Mcp-Name: ls\r\n", &large),
        with(new, "Mcp-Name: ls\r\n", "no JSON"),
        with(new, "", CALL),
        with("2025-11-25", "Mcp-Name: ls\r\n", CALL),
        post("Mcp-Name: ls\r\n", CALL),
    ] {
        let (status, body, _) =
            asks(&request.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        assert_eq!(status, "200", "{request:.200}");
        assert!(request.ends_with(&body) && !body.is_empty(), "{body:.200}");
    }
    assert_eq!(world.seen(), 7);
}
