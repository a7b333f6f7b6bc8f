//! What a running gateway makes of files that change, and of those it cannot use.

mod world;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_base::IdSource;
use freehold_tunnel::gateway::{Limits, setup};

use world::logs::Logs;
use world::{Given, World};

async fn watched() -> World {
    World::with(Given {
        limits: Limits {
            look: Duration::from_millis(5),
            ..Limits::default()
        },
        ..Given::default()
    })
    .await
}

/// Waits until the gateway complains, and sees that everything is as it was.
async fn complains(world: &World, says: &str) {
    world
        .until(says, |s| {
            s.last_error.as_ref().is_some_and(|(_, e)| e.contains(says))
        })
        .await;
    assert!(world.get("/").await.unwrap().contains("200 OK"), "{says}");
}

/// A certificate and its key of the same authority, elsewhere.
fn pair(world: &World) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for name in [setup::CA_CERT, setup::CA_KEY] {
        std::fs::copy(world.dir.path().join(name), dir.path().join(name)).unwrap();
    }
    let now = IdSource::system().clock().now();
    let long = Duration::from_secs(30 * 24 * 60 * 60);
    setup::new_certificate(dir.path(), "abc.tunnel.test", now, long).unwrap();
    let (cert, key) = (dir.path().join(setup::CERT), dir.path().join(setup::KEY));
    (dir, cert, key)
}

fn put(world: &World, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(world.dir.path().join(name), bytes).unwrap();
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_changes_nothing() {
    let (logs, _guard) = Logs::start();
    let world = watched().await;
    let mut complaints = 0;
    for (config, says) in [
        (
            "routes: [a]\n",
            "cannot unmarshal !!seq into map[string]string",
        ),
        (
            "routes: {app: 'http://h:1/path'}\n",
            "routes.app: invalid upstream (must be scheme://host:port)",
        ),
        ("routes: {app: 'http://h'}\n", "invalid upstream"),
        ("routes: {app\n", "line"),
        ("nonsense: 1\n", "nonsense"),
        ("routes: {}\n", "at least one is needed"),
        (
            "routes: {app: 'https://10.0.0.1:1'}\nupstream: {tls: {ca_file: /none}}\n",
            "/none",
        ),
    ] {
        world.configure(config);
        complains(&world, says).await;
        complaints += 1;
        let logged = logs.all("the configuration was not reloaded; the old one stays");
        assert_eq!(logged.len(), complaints, "{logged:?}");
    }
    // Half of it, and nothing of it.
    let file = world.dir.path().join("config.yaml");
    world.configure("");
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 10]).unwrap();
    complains(&world, "the configuration was not reloaded").await;
    std::fs::remove_file(&file).unwrap();
    complains(&world, "No such file").await;
    // What comes after is taken again.
    world.configure("preserve_host: [app]\nlog_arguments: true\nlog_level: debug\n");
    world
        .until("the note", |s| {
            s.notes == ["log_level has changed in the file, and needs a restart"]
        })
        .await;
    let answer = world.get("/").await.unwrap();
    assert!(answer.contains("host: app.abc.tunnel.test"), "{answer}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_changes_nothing() {
    let (logs, _guard) = Logs::start();
    let world = watched().await;
    let (_dir, cert, key) = pair(&world);
    let (cert, key) = (std::fs::read(cert).unwrap(), std::fs::read(key).unwrap());
    // Half of a certificate, none, that of another key, and a key that cannot be read.
    put(&world, setup::CERT, &cert[..cert.len() / 2]);
    complains(&world, "tls.crt").await;
    put(&world, setup::CERT, "");
    complains(&world, "no certificate in it").await;
    put(&world, setup::CERT, &cert);
    complains(&world, "does not belong to the certificate").await;
    put(&world, setup::KEY, &key[..key.len() / 2]);
    complains(&world, "tls.key").await;
    std::fs::remove_file(world.dir.path().join(setup::KEY)).unwrap();
    complains(&world, "No such file").await;
    // One that nobody can read, root neither.
    std::fs::create_dir(world.dir.path().join(setup::KEY)).unwrap();
    complains(&world, "Is a directory").await;
    std::fs::remove_dir(world.dir.path().join(setup::KEY)).unwrap();
    let logged = logs.all("the certificate was not reloaded; the old one stays");
    assert!((6..=7).contains(&logged.len()), "{logged:?}");
    assert!(!logs.text().contains("PRIVATE KEY"), "a key was logged");
    // Whole again: the new one is taken up without a restart.
    put(&world, setup::KEY, &key);
    world
        .until("the new certificate", |s| s.certificate_days_left == 29)
        .await;
    assert!(world.get("/").await.unwrap().contains("200 OK"));
}

