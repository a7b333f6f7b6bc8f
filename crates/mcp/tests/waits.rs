//! How long anything takes at most, by a clock that the tests move: connections are no sockets here, so
//! that nothing happens but what is waited for.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Got, Memory, STREAM, Say, http, text};
use freehold_base::{IdSource, Secret};
use freehold_mcp::oauth::{self, ClientAuth, Refresh, RefreshError};
use freehold_mcp::{HttpError, McpError};
use serde_json::{Value, json as value};
use tokio::time::Instant;

const URL: &str = "https://mcp.example.com/mcp";

/// Seconds until the call fails, and how.
async fn given_up(call: impl Fn(&Got) -> Say + Send + Sync + 'static) -> (u64, McpError) {
    let server = Memory::new(move |got| common::modern(got).unwrap_or_else(|| call(got)));
    let rig = server.rig(URL);
    let started = Instant::now();
    let error = rig.call().await.unwrap_err();
    (started.elapsed().as_secs(), error)
}

fn event(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into()
}

fn progress(got: &Got) -> Vec<u8> {
    let token = &got.body["params"]["_meta"]["progressToken"];
    event(
        &value!({"jsonrpc": "2.0", "method": "notifications/progress",
        "params": {"progressToken": token, "progress": 1}}),
    )
}

const JSON: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"jsonrpc\":\"2.0\",";

fn every(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn nothing_a_server_does_makes_a_call_outlast_its_time() {
    type Script = fn(&Got) -> Say;
    let scripts: [(&str, Script, u64); 10] = [
        ("silence", |_| Say::Hang(Vec::new()), 60),
        ("a head, then silence", |_| Say::Hang(STREAM.into()), 60),
        ("half an answer", |_| Say::Hang(JSON.into()), 60),
        (
            "a head, byte by byte",
            |_| Say::Slow(b"HTTP/1.1 200 OK\r\nX: ".into(), b"x".into(), every(1)),
            60,
        ),
        (
            "an answer, byte by byte",
            |_| Say::Slow(JSON.into(), b" ".into(), every(1)),
            60,
        ),
        (
            "an event, byte by byte",
            |_| Say::Slow(STREAM.into(), b"d".into(), every(1)),
            60,
        ),
        (
            "comments for ever",
            |_| Say::Slow(STREAM.into(), b": ping\n\n".into(), every(15)),
            60,
        ),
        (
            "pings that want an answer",
            |_| {
                let ping = value!({"jsonrpc": "2.0", "id": "p", "method": "ping"});
                Say::Slow(STREAM.into(), event(&ping), every(1))
            },
            60,
        ),
        (
            "progress that is too slow",
            |got| Say::Slow(STREAM.into(), progress(got), every(61)),
            60,
        ),
        (
            "progress for ever",
            |got| Say::Slow(STREAM.into(), progress(got), every(20)),
            300,
        ),
    ];
    for (what, script, seconds) in scripts {
        let (taken, error) = given_up(script).await;
        assert_eq!(taken, seconds, "{what}");
        let expected = McpError::Unanswered("the server did not answer in time".into());
        assert_eq!(error, expected, "{what}");
    }
    // What says at once that nothing will come is not waited for.
    let (taken, error) = given_up(|_| http(202, "", b"")).await;
    assert_eq!((taken, matches!(error, McpError::Unanswered(_))), (0, true));
}

/// A stream that breaks off is resumed a few times, when the server says, and not past the deadline.
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_for_ever_is_given_up() {
    for (retry, tries, seconds) in [(1_u64, 6, 0), (1_000_000, 2, 60)] {
        let tried = Arc::new(AtomicU64::new(0));
        let count = tried.clone();
        let (taken, error) = given_up(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Say::Close(format!("{STREAM}id: e1\nretry: {retry}\ndata:\n\n").into())
        })
        .await;
        assert!(matches!(error, McpError::Unanswered(_)), "{error:?}");
        assert_eq!((tried.load(Ordering::SeqCst), taken), (tries, seconds));
    }
}

/// A server that does not even say what it speaks costs one deadline, and no other server anything.
#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_costs_its_own_time_only() {
    let server = Memory::new(|got| match got.header("host") {
        Some("mcp.example.com") => Say::Hang(Vec::new()),
        _ => common::modern(got).unwrap_or_else(|| {
            let result = value!({"content": [{"type": "text", "text": "here"}]});
            common::stream(&[value!({"jsonrpc": "2.0", "id": got.body["id"], "result": result})])
        }),
    });
    let mut rig = server.rig(URL);
    let started = Instant::now();
    let (hung, other) = (rig.endpoint.clone(), "https://other.example.com/mcp");
    rig.endpoint.url = other.to_owned();
    let list = async {
        let error = rig.connector.list(&hung).await.unwrap_err();
        assert!(matches!(error, McpError::Connection(_)), "{error:?}");
        started.elapsed().as_secs()
    };
    let call = async {
        assert_eq!(text(&rig.call().await.unwrap()), "here");
        started.elapsed().as_secs()
    };
    assert_eq!(tokio::join!(list, call), (60, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_has_half_a_minute() {
    let scripts: [fn(&Got) -> Say; 3] = [
        |_| Say::Hang(Vec::new()),
        |_| Say::Hang(JSON.into()),
        |_| Say::Slow(JSON.into(), b" ".into(), every(1)),
    ];
    for script in scripts {
        let server = Memory::new(script);
        let rig = server.rig(URL);
        let (workspace, grant) = (IdSource::system().next(), Secret::new("grant".to_owned()));
        let asked = Refresh {
            workspace: &workspace,
            token_endpoint: "https://id.example.com/token",
            client_id: "client",
            auth: ClientAuth::None,
            refresh_token: &grant,
            scope: None,
            resource: None,
        };
        let started = Instant::now();
        match oauth::refresh(rig.connector.http(), &asked).await {
            Err(RefreshError::Unreachable(HttpError::Timeout)) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(started.elapsed().as_secs(), 30);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_is_kept_for_an_hour_at_most() {
    for (ttl, hours) in [
        (value!(1_000_000_000_000_u64), 1.0),
        (value!(u64::MAX), 1.0),
        (value!(60_000), 1.0 / 60.0),
    ] {
        let server = Memory::new(move |got| match got.method() {
            "tools/list" => {
                got.result(value!({"tools": [], "ttlMs": ttl, "cacheScope": "private"}))
            }
            _ => common::modern(got).unwrap(),
        });
        let rig = server.rig(URL);
        let lists = || {
            server
                .methods()
                .iter()
                .filter(|m| *m == "tools/list")
                .count()
        };
        rig.connector.list(&rig.endpoint).await.unwrap();
        let kept = Duration::from_secs_f64(hours * 3600.0);
        tokio::time::advance(kept - every(2)).await;
        rig.connector.list(&rig.endpoint).await.unwrap();
        assert_eq!(lists(), 1);
        tokio::time::advance(every(3)).await;
        rig.connector.list(&rig.endpoint).await.unwrap();
        assert_eq!(lists(), 2);
    }
}
