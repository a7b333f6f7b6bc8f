//! Contract 30, "Resource params".

use freehold_wire::resource::{AddResource, Resource, UpdateResource, normalise};
use freehold_wire::session::CreateSession;
use serde_json::{Value, json};

use crate::support::*;

fn file(path: Value) -> Value {
    json!({"type": "file", "file_id": "file_01", "mount_path": path})
}
fn session(resources: Value) -> Value {
    json!({"agent": "agent_01a", "environment_id": "env_01a", "resources": resources})
}

#[test]
fn mount_paths_are_rooted_and_normalised() {
    for (given, rooted) in [
        (json!("/data.csv"), "/mnt/session/uploads/data.csv"),
        (json!("/a/b/c.txt"), "/mnt/session/uploads/a/b/c.txt"),
        (json!("//a//./b"), "/mnt/session/uploads/a/b"),
        (json!("/mnt/session/uploads/x"), "/mnt/session/uploads/x"),
        (
            json!("/mnt/session/uploadsx"),
            "/mnt/session/uploads/mnt/session/uploadsx",
        ),
        (json!("/é ü"), "/mnt/session/uploads/é ü"),
        (json!(null), "/mnt/session/uploads/file_01"),
    ] {
        assert_eq!(
            read::<AddResource>(&file(given)).unwrap().0.mount_path,
            rooted
        );
    }
    for (given, message) in [
        ("data.csv", "Path should be absolute"),
        ("../x", "Path should be absolute"),
        ("/../x", "Path should not contain '..'"),
        ("/a/../../etc/passwd", "Path should not contain '..'"),
        (
            "/mnt/session/uploads/../outputs/x",
            "Path should not contain '..'",
        ),
        ("/", "Path should name a file, not end in '/'"),
        ("/a/", "Path should name a file, not end in '/'"),
        ("/.", "Path should name a place below the mount root"),
        (
            "/mnt/session/uploads",
            "Path should name a place below the mount root",
        ),
        (
            "/mnt/session/uploads/.",
            "Path should name a place below the mount root",
        ),
        ("/a\nb", "Path should not contain control characters"),
    ] {
        let message = format!("mount_path: {message}");
        assert_eq!(
            refusal::<AddResource>(&file(json!(given))),
            message,
            "{given}"
        );
    }
    let long = format!("/{}", "a".repeat(256));
    assert_eq!(normalise(&long, "/r"), Err("Path component is too long"));
    let long = "/é".repeat(600);
    assert_eq!(
        refusal::<AddResource>(&file(json!(long))),
        "mount_path: String should have at most 1024 characters"
    );
}

#[test]
fn params_are_read_whole() {
    let request = read::<CreateSession>(&session(json!([
        {"type": "file", "file_id": "file_01"},
        {"type": "github_repository", "url": "https://github.com/o/r", "authorization_token": "ghp_s3cret", "checkout": {"type": "branch", "name": "main"}},
        {"type": "github_repository", "url": "https://github.com/o/other", "checkout": {"type": "commit", "sha": "0123456789abcdef0123456789abcdef01234567"}, "mount_path": "/workspace/x"},
        {"type": "memory_store", "memory_store_id": "memstore_01a", "access": "read_only", "instructions": "i"}
    ])))
    .unwrap();
    let debug = format!("{request:?}");
    assert!(!debug.contains("s3cret"), "{debug}");
    assert!(
        debug.contains("/workspace/r\"") && debug.contains("/workspace/x\""),
        "{debug}"
    );
}

