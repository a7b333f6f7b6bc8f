//! Contract 50: the work queue's shapes.

use freehold_wire::Query;
use freehold_wire::work::{BeatQuery, Heartbeat, PollQuery, StopWork, UpdateWork, Work, WorkStats};
use freehold_wire::{ApiError, parse_or_empty};
use serde_json::{Value, json};

use crate::support::{read, refusal};

/// Read and written again, an object of the contract is what it was.
fn round_trip<T: serde::de::DeserializeOwned + serde::Serialize>(object: Value) {
    let typed: T = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), object);
}

fn message<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.unwrap_err().message
}

#[test]
fn the_contracts_objects() {
    round_trip::<Work>(json!({
        "id": "work_01HW", "type": "work", "environment_id": "env_01HE",
        "data": {"type": "session", "id": "sesn_01HS"}, "state": "starting", "secret": null,
        "metadata": {"rack": "b2"}, "created_at": "2026-11-20T08:00:00.000000Z",
        "acknowledged_at": "2026-11-20T08:00:01.000000Z", "started_at": null,
        "latest_heartbeat_at": null, "stop_requested_at": null, "stopped_at": null}));
    round_trip::<Heartbeat>(json!({
        "type": "work_heartbeat", "last_heartbeat": "2026-11-20T08:00:31.004211Z",
        "lease_extended": true, "state": "active", "ttl_seconds": 300}));
    round_trip::<WorkStats>(json!({
        "type": "work_queue_stats", "depth": 3, "pending": 1,
        "oldest_queued_at": "2026-11-20T07:59:58.000000Z", "workers_polling": 2}));
}

#[test]
fn a_poll() {
    let poll = |raw: &str| PollQuery::read(&Query::parse(raw).unwrap());
    let plain = poll("beta=true").unwrap();
    assert_eq!((plain.block_ms, plain.reclaim_older_than_ms), (None, 5_000));
    let given = poll("block_ms=999&reclaim_older_than_ms=0").unwrap();
    assert_eq!(
        (given.block_ms, given.reclaim_older_than_ms),
        (Some(999), 0)
    );
    for raw in ["block_ms=0", "block_ms=1000", "block_ms=", "block_ms=a"] {
        assert_eq!(
            message(poll(raw)),
            "block_ms: Input should be an integer from 1 to 999"
        );
    }
    assert!(message(poll("reclaim_older_than_ms=-1")).starts_with("reclaim_older_than_ms: "));
}

#[test]
fn a_heartbeat() {
    let beat = |raw: &str| BeatQuery::read(&Query::parse(raw).unwrap());
    let plain = beat("").unwrap();
    assert_eq!(
        (plain.expected_last_heartbeat, plain.ttl_seconds),
        (None, None)
    );
    let given =
        beat("expected_last_heartbeat=2026-11-20T08%3A00%3A31.004211Z&desired_ttl_seconds=60");
    let given = given.unwrap();
    assert_eq!(
        given.expected_last_heartbeat.as_deref(),
        Some("2026-11-20T08:00:31.004211Z")
    );
    assert_eq!(given.ttl_seconds, Some(60));
    for (desired, got) in [("1", 5), ("3600", 3600), ("86400", 3600)] {
        let raw = format!("desired_ttl_seconds={desired}");
        assert_eq!(beat(&raw).unwrap().ttl_seconds, Some(got));
    }
    assert!(message(beat("desired_ttl_seconds=0")).starts_with("desired_ttl_seconds: "));
}

#[test]
fn bodies() {
    for (body, force) in [
        (&b""[..], false),
        (b"{}", false),
        (br#"{"force":null}"#, false),
        (br#"{"force":true}"#, true),
    ] {
        assert_eq!(parse_or_empty::<StopWork>(body).unwrap().force, force);
    }
    assert!(refusal::<StopWork>(&json!({"force": 1})).starts_with("force: "));
    assert!(refusal::<StopWork>(&json!({"now": true})).starts_with("now: "));
    let patch = read::<UpdateWork>(&json!({"metadata": {"a": "1", "b": null}})).unwrap();
    assert_eq!(patch.metadata.0.len(), 2);
    let nothing = read::<UpdateWork>(&json!({ "metadata": null })).unwrap();
    assert!(nothing.metadata.0.is_empty());
    assert_eq!(
        refusal::<UpdateWork>(&json!({})),
        "metadata: Field required"
    );
}

#[test]
fn what_the_queue_notes_cannot_be_changed() {
    for change in [json!("x"), json!(null)] {
        let error = read::<UpdateWork>(&json!({ "metadata": { "freehold_lapsed_at": change } }));
        let error = error.unwrap_err();
        assert_eq!(error.code, Some("invalid_metadata"));
        assert!(
            error.message.contains("freehold_lapsed_at"),
            "{}",
            error.message
        );
    }
}
