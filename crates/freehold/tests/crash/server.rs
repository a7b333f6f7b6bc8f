//! A server process under test, and the few calls the tests make.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use futures_util::StreamExt;
use serde_json::{Value, json};

pub(crate) const KEY: &str = "crash-test-bootstrap-key-0123456789abcdef";

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    url: String,
    http: reqwest::Client,
}

/// The server went away while it was being asked.
#[derive(Debug)]
pub(crate) struct Gone;

impl Server {
    /// Starts a server on the data directory and waits until it says where it listens. `Gone` if
    /// it dies before that, as it may when a crash point is armed.
    pub(crate) fn start(data: &Path, crash_point: Option<&str>) -> Result<Self, Gone> {
        let config = data.with_extension("toml");
        std::fs::write(&config, "[rehearsal]\ndelay_ms = 0\n").expect("config written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_freehold"));
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log-level",
                "warn",
                "--data-dir",
            ])
            .arg(data)
            .arg("--config")
            .arg(&config)
            .env("FREEHOLD_BOOTSTRAP_KEY", KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(point) = crash_point {
            command.env("FREEHOLD_CRASH_POINT", point);
        }
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = Vec::new();
        let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let url = line
                .split("listening on ")
                .nth(1)
                .map(|u| u.trim().to_owned());
            said.push(line);
            url
        });
        // Drained for good, so that the server never blocks on a full pipe.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        match url {
            Some(url) => Ok(Self {
                child,
                url,
                http: reqwest::Client::new(),
            }),
            None => {
                let status = child.wait().expect("waited");
                assert!(
                    crash_point.is_some(),
                    "the server did not start ({status}): {said:#?}"
                );
                Err(Gone)
            }
        }
    }

    /// SIGKILL, and its end.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("waited");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().expect("waited")
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Result<Value, Gone> {
        let request = self.http.post(format!("{}{path}", self.url)).json(&body);
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Gone> {
        self.send(self.http.get(format!("{}{path}", self.url)))
            .await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Value, Gone> {
        let request = request
            .bearer_auth(KEY)
            .header("anthropic-version", "2026-10-21");
        let response = request.send().await.map_err(|_| Gone)?;
        let status = response.status();
        let text = response.text().await.map_err(|_| Gone)?;
        assert!(status.is_success(), "{status}: {text}");
        Ok(serde_json::from_str(&text).expect("a JSON answer"))
    }

    /// A session of the rehearsal model in a new cloud environment.
    pub(crate) async fn session(&self) -> Result<String, Gone> {
        let agent = json!({
            "name": "crash", "model": "rehearsal",
            "tools": [{ "type": "agent_toolset_20260401" }],
        });
        let agent = self.post("/v1/agents", agent).await?;
        // Unique names: an attempt that died may have left its environment behind.
        let name = format!("crash-{}", agent["id"].as_str().expect("an id"));
        let config = json!({ "type": "cloud", "networking": { "type": "limited" } });
        let environment = json!({ "name": name, "config": config });
        let environment = self.post("/v1/environments", environment).await?;
        let session = json!({ "agent": agent["id"], "environment_id": environment["id"] });
        let session = self.post("/v1/sessions", session).await?;
        Ok(session["id"].as_str().expect("an id").to_owned())
    }

    /// Sends a user message; its event id once acknowledged.
    pub(crate) async fn say(&self, session: &str, text: &str) -> Result<String, Gone> {
        let content = json!([{ "type": "text", "text": text }]);
        let event = json!({ "type": "user.message", "content": content });
        let sent = self
            .post(
                &format!("/v1/sessions/{session}/events"),
                json!({ "events": [event] }),
            )
            .await?;
        Ok(sent["data"][0]["id"].as_str().expect("an id").to_owned())
    }

    /// The whole history.
    pub(crate) async fn history(&self, session: &str) -> Result<Vec<Value>, Gone> {
        let mut events = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("/v1/sessions/{session}/events?limit=1000{page}");
            let mut answer = self.get(&path).await?;
            if let Value::Array(data) = answer["data"].take() {
                events.extend(data);
            }
            match answer["next_page"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => return Ok(events),
            }
        }
    }

    /// Waits until the session is at rest with nothing queued: listens, looks, and looks again
    /// after every idle.
    pub(crate) async fn settle(&self, session: &str) -> Result<Vec<Value>, Gone> {
        let url = format!("{}/v1/sessions/{session}/events/stream", self.url);
        let request = self
            .http
            .get(url)
            .bearer_auth(KEY)
            .header("anthropic-version", "2026-10-21");
        let mut frames = request.send().await.map_err(|_| Gone)?.bytes_stream();
        loop {
            // The status first: what an idle session's history holds cannot grow by itself.
            let row = self.get(&format!("/v1/sessions/{session}")).await?;
            let history = self.history(session).await?;
            let queued = history.iter().any(|e| e["processed_at"].is_null());
            if row["status"] == "idle" && !queued {
                return Ok(history);
            }
            // Any frame, a ping too, is a reason to look again.
            frames.next().await.ok_or(Gone)?.map_err(|_| Gone)?;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
