//! The live stream, and its union with the log across reconnections.

use std::sync::Arc;

use crate::fake;
use freehold_client::{ClientError, Frame, History, Previews, Since};

async fn ids(history: &mut History, n: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < n {
        match history.next().await.unwrap() {
            Some(Frame::Event(event)) => ids.push(event.id),
            Some(_) => {}
            None => break,
        }
    }
    ids
}

#[tokio::test]
async fn the_log_first_then_live_each_event_once() {
    let (fake, client) = fake::start().await;
    for i in 0..5 {
        fake.append(&format!("e{i}"), "agent.message");
    }
    // What is appended while the stream opens is in the log and on the stream.
    *fake.on_open.lock().unwrap() = Some(Box::new(|fake| fake.append("both", "agent.message")));
    let mut history = client.stream_with_history("s1", Previews::Off, Since::Start);
    assert_eq!(
        ids(&mut history, 6).await,
        ["e0", "e1", "e2", "e3", "e4", "both"]
    );
    fake.append("live", "agent.message");
    assert_eq!(ids(&mut history, 1).await, ["live"]);
    assert!(history.is_live());
}

#[tokio::test]
async fn broken_connections_leave_no_gap_and_repeat_nothing() {
    let (fake, client) = fake::start().await;
    fake.append("e0", "agent.message");
    *fake.cuts.lock().unwrap() = [1, 2, 0, usize::MAX].into();
    let mut history = client.stream_with_history("s1", Previews::Off, Since::Start);
    history.open().await.unwrap();
    let writer = Arc::clone(&fake);
    let mut got = ids(&mut history, 1).await;
    for i in 1..12 {
        writer.append(&format!("e{i}"), "agent.message");
        if i % 3 == 0 {
            got.extend(ids(&mut history, 3).await);
        }
    }
    got.extend(ids(&mut history, 2).await);
    let all: Vec<String> = (0..12).map(|i| format!("e{i}")).collect();
    assert_eq!(got, all);
    let streams = fake
        .seen()
        .iter()
        .filter(|s| s.starts_with("STREAM"))
        .count();
    assert!(streams >= 4, "{:?}", fake.seen());
    // A reconnection reads only what is new.
    let later: Vec<String> = fake
        .seen()
        .into_iter()
        .filter(|s| s.contains("created_at"))
        .collect();
    assert!(!later.is_empty());
}

#[tokio::test]
async fn it_ends_with_the_session() {
    let (fake, client) = fake::start().await;
    fake.append("e0", "agent.message");
    fake.append("e1", "session.status_terminated");
    let mut history = client.stream_with_history("s1", Previews::Off, Since::Start);
    assert_eq!(ids(&mut history, 10).await, ["e0", "e1"]);
    assert!(history.next().await.unwrap().is_none());
}

#[tokio::test]
async fn an_unknown_session_is_an_error_at_once() {
    let (fake, client) = fake::start().await;
    let body = r#"{"type":"error","error":{"type":"not_found_error","message":"gone"}}"#;
    fake.answer(404, &[], body);
    let mut history = client.stream_with_history("other", Previews::Off, Since::Start);
    assert_eq!(history.next().await.unwrap_err().status(), Some(404));
}

#[tokio::test]
async fn previews_come_between_events_and_pings_do_not() {
    let (fake, client) = fake::start().await;
    let mut stream = client.stream("s1", Previews::On).await.unwrap();
    assert_eq!(
        fake.seen(),
        ["STREAM event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking"]
    );
    fake.frame("event: ping\ndata: {}\n\n: comment\n\n");
    fake.frame("event: x\ndata: {\"type\":\"event_start\",\"event\":{\"type\":\"agent.message\",\"id\":\"m\"}}\n\n");
    fake.frame(
        "event: x\ndata: {\"type\":\"event_delta\",\"event_id\":\"m\",\"delta\":{\"type\":\"content_delta\",\
         \"content\":{\"type\":\"text\",\"text\":\"hi\"}}}\n\n",
    );
    fake.append("m", "agent.message");
    fake.frame("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"lost\"}}\n\n");
    assert!(
        matches!(stream.next().await, Ok(Some(Frame::Start { id, kind })) if id == "m" && kind == "agent.message")
    );
    assert!(
        matches!(stream.next().await, Ok(Some(Frame::Delta { text, index: 0, .. })) if text == "hi")
    );
    assert!(matches!(stream.next().await, Ok(Some(Frame::Event(e))) if e.id == "m"));
    match stream.next().await {
        Err(ClientError::Api(failure)) => {
            assert_eq!((failure.status, failure.message.as_str()), (200, "lost"))
        }
        other => panic!("{other:?}"),
    }
}
