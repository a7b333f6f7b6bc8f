//! A server, an environment with a key, and workers, each a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};

pub(crate) const KEY: &str = "worker-test-bootstrap-key-0123456789abcdef";

/// Longest wait for something that must happen. An item whose worker is killed before its first
/// heartbeat goes to the next after 90 seconds (`WORK_START_SECONDS`), and then there is work to do.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    /// What the server is started with, besides what every one is.
    args: Vec<String>,
    server: Mutex<Option<Child>>,
    pub(crate) url: String,
    pub(crate) environment: String,
    pub(crate) key: String,
    key_id: String,
    http: reqwest::Client,
}

/// A process; killed when dropped.
pub(crate) struct Worker {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// A client that keeps no connection: one to a server that was killed would be found broken only by the
/// next request, to its successor.
fn http() -> reqwest::Client {
    let client = reqwest::Client::builder().pool_max_idle_per_host(0);
    client.build().expect("a client")
}

fn start_server(data: &Path, listen: &str, args: &[String]) -> (Child, String) {
    let mut child = spawn(
        Command::new(env!("CARGO_BIN_EXE_freehold"))
            .args(["serve", "--listen", listen, "--rehearsal-delay-ms", "0"])
            .args(["--log-level", "warn", "--data-dir"])
            .arg(data)
            .args(args)
            .env("FREEHOLD_BOOTSTRAP_KEY", KEY),
    );
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = Vec::new();
    let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let url = line
            .split("listening on ")
            .nth(1)
            .map(|rest| rest.split_whitespace().next().unwrap_or("").to_owned());
        said.push(line);
        url
    });
    // Drained for good, so that the server never blocks on a full pipe.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    (
        child,
        url.unwrap_or_else(|| panic!("no address: {said:#?}")),
    )
}

impl World {
    /// With an environment and one key of it.
    pub(crate) async fn new() -> Self {
        Self::of_a_server(&[]).await
    }

    /// As [`World::new`], with further arguments for the server.
    pub(crate) async fn of_a_server(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
        let (server, url) = start_server(&dir.path().join("data"), "127.0.0.1:0", &args);
        let mut world = Self {
            dir,
            args,
            server: Mutex::new(Some(server)),
            url,
            environment: String::new(),
            key: String::new(),
            key_id: String::new(),
            http: http(),
        };
        let body = json!({ "name": "workers", "config": { "type": "self_hosted" } });
        world.environment = id(&world.post("/v1/environments", body).await);
        let path = format!("/v1/freehold/environments/{}/keys", world.environment);
        let key = world.post(&path, json!({ "name": "test" })).await;
        world.key = key["key"].as_str().expect("shown once").to_owned();
        world.key_id = id(&key);
        world
    }

    /// SIGKILL for the server.
    pub(crate) fn kill_server(&self) {
        let mut server = self.server.lock().unwrap().take().expect("a server");
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Starts it again, on the same address.
    pub(crate) fn restart_server(&self) {
        let listen = self.url.trim_start_matches("http://").trim_end_matches('/');
        let (server, _) = start_server(&self.dir.path().join("data"), listen, &self.args);
        *self.server.lock().unwrap() = Some(server);
    }

    pub(crate) async fn revoke_key(&self) {
        let path = format!(
            "/v1/freehold/environments/{}/keys/{}/revoke",
            self.environment, self.key_id
        );
        self.post(&path, json!({})).await;
    }

    /// A path that is the same for the test and for tools without isolation.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A named pipe.
    pub(crate) fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        path
    }