#[tokio::test]
async fn what_needs_a_restart_is_said_and_not_done() {
    let (logs, _guard) = Logs::start();
    let world = watched().await;
    let d = world.dir.path().display();
    world.configure(&format!(
        "edge: {{address: 'elsewhere:1', token_file: {d}/other, connections: 3}}\n\
         tls: {{cert_file: {d}/other.crt, key_file: {d}/other.key}}\n\
         status_file: {d}/status.json\nshutdown_timeout: 1s\n"
    ));
    let keys = [
        "shutdown_timeout",
        "tls.cert_file",
        "tls.key_file",
        "edge.address",
        "edge.fingerprint",
        "edge.token_file",
        "edge.connections",
        "status_file",
    ];
    let says = keys.map(|key| format!("{key} has changed in the file, and needs a restart"));
    world.until("the notes", |s| s.notes == says).await;
    for said in &says {
        assert_eq!(logs.all(said).len(), 1, "{said}");
    }
    assert!(!Path::new(&format!("{d}/status.json")).exists());
    assert!(world.get("/").await.unwrap().contains("200 OK"));
    // As it was: nothing is left to say.
    world.configure("");
    world.until("no notes", |s| s.notes.is_empty()).await;
}

#[tokio::test]
async fn files_that_everybody_can_read_or_change_are_told_of() {
    let (logs, _guard) = Logs::start();
    let world = watched().await;
    world.until("no notes", |s| s.notes.is_empty()).await;
    let d = world.dir.path();
    for (name, mode) in [("token", 0o644), ("tls.key", 0o640), ("config.yaml", 0o646)] {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(d.join(name), mode).unwrap();
    }
    world.configure("preserve_host: [app]\n");
    let says = [
        format!(
            "{}/token: everybody on this host can read it; chmod o-rw",
            d.display()
        ),
        format!(
            "{}/config.yaml: everybody on this host can change it; chmod o-rw",
            d.display()
        ),
    ];
    world.until("the notes", |s| s.notes == says).await;
    for said in &says {
        assert_eq!(logs.all(said).len(), 1, "{said}");
    }
}

#[tokio::test]
async fn tokens_and_keys_are_in_no_log() {
    let (logs, _guard) = Logs::start();
    let mut world = watched().await;
    assert!(world.get("/").await.unwrap().contains("200 OK"));
    // Refused, and taken again.
    world.directory.rotate("another-secret-token");
    world.restart_edge_alone().await;
    world
        .until("the token to be refused", |s| {
            s.last_error
                .as_ref()
                .is_some_and(|(_, e)| e.contains("does not take the token"))
        })
        .await;
    world.configure("log_level: debug\n");
    world.until("a note", |s| !s.notes.is_empty()).await;
    let key = std::fs::read_to_string(world.dir.path().join(setup::KEY)).unwrap();
    let key = key.lines().nth(1).unwrap();
    let text = logs.text();
    assert!(text.contains("connected to the edge"), "nothing was logged");
    for secret in [world::TOKEN, "another-secret-token", key] {
        assert!(!text.contains(secret), "{secret} was logged");
    }
}
