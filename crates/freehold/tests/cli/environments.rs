//! `freehold environments`: keys for workers, and the queue they work on.

use freehold_base::Secret;
use freehold_client::{Client, Options, Poll};
use serde_json::{Value, json};

use crate::server::{KEY, Server, freehold, stderr, stdout};

#[test]
fn keys_are_made_and_revoked_and_the_queue_is_seen_and_stopped() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let server = Server::start(home);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = |key: &str| {
        Client::new(Options::new(
            server.url.clone(),
            Secret::new(key.to_owned()),
        ))
        .unwrap()
    };
    let admin = client(KEY);
    let (environment, session) = runtime.block_on(async {
        let hosted = json!({"name": "hosted", "config": {"type": "self_hosted"}});
        let environment = admin.create_environment(&hosted).await.unwrap()["id"].clone();
        let agent = json!({"name": "a", "model": "rehearsal"});
        let agent = admin.create_agent(&agent).await.unwrap()["id"].clone();
        let session = json!({"agent": agent, "environment_id": environment});
        let session = admin.create_session(&session).await.unwrap()["id"].clone();
        (environment, session)
    });
    let environment = environment.as_str().unwrap();
    let run = |args: &[&str]| {
        let words = [&["environments"], args].concat();
        let ran = server.run(home, &words);
        assert!(ran.status.success(), "{words:?}: {}", stderr(&ran));
        stdout(&ran)
    };
    let key = run(&["keys", "create", environment, "--name", "rack-1"]);
    let key = key.trim();
    assert!(key.starts_with("sk-ant-oat01-"), "the key alone: {key}");
    let listed = run(&["keys", "list", environment]);
    assert!(
        listed.contains("rack-1") && !listed.contains(key),
        "{listed}"
    );
    let stats: Value =
        serde_json::from_str(&run(&["work", "stats", environment, "--json"])).unwrap();
    assert_eq!((&stats["depth"], &stats["pending"]), (&json!(1), &json!(0)));
    let worker = client(key);
    let id = environment.parse().unwrap();
    let item = runtime
        .block_on(worker.poll_work(&id, Poll::default()))
        .unwrap()
        .unwrap();
    assert_eq!(item.data.id, session.as_str().unwrap());
    let listed = run(&["work", "list", environment]);
    assert!(listed.contains(item.id.as_str()) && listed.contains("queued"));
    let stopped = run(&["work", "stop", environment, item.id.as_str(), "--force"]);
    assert_eq!(stopped.trim(), format!("stopped {}", item.id));

    let keys: Value = serde_json::from_str(&run(&["keys", "list", environment, "--json"])).unwrap();
    let row = keys[0]["id"].as_str().unwrap();
    run(&["keys", "revoke", environment, row]);
    let refused = runtime.block_on(worker.poll_work(&id, Poll::default()));
    assert_eq!(refused.unwrap_err().status(), Some(401));
    assert!(run(&["keys", "list", environment]).contains("revoked"));

    // A worker's key is none for people.
    let mut command = freehold(home);
    command
        .env("FREEHOLD_URL", &server.url)
        .env("FREEHOLD_API_KEY", key);
    let models = command.arg("models").output().unwrap();
    assert_eq!(models.status.code(), Some(8));
    let (_, said) = server.stop();
    assert!(!said.contains("sk-ant-"), "a key in the log: {said}");
}
