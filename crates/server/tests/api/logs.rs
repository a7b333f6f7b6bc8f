//! The access log: one line a request, without content, queries or keys.

use std::io::Write;
use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::json;

use crate::harness::{ADMIN_KEY, Server, read};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_line_names_the_route_and_nothing_of_the_content() {
    let buffer = Buffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // The test runs on one thread, and so does the server.
    let guard = tracing::subscriber::set_default(subscriber);
    let s = Server::start().await;
    let body = json!({"name": "confidential-name", "model": "rehearsal"});
    let made = s.post("/v1/agents?secret=confidential-query", body).await;
    let path = format!("/v1/agents/{}", made.body["id"].as_str().unwrap());
    s.get(&path).await.ok();
    let session = s.session().await;
    s.say(&session, "say: confidential-text").await;
    s.settled(&session).await;
    read(
        s.bare(Method::GET, "/v1/agents")
            .bearer_auth("confidential-key"),
    )
    .await;
    drop(guard);
    let log = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
    assert!(
        !log.contains("confidential") && !log.contains(ADMIN_KEY),
        "{log}"
    );
    let id = made.header("request-id");
    let lines: Vec<_> = log
        .lines()
        .filter(|l| l.contains(id) && l.contains("status="))
        .collect();
    assert_eq!(lines.len(), 1, "{log}");
    for part in [
        "method=POST",
        "path=\"/v1/agents\"",
        "status=200",
        "workspace=\"wrkspc_",
    ] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    assert!(log.contains("path=\"/v1/agents/{id}\""));
}
