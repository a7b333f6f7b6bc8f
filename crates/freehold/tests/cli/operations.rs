//! `freehold doctor --history`, `sessions delete --prove`, `backup`, `restore`, `export` and `import`,
//! on stores that a real server wrote or is writing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use reqwest::{Client, Method};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::server::{KEY, Server, freehold, stderr, stdout};

/// Leaves an output, so that it is kept, and more in the sandbox.
const SCRIPT: &str = "write: /mnt/session/outputs/result.txt <<< forty-two\n\
    bash: echo more > /workspace/file\nsay: done";

/// Where a server is, and on which database.
struct Place {
    home: tempfile::TempDir,
    database: Option<String>,
}

impl Place {
    fn new(database: Option<&str>) -> Self {
        let home = tempfile::tempdir().unwrap();
        let database = database.map(str::to_owned);
        Self { home, database }
    }
    fn data(&self) -> PathBuf {
        self.home.path().join(".local/share/freehold")
    }
    fn command(&self) -> Command {
        let mut command = freehold(self.home.path());
        if let Some(url) = &self.database {
            command.env("FREEHOLD_DATABASE_URL", url);
        }
        command
    }
    fn serve(&self) -> Server {
        Server::spawn(self.command().env("FREEHOLD_BOOTSTRAP_KEY", KEY))
    }
    /// Runs a command; beside a server, as its client.
    fn run(&self, server: Option<&Server>, args: &[&str]) -> Output {
        let mut command = self.command();
        if let Some(server) = server {
            command.env("FREEHOLD_URL", &server.url);
            command.env("FREEHOLD_API_KEY", KEY);
        }
        command.args(args).output().unwrap()
    }
    /// The same, for what must succeed.
    fn done(&self, server: Option<&Server>, args: &[&str]) -> String {
        let output = self.run(server, args);
        let (out, err) = (stdout(&output), stderr(&output));
        assert!(output.status.success(), "{args:?}: {out}{err}");
        out
    }
    /// Runs the script in a new session; its id.
    fn session(&self, server: &Server) -> String {
        self.done(Some(server), &["run", SCRIPT]);
        let list = self.done(Some(server), &["sessions", "list", "--json"]);
        let list: Value = serde_json::from_str(&list).unwrap();
        list[0]["id"].as_str().unwrap().to_owned()
    }
}

/// A request to a server.
async fn ask(url: &str, method: Method, path: &str, body: Option<Value>) -> Option<Value> {
    let mut request = Client::new().request(method, format!("{url}{path}"));
    if let Some(body) = body {
        request = request.json(&body);
    }
    let request = request
        .bearer_auth(KEY)
        .header("anthropic-version", "2026-10-21");
    let answer = request.send().await.ok()?;
    let status = answer.status();
    let text = answer.text().await.ok()?;
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).ok()
}

/// Sends a message and waits until the session is at rest again; its events.
async fn say(server: &Server, session: &str, text: &str) -> Vec<Value> {
    let events = format!("/v1/sessions/{session}/events");
    let stream = Client::new()
        .get(format!("{}{events}/stream", server.url))
        .bearer_auth(KEY)
        .header("anthropic-version", "2026-10-21");
    let mut frames = stream.send().await.unwrap().bytes_stream();
    let content = json!([{ "type": "text", "text": text }]);
    let message = json!({ "events": [{ "type": "user.message", "content": content }] });
    ask(&server.url, Method::POST, &events, Some(message)).await;
    loop {
        let row = format!("/v1/sessions/{session}");
        let row = ask(&server.url, Method::GET, &row, None).await.unwrap();
        let list = format!("{events}?limit=1000");
        let list = ask(&server.url, Method::GET, &list, None).await.unwrap();
        let list = list["data"].as_array().unwrap().clone();
        if row["status"] == "idle" && list.iter().all(|e| !e["processed_at"].is_null()) {
            return list;
        }
        frames.next().await.unwrap().unwrap();
    }
}

fn block<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}