#[test]
fn rules() {
    let one = |resource: Value| session(json!([resource]));
    let repository = |extra: Value| {
        one(with(
            &json!({"type": "github_repository", "url": "https://github.com/o/r"}),
            extra,
        ))
    };
    let url = "resources.0.url: Input should be a repository URL of the form https://github.com/<owner>/<repo>, without .git";
    let store =
        |i: usize| json!({"type": "memory_store", "memory_store_id": format!("memstore_{i}")});
    let many_files: Vec<Value> = (0..501).map(|i| file(json!(format!("/{i}")))).collect();
    let many_stores: Vec<Value> = (0..9).map(store).collect();
    for (body, message) in [
        (
            one(json!({"type": "volume"})),
            "resources.0.type: Input tag 'volume' does not match any of the expected tags: 'file', 'github_repository' or 'memory_store'",
        ),
        (
            one(json!({"type": "file"})),
            "resources.0.file_id: Field required",
        ),
        (
            one(json!({"type": "file", "file_id": "sesn_1"})),
            "resources.0.file_id: not a valid id: expected the form file_…",
        ),
        (
            one(json!({"type": "file", "file_id": "file_1", "mode": 1})),
            "resources.0.mode: Extra inputs are not permitted",
        ),
        (
            session(json!([file(json!("/a")), file(json!("/a"))])),
            "resources.1.mount_path: `/mnt/session/uploads/a` collides with the mount path of another resource",
        ),
        (
            session(json!([
                file(json!("/a")),
                file(json!("/a-b")),
                file(json!("/a/b"))
            ])),
            "resources.2.mount_path: `/mnt/session/uploads/a/b` collides with the mount path of another resource",
        ),
        (
            session(json!([
                file(json!("/a/b")),
                file(json!("/a-b")),
                file(json!("/a"))
            ])),
            "resources.2.mount_path: `/mnt/session/uploads/a` collides with the mount path of another resource",
        ),
        (
            session(json!(many_files)),
            "resources: At most 500 files per session are allowed, not 501",
        ),
        (
            session(json!(many_stores)),
            "resources: At most 8 memory stores per session are allowed, not 9",
        ),
        (
            session(json!([store(1), store(1)])),
            "resources.1.memory_store_id: A memory store can be attached only once",
        ),
        (
            one(json!({"type": "memory_store", "memory_store_id": "x"})),
            "resources.0.memory_store_id: not a valid id: expected the form memstore_…",
        ),
        (
            one(
                json!({"type": "memory_store", "memory_store_id": "memstore_1", "access": "write"}),
            ),
            "resources.0.access: Input should be 'read_write' or 'read_only'",
        ),
        (repository(json!({"url": "git@github.com:o/r"})), url),
        (
            repository(json!({"url": "https://github.com/o/r.git"})),
            url,
        ),
        (repository(json!({"url": "https://github.com/o"})), url),
        (repository(json!({"url": "https://github.com/o/.."})), url),
        (repository(json!({"url": "https://github.com/o/r/x"})), url),
        (repository(json!({"url": "https://example.com/o/r"})), url),
        (
            repository(json!({"checkout": {"type": "branch", "name": "--upload-pack=x"}})),
            "resources.0.checkout.name: Input should be a branch name",
        ),
        (
            repository(json!({"checkout": {"type": "commit", "sha": "abc"}})),
            "resources.0.checkout.sha: Input should be a full commit SHA of 40 digits",
        ),
        (
            repository(json!({"authorization_token": ""})),
            "resources.0.authorization_token: String should have at least 1 character",
        ),
        (
            repository(json!({"mount_path": "x"})),
            "resources.0.mount_path: Path should be absolute",
        ),
    ] {
        assert_eq!(refusal::<CreateSession>(&body), message, "{body}");
    }
    assert_eq!(
        refusal::<AddResource>(
            &json!({"type": "github_repository", "url": "https://github.com/o/r"})
        ),
        "type: Input tag 'github_repository' does not match any of the expected tags: 'file'"
    );
    assert_eq!(
        refusal::<UpdateResource>(&json!({})),
        "authorization_token: Field required"
    );
}

#[test]
fn a_later_file_must_not_collide() {
    let add = read::<AddResource>(&file(json!("/a/b"))).unwrap();
    add.check_mount(["/mnt/session/uploads/a.txt", "/workspace/r"])
        .unwrap();
    assert!(add.check_mount(["/mnt/session/uploads/a"]).is_err());
}

#[test]
fn a_repository_shows_no_token() {
    let shown = json!({"id": "sesrsc_01b", "type": "github_repository", "url": "https://github.com/o/r", "mount_path": "/workspace/r",
        "checkout": null, "created_at": "2026-11-01T10:00:00.000000Z", "updated_at": "2026-11-01T10:00:00.000000Z"});
    let resource: Resource = serde_json::from_value(shown.clone()).unwrap();
    assert_eq!(serde_json::to_value(resource).unwrap(), shown);
}
