//! `freehold secrets rotate`, and what becomes of secrets between servers.

use std::path::{Path, PathBuf};
use std::process::Output;

use freehold_base::Secret;
use freehold_client::{Client, Options};
use serde_json::{Value, json};

use crate::server::{KEY, Server, freehold, stderr, stdout};

/// Works with a server's API.
fn api<T>(server: &Server, work: impl AsyncFnOnce(&Client) -> T) -> T {
    let client = Client::new(Options::new(&server.url, Secret::new(KEY.to_owned()))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work(&client))
}

fn variable(value: &str) -> Value {
    json!({"auth": {"type": "environment_variable", "secret_name": "ACME_KEY",
        "secret_value": value, "networking": {"type": "unrestricted"}}})
}

async fn store(client: &Client, value: &str) {
    let vault = client.create_vault(&json!({"display_name": "v"})).await;
    let vault = vault.unwrap()["id"].as_str().unwrap().to_owned();
    let made = client.create_credential(&vault, &variable(value)).await;
    made.unwrap();
}

fn rotate(home: &Path, args: &[&str]) -> Output {
    let command = &mut freehold(home);
    command.args(["secrets", "rotate"]).args(args);
    command.output().unwrap()
}

fn key_file(home: &Path) -> PathBuf {
    home.join(".local/share/freehold/secrets.key")
}

/// The keys of a key file.
fn keys(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let keys = text.lines().filter(|l| !l.starts_with('#'));
    keys.map(str::to_owned).collect()
}

#[test]
fn a_servers_own_key_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let nothing = rotate(home, &[]);
    assert_eq!(nothing.status.code(), Some(9), "{}", stderr(&nothing));
    let server = Server::start(home);
    api(&server, async |client| {
        store(client, "one").await;
        store(client, "two").await;
    });
    let before = keys(&key_file(home));
    let busy = rotate(home, &[]);
    assert_eq!(busy.status.code(), Some(1));
    assert!(
        stderr(&busy).contains("stop the server first"),
        "{}",
        stderr(&busy)
    );
    assert_eq!(keys(&key_file(home)), before);
    server.stop();
    let done = rotate(home, &["--json"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let done: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(done["rewrapped"], 2);
    let after = keys(&key_file(home));
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
    let (status, said) = Server::start(home).stop();
    assert!(status.success());
    assert!(!said.contains("master key"), "{said}");
    // Without its key the server starts, and says what is wrong.
    std::fs::remove_file(key_file(home)).unwrap();
    let server = Server::start(home);
    assert!(
        server
            .greeting
            .contains("a master key that is not configured"),
        "{}",
        server.greeting
    );
    server.stop();
    let stuck = rotate(home, &[]);
    assert_eq!(stuck.status.code(), Some(1));
    assert!(
        stderr(&stuck).contains("keep the older keys"),
        "{}",
        stderr(&stuck)
    );
    for key in before.iter().chain(&after) {
        assert!(!stderr(&stuck).contains(key) && !said.contains(key));
    }
}

#[test]
fn configured_keys_are_the_operators() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let (old, new) = ("0a".repeat(32), "0b".repeat(32));
    let file = home.join("master");
    let config = home.join("freehold.toml");
    std::fs::write(&config, format!("[secrets]\nkey_file = {file:?}\n")).unwrap();
    let serve = || {
        let mut command = freehold(home);
        command.env("FREEHOLD_BOOTSTRAP_KEY", KEY);
        Server::spawn(command.env("FREEHOLD_CONFIG", &config))
    };
    std::fs::write(&file, &old).unwrap();
    let server = serve();
    api(&server, async |client| store(client, "one").await);
    server.stop();
    assert!(!key_file(home).exists(), "no key of its own was needed");
    std::fs::write(&file, format!("{new}\n{old}\n")).unwrap();
    let config_path = config.to_str().unwrap();
    let done = rotate(home, &["--config", config_path, "--json"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let done: Value = serde_json::from_str(&stdout(&done)).unwrap();
    assert_eq!(done["rewrapped"], 1);
    std::fs::write(&file, &new).unwrap();
    let server = serve();
    assert!(
        !server.greeting.contains("master key"),
        "{}",
        server.greeting
    );
    server.stop();
    std::fs::write(&file, "not a key").unwrap();
    let refused = rotate(home, &["--config", config_path]);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(
        said.contains("secrets.key_file") && !said.contains("not a key"),
        "{said}"
    );
}
