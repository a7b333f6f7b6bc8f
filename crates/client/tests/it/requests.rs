//! Headers, retries and errors.

use crate::fake;
use freehold_base::Secret;
use freehold_client::{Client, ClientError, Options, Poll};
use serde_json::{Value, json};

const OVERLOADED: &str =
    r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"},"request_id":"req_1"}"#;
/// Makes retries immediate.
const NOW: (&str, &str) = ("retry-after-ms", "1");

#[tokio::test]
async fn a_request_carries_key_and_version_and_keeps_the_base_path() {
    let (fake, client) = fake::start().await;
    fake.answer(200, &[], r#"{"id":"agent_1"}"#);
    let agent = client.agent("a/../b?c").await.unwrap();
    assert_eq!(agent["id"], "agent_1");
    assert_eq!(fake.seen(), ["GET /base/v1/agents/a%2F..%2Fb%3Fc"]);
    let headers = fake.headers.lock().unwrap().clone();
    assert_eq!(headers["authorization"], "Bearer sk-test-key");
    assert_eq!(headers["anthropic-version"], "2026-10-21");
}

#[tokio::test]
async fn reads_are_repeated_and_creations_are_not() {
    let (fake, client) = fake::start().await;
    fake.answer(529, &[NOW], OVERLOADED);
    fake.answer(500, &[NOW], OVERLOADED);
    fake.answer(200, &[], "{}");
    client.session("s2").await.unwrap();
    assert_eq!(fake.seen().len(), 3);
    fake.answer(529, &[NOW], OVERLOADED);
    let error = client.create_session(&json!({})).await.unwrap_err();
    assert_eq!((error.status(), fake.seen().len()), (Some(529), 4));
}

#[tokio::test]
async fn retries_end_and_the_server_can_forbid_them() {
    let (fake, client) = fake::start().await;
    for _ in 0..4 {
        fake.answer(503, &[NOW], OVERLOADED);
    }
    assert_eq!(client.session("s2").await.unwrap_err().status(), Some(503));
    assert_eq!(fake.seen().len(), 3);
    fake.answers.lock().unwrap().clear();
    fake.answer(409, &[NOW, ("x-should-retry", "false")], OVERLOADED);
    assert_eq!(
        client.delete_session("s2").await.unwrap_err().status(),
        Some(409)
    );
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn an_error_tells_all_the_server_said() {
    let (fake, client) = fake::start().await;
    let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no such thing",
                   "details":{"error_code":"environment_archived"}}}"#;
    fake.answer(400, &[("request-id", "req_9")], body);
    let Err(ClientError::Api(failure)) = client.create_session(&json!({})).await else {
        panic!("not refused")
    };
    assert_eq!(failure.kind, "invalid_request_error");
    assert_eq!(failure.code.as_deref(), Some("environment_archived"));
    assert_eq!(failure.request_id.as_deref(), Some("req_9"));
    assert_eq!(failure.to_string(), "no such thing");
    fake.answer(404, &[], "<html>not ours</html>");
    let error = client.session("s2").await.unwrap_err();
    assert!(error.to_string().contains("status 404"), "{error}");
    fake.answer(200, &[], "<html>not ours</html>");
    assert!(matches!(
        client.session("s2").await,
        Err(ClientError::Protocol(_))
    ));
}

#[tokio::test]
async fn pages_are_walked_through() {
    let (fake, client) = fake::start().await;
    fake.answer(200, &[], r#"{"data":[1,2],"next_page":"p 2"}"#);
    fake.answer(200, &[], r#"{"data":[],"next_page":"p3"}"#);
    fake.answer(200, &[], r#"{"data":[3],"next_page":null}"#);
    let all: Vec<Value> = client
        .sessions(&[("statuses[]", "idle")])
        .take(10)
        .await
        .unwrap();
    assert_eq!(all, [json!(1), json!(2), json!(3)]);
    assert_eq!(
        fake.seen()[1],
        "GET /base/v1/sessions?statuses%5B%5D=idle&page=p+2"
    );
}

#[tokio::test]
async fn no_server_is_told_from_a_server_that_fails() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut options = Options::new(&url, Secret::new("k".into()));
    options.connect_timeout = std::time::Duration::from_secs(1);
    let error = Client::new(options)
        .unwrap()
        .session("s")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, ClientError::Connect { url: u, .. } if u.starts_with(&url)),
        "{error:?}"
    );
}

#[test]
fn what_cannot_be_used_is_refused_and_the_key_is_never_shown() {
    for url in ["", "127.0.0.1:80", "ftp://x", "http://user:pw@x", "http://"] {
        let client = Client::new(Options::new(url, Secret::new("k".into())));
        assert!(
            matches!(client, Err(ClientError::Configuration(_))),
            "{url}"
        );
    }
    let options = Options::new("http://x", Secret::new("sk\nsecret".into()));
    let error = Client::new(options).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("secret"));
    let client = Client::new(Options::new("http://x", Secret::new("sk-secret".into()))).unwrap();
    assert!(!format!("{client:?}").contains("secret"));
}

#[tokio::test]
async fn a_worker_polls_and_beats_with_keys_of_its_own() {
    let (fake, client) = fake::start().await;
    let environment = "env_1".parse().unwrap();
    fake.answer(200, &[], "null");
    let poll = Poll {
        worker_id: Some("w1"),
        block_ms: Some(999),
        reclaim_older_than_ms: Some(10),
    };
    assert_eq!(client.poll_work(&environment, poll).await.unwrap(), None);
    let headers = fake.headers.lock().unwrap().clone();
    assert_eq!(headers["anthropic-worker-id"], "w1");
    // An item whose answer is lost comes again by itself.
    fake.answer(500, &[NOW], OVERLOADED);
    let failed = client.poll_work(&environment, Poll::default()).await;
    assert_eq!(failed.unwrap_err().status(), Some(500));
    let token = Secret::new("sk-token".to_owned());
    let holder = client.with_key(&token).unwrap();
    let beat = r#"{"type":"work_heartbeat","last_heartbeat":"x","lease_extended":true,
        "state":"active","ttl_seconds":300}"#;
    fake.answer(500, &[NOW], OVERLOADED);
    fake.answer(200, &[], beat);
    let beat = holder
        .heartbeat_work(&environment, "work_1", "a:b", Some(60))
        .await
        .unwrap();
    assert_eq!(beat.last_heartbeat, "x");
    let headers = fake.headers.lock().unwrap().clone();
    assert_eq!(headers["authorization"], "Bearer sk-token");
    let base = "/base/v1/environments/env_1/work";
    let beat = format!(
        "POST {base}/work_1/heartbeat?expected_last_heartbeat=a%3Ab&desired_ttl_seconds=60"
    );
    assert_eq!(
        fake.seen(),
        [
            format!("GET {base}/poll?block_ms=999&reclaim_older_than_ms=10"),
            format!("GET {base}/poll"),
            beat.clone(),
            beat
        ]
    );
}