#[test]
fn a_session_is_checked_and_its_deletion_proved_beside_the_server_in_either_engine() {
    let cluster = Cluster::start();
    let name = cluster.database();
    for database in [None, Some(cluster.url(&name))] {
        let place = Place::new(database.as_deref());
        let sql = |sql: &str| match &place.database {
            Some(_) => drop(cluster.sql(&name, sql)),
            None => {
                let database = Connection::open(place.data().join("freehold.db")).unwrap();
                database.execute_batch(sql).unwrap();
            }
        };
        let server = place.serve();
        let id = place.session(&server);
        let check = ["doctor", "--history", &id];
        let good = place.done(None, &check);
        assert!(!good.contains("broken"), "{good}");
        assert!(good.contains("2 tool uses with 2 results"), "{good}");
        let json: Value =
            serde_json::from_str(&place.done(None, &[&check[..], &["--json"]].concat())).unwrap();
        assert_eq!(json["ok"], true);
        let counts = json["checks"].as_array().unwrap();
        assert!(
            counts.iter().filter(|c| c["count"] != 0).count() >= 7,
            "{json}"
        );

        sql(&format!(
            "UPDATE session SET head_seq = head_seq + 1 WHERE id = '{id}'"
        ));
        let bad = place.run(None, &check);
        assert_eq!(bad.status.code(), Some(1));
        assert!(stdout(&bad).contains("broken"), "{}", stdout(&bad));
        assert!(stdout(&bad).contains("the head is"), "{}", stdout(&bad));
        sql(&format!(
            "UPDATE session SET head_seq = head_seq - 1 WHERE id = '{id}'"
        ));
        place.done(None, &check);
        let sandbox = place.data().join("sandboxes").join(&id);
        assert!(sandbox.exists());

        let delete = ["sessions", "delete", "--prove", "--json"];
        let proved = place.done(Some(&server), &[&delete[..], &[&id]].concat());
        let proved: Value = serde_json::from_str(&proved).unwrap();
        let proof = &proved[0]["proof"];
        assert_eq!(proof["proved"], true, "{proof}");
        assert!(!sandbox.exists());
        assert_eq!(proof["data_dir"]["left"], json!([]));
        assert_ne!(proof["data_dir"]["before"], 0);
        assert_ne!(proof["blobs"]["gone"], 0);
        let rows = |when: &str| -> i64 {
            let rows = proof["rows"][when].as_array().unwrap().iter();
            rows.map(|t| t["rows"].as_i64().unwrap()).sum()
        };
        assert!(rows("before") > 10);
        assert_eq!(rows("after"), 0);
        let gone = place.run(None, &check);
        assert_eq!(gone.status.code(), Some(9), "{}", stderr(&gone));

        // What is left, wherever it is, is found.
        let id = place.session(&server);
        let stray = place.data().join("spool-of").join(format!("{id}.part"));
        std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
        std::fs::write(&stray, "").unwrap();
        sql(&format!(
            "UPDATE environment SET name = '{id}' WHERE archived_at IS NULL"
        ));
        let kept = place.run(Some(&server), &["sessions", "delete", "--prove", &id]);
        assert_eq!(kept.status.code(), Some(1), "{}", stdout(&kept));
        let said = stdout(&kept);
        assert!(said.contains("environment.name: 1 of 1 left"), "{said}");
        assert!(said.contains(stray.to_str().unwrap()), "{said}");
        server.stop();
    }
}

/// The way back in leads to the database that the server's file names.
#[test]
fn a_key_is_made_where_the_servers_configuration_says() {
    let cluster = Cluster::start();
    let name = cluster.database();
    let place = Place::new(None);
    let config = place.home.path().join("freehold.toml");
    let url = cluster.url(&name);
    std::fs::write(&config, format!("database_url = \"{url}\"\n")).unwrap();
    let (dir, config) = (place.data(), config.to_str().unwrap().to_owned());
    let at = ["--data-dir", dir.to_str().unwrap(), "--config", &config];
    let create = ["keys", "create", "--name", "back in", "--admin"];
    place.done(None, &[&create[..], &at].concat());
    let made = cluster.sql(&name, "SELECT name FROM api_key");
    assert_eq!(made, "back in");
    assert!(!dir.join("freehold.db").exists());
    let listed = place.done(None, &[&["keys", "list"][..], &at].concat());
    assert!(listed.contains("back in"), "{listed}");
}