    /// `freehold worker ARGS` with this environment's variables, keeping files below `name`.
    pub(crate) fn command(&self, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
        command
            .arg("worker")
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.path(name))
            .env("ANTHROPIC_BASE_URL", &self.url)
            .env("ANTHROPIC_ENVIRONMENT_ID", &self.environment)
            .env("ANTHROPIC_ENVIRONMENT_KEY", &self.key)
            .env("FREEHOLD_WORKDIR", self.path(name));
        command
    }

    /// A polling worker with short leases, so that others can take over soon.
    pub(crate) fn worker(&self, name: &str, args: &[&str]) -> Worker {
        let mut all = vec!["poll", "--max-idle", "1s"];
        if !args.contains(&"--lease") {
            all.extend(["--lease", "5s"]);
        }
        all.extend(args);
        Worker::start(&mut self.command(name, &all))
    }

    /// As [`World::worker`], whose tools see the host.
    pub(crate) fn open_worker(&self, name: &str) -> Worker {
        self.worker(name, &["--sandbox", "process"])
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.url)).json(&body);
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send(self.http.get(format!("{}{path}", self.url)))
            .await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let request = request
            .bearer_auth(KEY)
            .header("anthropic-version", "2026-10-21");
        let response = request.send().await.expect("an answer");
        let status = response.status();
        let text = response.text().await.expect("a body");
        assert!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// A session of an agent with these tools.
    pub(crate) async fn session(&self, tools: Value) -> String {
        self.session_with(tools, json!({ "environment_id": self.environment }))
            .await
    }

    /// The same with what else a session takes.
    pub(crate) async fn session_with(&self, tools: Value, mut session: Value) -> String {
        let agent = json!({ "name": "agent", "model": "rehearsal", "tools": tools });
        let agent = id(&self.post("/v1/agents", agent).await);
        session["agent"] = agent.into();
        id(&self.post("/v1/sessions", session).await)
    }

    /// An environment whose sessions run in the server's own sandboxes.
    pub(crate) async fn cloud(&self) -> String {
        let cloud = json!({ "name": "cloud", "config": { "type": "cloud" } });
        id(&self.post("/v1/environments", cloud).await)
    }

    /// The server's process.
    pub(crate) fn server_pid(&self) -> u32 {
        self.server.lock().unwrap().as_ref().expect("a server").id()
    }

    /// A session that was told something.
    pub(crate) async fn told(&self, text: &str) -> String {
        let session = self
            .session(json!([{ "type": "agent_toolset_20260401" }]))
            .await;
        self.say(&session, text).await;
        session
    }

    pub(crate) async fn say(&self, session: &str, text: &str) {
        let content = json!([{ "type": "text", "text": text }]);
        self.tell(
            session,
            json!({ "type": "user.message", "content": content }),
        )
        .await;
    }

    pub(crate) async fn tell(&self, session: &str, event: Value) {
        let path = format!("/v1/sessions/{session}/events");
        self.post(&path, json!({ "events": [event] })).await;
    }

    /// The whole history.
    pub(crate) async fn history(&self, session: &str) -> Vec<Value> {
        let answer = self
            .get(&format!("/v1/sessions/{session}/events?limit=1000"))
            .await;
        assert!(answer["next_page"].is_null());
        answer["data"].as_array().expect("a list").clone()
    }

    /// Waits until the history is as wanted: listens, looks, and looks again after each frame.
    pub(crate) async fn until(
        &self,
        session: &str,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let url = format!("{}/v1/sessions/{session}/events/stream", self.url);
        let request = self
            .http
            .get(url)
            .bearer_auth(KEY)
            .header("anthropic-version", "2026-10-21");
        let mut frames = request.send().await.expect("a stream").bytes_stream();
        let waiting = async {
            loop {
                let history = self.history(session).await;
                if wanted(&history) {
                    return history;
                }
                // Any frame, a ping too, is a reason to look again.
                frames.next().await.expect("a frame").expect("a frame");
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting);
        match waited.await {
            Ok(history) => history,
            Err(_) => panic!("never came: {:#?}", self.history(session).await),
        }
    }

    /// Waits until the turn is over.
    pub(crate) async fn settled(&self, session: &str) -> Vec<Value> {
        self.until(session, |history| {
            let queued = history.iter().any(|e| e["processed_at"].is_null());
            let last = history
                .iter()
                .rfind(|e| e["type"].as_str().unwrap().starts_with("session.status_"));
            !queued && last.is_some_and(|e| e["stop_reason"]["type"] == "end_turn")
        })
        .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Worker {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = spawn(command);
        let said = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().expect("piped");
        let log = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut chunk = [0u8; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut chunk) {
                log.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&chunk[..n]));
            }
        });
        Self {
            child,
            said,
            reader: Some(reader),
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// SIGTERM again and again until it ends: signals of a kind that wait are one signal.
    pub(crate) async fn wait_terminating(mut self) -> ExitStatus {
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                self.terminate();
                tokio::time::sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.expect("it does not end")
    }

    /// The address it says after these words.
    pub(crate) async fn address(&self, words: &str) -> String {
        loop {
            let said = self.said.lock().unwrap().clone();
            if let Some((_, rest)) = said.split_once(words)
                && let Some((address, _)) = rest.split_once('\n')
            {
                return address.trim().to_owned();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits for its end; what it said.
    pub(crate) async fn wait(mut self) -> (ExitStatus, String) {
        let waiting = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let Ok(status) = tokio::time::timeout(PATIENCE, waiting).await else {
            panic!("it does not end");
        };
        // Whatever it started may live for a moment, and has the same standard error.
        let reader = self.reader.take().unwrap();
        for _ in 0..100 {
            if reader.is_finished() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let said = self.said.lock().unwrap().clone();
        (status, said)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("a worker said:\n{}", self.said.lock().unwrap());
        }
    }
}

/// Waits until something writes to the pipe and closes it.
pub(crate) async fn heard(pipe: PathBuf) -> String {
    let (tell, read) = tokio::sync::oneshot::channel();
    // A thread that nobody waits for: it may never hear anything.
    std::thread::spawn(move || tell.send(std::fs::read_to_string(pipe)));
    let waited = tokio::time::timeout(PATIENCE, read);
    waited.await.expect("written in time").unwrap().unwrap()
}

/// Lets what reads the pipe go on.
pub(crate) async fn release(pipe: PathBuf) {
    let (tell, written) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let open = std::fs::OpenOptions::new().write(true).open(pipe);
        tell.send(open.and_then(|mut pipe| pipe.write_all(b"go\n")))
    });
    let waited = tokio::time::timeout(PATIENCE, written);
    waited.await.expect("read in time").unwrap().unwrap();
}

pub(crate) fn id(value: &Value) -> String {
    value["id"].as_str().expect("an id").to_owned()
}

/// Results of built-in tools: whether each is an error, and its text.
pub(crate) fn results(history: &[Value]) -> Vec<(bool, String)> {
    let results = history.iter().filter(|e| e["type"] == "user.tool_result");
    results
        .map(|e| {
            let text = e["content"][0]["text"].as_str().unwrap_or("").to_owned();
            (e["is_error"] == true, text)
        })
        .collect()
}
