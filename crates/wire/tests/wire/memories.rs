//! Memory stores and memories (contract 74).

use freehold_wire::Query;
use freehold_wire::list::{ListMemories, ListMemoryVersions};
use freehold_wire::memory::{CreateMemory, UpdateMemory, View};
use freehold_wire::memory_store::{CreateMemoryStore, UpdateMemoryStore};
use serde_json::{Value, json};

use crate::support::*;

#[test]
fn stores() {
    let id = "memstore_1".parse().unwrap();
    let create: CreateMemoryStore = read(&json!({"name": "n".repeat(255)})).unwrap();
    let store = create.into_store(id, at(1));
    assert_eq!(store.description, "", "always a string");
    for (body, message) in [
        (json!({}), "name: Field required"),
        (
            json!({"name": ""}),
            "name: String should have at least 1 character",
        ),
        (
            json!({"name": "n".repeat(256)}),
            "name: String should have at most 255 characters",
        ),
        (
            json!({"name": "a\nb"}),
            "name: String should not contain control characters",
        ),
        (
            json!({"name": "a", "description": "d".repeat(1025)}),
            "description: String should have at most 1024 characters",
        ),
        (
            json!({"name": "a", "x": 1}),
            "x: Extra inputs are not permitted",
        ),
    ] {
        assert_eq!(refusal::<CreateMemoryStore>(&body), message);
    }
    let change = |body: Value| read::<UpdateMemoryStore>(&body).unwrap().resolve(&store);
    assert_eq!(
        change(json!({"name": null, "description": ""})).unwrap(),
        None
    );
    let changed = change(json!({"description": "d", "metadata": {"a": "b"}}))
        .unwrap()
        .unwrap();
    assert_eq!(
        (changed.description.as_str(), changed.metadata["a"].as_str()),
        ("d", "b")
    );
    let cleared = read::<UpdateMemoryStore>(&json!({"description": "", "metadata": {"a": null}}));
    assert_eq!(
        cleared.unwrap().resolve(&changed).unwrap().as_ref(),
        Some(&store)
    );
    let archived = freehold_wire::memory_store::MemoryStore {
        archived_at: Some(at(2)),
        ..store.clone()
    };
    let refused = read::<UpdateMemoryStore>(&json!({"name": "n"}))
        .unwrap()
        .resolve(&archived);
    assert_eq!(refused.unwrap_err().code, Some("memory_store_archived"));
}

#[test]
fn memories() {
    let create = |content: Value| read::<CreateMemory>(&json!({"path": "/a", "content": content}));
    assert_eq!(create(json!(null)).unwrap().content, "");
    assert_eq!(
        create(json!("\0\r\n")).unwrap().content,
        "\0\r\n",
        "bytes are kept"
    );
    assert!(create(json!("ä".repeat(51_200))).is_ok());
    for (body, message) in [
        (json!({"path": "/a"}), "content: Field required"),
        (json!({"content": ""}), "path: Field required"),
        (
            json!({"path": "/a", "content": "x".repeat(102_401)}),
            "content: Content should have at most 102400 bytes, not 102401",
        ),
        (
            json!({"path": "a", "content": ""}),
            "path: Path should start with '/'",
        ),
    ] {
        assert_eq!(refusal::<CreateMemory>(&body), message);
    }
    let sha = "0f".repeat(32);
    let precondition = json!({"type": "content_sha256", "content_sha256": sha});
    let update: UpdateMemory =
        read(&json!({"path": null, "content": "x", "precondition": precondition})).unwrap();
    assert_eq!(
        (update.path, update.expected_sha256),
        (None, Some(sha.clone()))
    );
    for bad in [
        json!({"content": 1}),
        json!({"precondition": {"type": "etag", "content_sha256": sha}}),
        json!({"precondition": {"type": "content_sha256"}}),
        json!({"precondition": {"type": "content_sha256", "content_sha256": sha.to_uppercase()}}),
        json!({"precondition": {"type": "content_sha256", "content_sha256": "0f"}}),
    ] {
        refusal::<UpdateMemory>(&bad);
    }
}

#[test]
fn lists() {
    let store = "memstore_1".parse().unwrap();
    let memories = |q: &str| ListMemories::read(&Query::parse(q).unwrap(), &store);
    let plain = memories("").unwrap();
    assert_eq!(
        (plain.limit, plain.view, plain.folded),
        (20, View::Basic, false)
    );
    assert_eq!(plain.path_prefix, "/");
    assert_eq!(memories("limit=100&view=full").unwrap().limit, 20);
    assert_eq!(memories("limit=100&view=basic").unwrap().limit, 100);
    assert!(memories("depth=1&path_prefix=/a/").unwrap().folded);
    for bad in [
        "depth=2",
        "depth=-1",
        "limit=0",
        "limit=101",
        "path_prefix=/a",
        "view=half",
    ] {
        assert!(memories(bad).is_err(), "{bad}");
    }
    let versions = |q: &str| ListMemoryVersions::read(&Query::parse(q).unwrap(), &store);
    assert_eq!(versions("view=full&limit=50").unwrap().limit, 20);
    for bad in ["operation=renamed", "memory_id=x", "session_id=mem_1"] {
        assert!(versions(bad).is_err(), "{bad}");
    }
    let long = format!("/{}", "\"".repeat(1023));
    let cursor = ListMemories::scope(&store).next(freehold_wire::cursor::Position::Path(long));
    assert!(
        memories(&format!("page={cursor}")).is_ok(),
        "the longest path there is"
    );
    assert!(versions(&format!("page={cursor}")).is_err());
}