/// A skill that is never the same, uploaded; its id, if the server was still there.
fn upload(place: &Place, server: &Server, folder: &Path, n: usize) -> Option<String> {
    let text = format!("---\nname: skill\ndescription: Number {n}.\n---\n");
    std::fs::write(folder.join("SKILL.md"), text).unwrap();
    let done = place.run(
        Some(server),
        &["skills", "upload", folder.to_str().unwrap()],
    );
    done.status
        .success()
        .then(|| stdout(&done).trim().to_owned())
}

#[test]
fn a_backup_under_writes_has_everything_that_was_acknowledged_before() {
    let place = Place::new(None);
    let server = place.serve();
    let id = place.session(&server);
    let dest = place.home.path().join("backup");
    let folder = place.home.path().join("skill");
    std::fs::create_dir(&folder).unwrap();
    let kept: Vec<_> = (0..3)
        .map(|n| upload(&place, &server, &folder, n).unwrap())
        .collect();
    let before = block(say(&server, &id, "say: before"));
    let stop = AtomicBool::new(false);
    let (writes, said) = std::thread::scope(|scope| {
        // Blobs come and go while they are copied.
        let blobs = scope.spawn(|| {
            let mut writes = 0;
            while !stop.load(Ordering::SeqCst) {
                let skill = upload(&place, &server, &folder, 100 + writes).unwrap();
                place.done(Some(&server), &["skills", "delete", &skill]);
                writes += 1;
            }
            writes
        });
        // And events.
        let events = scope.spawn(|| {
            let mut turns = 0;
            while !stop.load(Ordering::SeqCst) {
                block(say(&server, &id, &format!("say: turn {turns}")));
                turns += 1;
            }
            turns
        });
        let said = place.done(None, &["backup", dest.to_str().unwrap()]);
        stop.store(true, Ordering::SeqCst);
        (blobs.join().unwrap() + events.join().unwrap(), said)
    });
    assert!(writes > 0, "nothing was written meanwhile");
    assert!(said.contains("whoever has it can read"), "{said}");
    let again = place.run(None, &["backup", dest.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("not empty"), "{}", stderr(&again));
    server.stop();

    let other = Place::new(None);
    let said = other.done(None, &["restore", dest.to_str().unwrap()]);
    assert!(said.contains("restored to"), "{said}");
    let key = |place: &Place| std::fs::read(place.data().join("secrets.key")).unwrap();
    assert_eq!(key(&other), key(&place));
    other.done(None, &["doctor", "--history", &id]);
    let server = other.serve();
    let after = block(say(&server, &id, "say: after"));
    assert_eq!(after[..before.len()], before[..]);
    let skills = other.done(Some(&server), &["skills", "list", "--json"]);
    assert!(kept.iter().all(|skill| skills.contains(skill)), "{skills}");
    other.done(None, &["doctor", "--history", &id]);
    server.stop();
    let full = other.run(None, &["restore", dest.to_str().unwrap()]);
    assert!(stderr(&full).contains("not empty"), "{}", stderr(&full));

    // A backup that was changed, or is not whole, is not taken.
    let copy = |n: &str| {
        let to = place.home.path().join(n);
        let copied = Command::new("cp").arg("-a").arg(&dest).arg(&to).status();
        assert!(copied.unwrap().success());
        to
    };
    let blobs = |dir: &Path| {
        let shard = std::fs::read_dir(dir.join("blobs")).unwrap().next();
        let files = std::fs::read_dir(shard.unwrap().unwrap().path()).unwrap();
        files.map(|f| f.unwrap().path()).next().unwrap()
    };
    let (one, two, three) = (copy("one"), copy("two"), copy("three"));
    std::fs::write(blobs(&one), "changed").unwrap();
    let database = two.join("freehold.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&database, bytes).unwrap();
    std::fs::remove_file(three.join("manifest.json")).unwrap();
    for (dir, words) in [(one, "damaged"), (two, "damaged"), (three, "not a backup")] {
        let target = Place::new(None);
        let refused = target.run(None, &["restore", dir.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
        assert!(!target.data().join("freehold.db").exists());
    }
}

#[test]
fn a_server_moves_to_postgresql_and_back() {
    let cluster = Cluster::start();
    let url = cluster.url(&cluster.database());
    let places = [Place::new(None), Place::new(Some(&url)), Place::new(None)];
    let server = places[0].serve();
    let id = places[0].session(&server);
    let folder = places[0].home.path().join("skill");
    std::fs::create_dir(&folder).unwrap();
    let skill = upload(&places[0], &server, &folder, 1).unwrap();
    block(async {
        let vaults = ask(
            &server.url,
            Method::POST,
            "/v1/vaults",
            Some(json!({ "display_name": "v" })),
        );
        let vault = vaults.await.unwrap()["id"].as_str().unwrap().to_owned();
        let secret = json!({"auth": {"type": "environment_variable", "secret_name": "ACME_KEY",
            "secret_value": "s3cret", "networking": {"type": "unrestricted"}}});
        let path = format!("/v1/vaults/{vault}/credentials");
        ask(&server.url, Method::POST, &path, Some(secret)).await;
    });
    let mut history = block(say(&server, &id, "say: on sqlite"));
    let file = places[0].home.path().join("export");
    let path = file.to_str().unwrap();
    let busy = places[0].run(None, &["export", path]);
    assert!(
        stderr(&busy).contains("stop the server first"),
        "{}",
        stderr(&busy)
    );
    assert!(!file.exists());
    server.stop();

    for pair in places.windows(2) {
        let [from, to] = pair else { unreachable!() };
        let file = from.home.path().join("export");
        let path = file.to_str().unwrap();
        let said = from.done(None, &["export", path]);
        assert!(said.contains("bring them along"), "{said}");
        let packed = std::fs::read(&file).unwrap();
        let secret = packed.windows(6).any(|w| w == b"s3cret");
        assert!(!secret, "a secret is in the file");

        let keyless = to.run(None, &["import", path]);
        assert_eq!(keyless.status.code(), Some(1));
        assert!(
            stderr(&keyless).contains("copy secrets.key"),
            "{}",
            stderr(&keyless)
        );
        std::fs::create_dir_all(to.data()).unwrap();
        let key = |place: &Place| place.data().join("secrets.key");
        std::fs::copy(key(from), key(to)).unwrap();
        to.done(None, &["import", path]);
        let full = to.run(None, &["import", path]);
        assert!(stderr(&full).contains("not empty"), "{}", stderr(&full));
        to.done(None, &["doctor", "--history", &id]);

        let server = to.serve();
        assert!(
            !server.greeting.contains("master key"),
            "{}",
            server.greeting
        );
        let now = block(say(&server, &id, "say: moved"));
        assert_eq!(now[..history.len()], history[..]);
        assert!(now.len() > history.len());
        history = now;
        let files = from.home.path().join("files");
        let export = from.home.path().join("session.json");
        let args = [
            "sessions",
            "export",
            &id,
            "-o",
            export.to_str().unwrap(),
            "--files",
            files.to_str().unwrap(),
        ];
        to.done(Some(&server), &args);
        let saved = std::fs::read_dir(&files)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        assert_eq!(std::fs::read_to_string(saved).unwrap(), "forty-two");
        let skills = to.done(Some(&server), &["skills", "list"]);
        assert!(skills.contains(&skill), "{skills}");
        to.done(None, &["doctor", "--history", &id]);
        server.stop();
    }
}
