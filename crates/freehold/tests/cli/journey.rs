//! A rehearsal session from end to end: real server, real sandbox, real tools.

use std::process::Command;

use serde_json::Value;

use crate::server::{KEY, Server, freehold, stderr, stdout};

const SCRIPT: &str = "say: hello \u{1b}[31mred\nbash: id -u; pwd; hostname\n\
    write: /mnt/session/outputs/result.txt <<< forty-two\nread: /mnt/session/outputs/result.txt\n\
    say: done";

fn events(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_prompt_runs_tools_leaves_a_file_and_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let server = Server::start(home);
    assert!(
        !server.greeting.contains(KEY),
        "a given key is not repeated"
    );
    let ran = server.run(home, &["run", "--json", SCRIPT]);
    assert!(ran.status.success(), "{}\n{}", stdout(&ran), stderr(&ran));
    let events = events(&stdout(&ran));
    let of = |kind: &str| {
        events
            .iter()
            .filter(|e| e["type"] == kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("agent.tool_use").len(), 3);
    let results = of("agent.tool_result");
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|r| r["is_error"] != true), "{results:?}");
    let bash = results[0]["content"][0]["text"].as_str().unwrap();
    assert!(
        bash.contains("/workspace") && !bash.starts_with("0\n"),
        "{bash}"
    );
    let last = events.last().unwrap();
    assert_eq!(last["type"], "session.status_idle");
    assert_eq!(last["stop_reason"]["type"], "end_turn");

    // It left a file, so it was kept.
    let list = server.run(home, &["sessions", "list", "--json"]);
    let list: Value = serde_json::from_str(&stdout(&list)).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let id = list[0]["id"].as_str().unwrap().to_owned();
    let (status, said) = server.stop();
    assert!(status.success(), "{said}");
    assert!(
        !said.contains("forty-two") && !said.contains(KEY),
        "content or key in the log"
    );

    let server = Server::start(home);
    let (file, files) = (home.join("export.json"), home.join("files"));
    let paths = [file.to_str().unwrap(), files.to_str().unwrap()];
    let export = server.run(
        home,
        &[
            "sessions", "export", &id, "--output", paths[0], "--files", paths[1],
        ],
    );
    assert!(export.status.success(), "{}", stderr(&export));
    let export: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(export["events"].as_array().unwrap(), &events);
    let saved = std::fs::read_dir(&files)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(std::fs::read_to_string(saved).unwrap(), "forty-two");
    let tail = server.run(home, &["sessions", "tail", &id, "--no-follow"]);
    assert!(stdout(&tail).contains("hello red") && !stdout(&tail).contains('\u{1b}'));

    assert!(
        server
            .run(home, &["sessions", "delete", &id])
            .status
            .success()
    );
    let sandboxes = home.join(".local/share/freehold/sandboxes").join(&id);
    assert!(!sandboxes.exists());
    assert_eq!(
        server.run(home, &["sessions", "show", &id]).status.code(),
        Some(9)
    );
}

#[test]
fn the_status_tells_how_the_turn_ended_and_good_sessions_go() {
    let home = tempfile::tempdir().unwrap();
    let mut command = freehold(home.path());
    let server = Server::spawn(
        command
            .env("FREEHOLD_BOOTSTRAP_KEY", KEY)
            .env("FREEHOLD_RETRY_BASE_MS", "1"),
    );
    for (script, status, sessions) in [
        ("say: fine", 0, 0),
        ("refuse: no", 5, 1),
        ("error: overloaded always", 3, 2),
        ("error: invalid_request always", 3, 3),
    ] {
        let ran = server.run(home.path(), &["run", script]);
        assert_eq!(
            ran.status.code(),
            Some(status),
            "{script}: {}",
            stderr(&ran)
        );
        let list = server.run(home.path(), &["sessions", "list", "--json"]);
        let list: Value = serde_json::from_str(&stdout(&list)).unwrap();
        assert_eq!(list.as_array().unwrap().len(), sessions, "{script}");
    }
}

#[test]
fn the_first_key_is_shown_once_and_keys_can_be_made_and_revoked() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    // Shown after the line the harness waits for, so it is read at the end.
    let (_, said) = Server::spawn(&mut freehold(home)).stop();
    let key = said
        .split_whitespace()
        .find(|w| w.starts_with("sk-fh-admin-"))
        .expect("no key shown");
    let server = Server::spawn(&mut freehold(home));
    let with = |key: &str, args: &[&str]| {
        let mut command: Command = freehold(home);
        command
            .env("FREEHOLD_URL", &server.url)
            .env("FREEHOLD_API_KEY", key);
        command.args(args).output().unwrap()
    };
    let made = with(key, &["keys", "create", "--name", "second", "--json"]);
    let made: Value = serde_json::from_str(&stdout(&made)).unwrap();
    let second = made["key"].as_str().unwrap();
    assert!(with(second, &["models"]).status.success());
    assert_eq!(
        with(second, &["keys", "list"]).status.code(),
        Some(8),
        "not an admin key"
    );
    assert!(!stdout(&with(key, &["keys", "list", "--json"])).contains(second));
    assert!(
        with(key, &["keys", "revoke", made["id"].as_str().unwrap()])
            .status
            .success()
    );
    assert_eq!(with(second, &["models"]).status.code(), Some(8));
    let (_, said) = server.stop();
    assert!(!said.contains("sk-fh-"), "shown again: {said}");

    // The way back in when every key is lost.
    let dir = home.join(".local/share/freehold");
    let offline = [
        "keys",
        "create",
        "--admin",
        "--data-dir",
        dir.to_str().unwrap(),
    ];
    let third = freehold(home).args(offline).output().unwrap();
    assert!(third.status.success(), "{}", stderr(&third));
    let server = Server::spawn(&mut freehold(home));
    let mut command = freehold(home);
    command
        .env("FREEHOLD_URL", &server.url)
        .env("FREEHOLD_API_KEY", stdout(&third).trim());
    assert!(
        command
            .args(["keys", "list"])
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[test]
fn web_tools_reach_nothing_private_and_search_is_not_pretended() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    // The server itself: a loopback address that does answer.
    let script = format!("fetch: {}/healthz\nsay: done", server.url);
    let ran = server.run(home.path(), &["run", "--json", &script]);
    assert!(ran.status.success(), "{}", stderr(&ran));
    let events = events(&stdout(&ran));
    let result = events
        .iter()
        .find(|e| e["type"] == "agent.tool_result")
        .expect("no result");
    assert_eq!(result["is_error"], true, "{result}");
    assert!(
        !result["content"][0]["text"]
            .as_str()
            .unwrap()
            .contains("\"ok\""),
        "{result}"
    );
    assert!(
        server.greeting.contains("web search   not configured"),
        "{}",
        server.greeting
    );
}

#[test]
fn the_first_key_can_be_in_a_file() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (config, key) = (home.join("freehold.toml"), home.join("first.key"));
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    let text = format!("bootstrap_key_file = {key:?}\n");
    std::fs::write(&config, text).unwrap();
    let server = Server::spawn(freehold(home).env("FREEHOLD_CONFIG", &config));
    assert!(!server.greeting.contains(KEY), "a given key is not shown");
    let listed = server.run(home, &["keys", "list"]);
    assert!(listed.status.success(), "{}", stderr(&listed));
    drop(server);

    std::fs::remove_file(&key).unwrap();
    let other = home.join("other");
    let refused = freehold(home)
        .env("FREEHOLD_CONFIG", &config)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(other)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("bootstrap_key_file"));
}
