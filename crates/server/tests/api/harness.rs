//! A server of its own for each test.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::net::{AddressPolicy, Exception};
use freehold_base::{IdSource, ManualClock, OrganizationId, Secret, SystemEntropy};
use freehold_mcp::{Connector, Direct};
use freehold_model::config::RehearsalConfig;
use freehold_model::{Catalog, CatalogConfig};
use freehold_runtime::mcp::{AuditLog, Catalogue};
use freehold_runtime::{Hub, Mcp, Options, Runtime};
use freehold_server::{About, App, Parts, credential};
use freehold_store::Store;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::executor::Scripted;

/// The first key, an admin key of the default workspace.
pub const ADMIN_KEY: &str = "an-operator-chose-this-key";

/// How long a test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Server {
    pub url: String,
    pub executor: Arc<Scripted>,
    pub catalogue: Catalogue,
    pub app: Arc<App>,
    http: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<std::io::Result<()>>,
    dir: tempfile::TempDir,
}

/// A response read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub bytes: Vec<u8>,
    pub body: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        self.body
    }
    /// The message of an error of this status and type, whose envelope is whole.
    #[track_caller]
    pub fn error(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        assert_eq!(self.body["type"], "error");
        assert_eq!(self.body["error"]["type"], kind, "{}", self.body);
        assert_eq!(self.body["request_id"], self.header("request-id"));
        self.body["error"]["message"].as_str().unwrap().to_owned()
    }
    /// The same for the commonest error.
    #[track_caller]
    pub fn invalid(&self) -> String {
        self.error(400, "invalid_request_error")
    }
    pub fn code(&self) -> &str {
        self.body["error"]["details"]["error_code"]
            .as_str()
            .unwrap_or("")
    }
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|app| app).await
    }

    pub async fn with(configure: impl FnOnce(App) -> App) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, IdSource::system(), configure, |_| {}).await
    }

    /// A server whose time stands still but for what the test moves.
    pub async fn at(clock: Arc<ManualClock>) -> Self {
        let ids = IdSource::new(clock, Arc::new(SystemEntropy));
        Self::open(tempfile::tempdir().unwrap(), ids, |app| app, |_| {}).await
    }

    /// A server with other models.
    pub async fn with_models(models: impl FnOnce(&mut Catalog)) -> Self {
        Self::open(
            tempfile::tempdir().unwrap(),
            IdSource::system(),
            |app| app,
            models,
        )
        .await
    }

    async fn open(
        dir: tempfile::TempDir,
        ids: IdSource,
        configure: impl FnOnce(App) -> App,
        add_models: impl FnOnce(&mut Catalog),
    ) -> Self {
        let hub = Hub::new(ids.clone());
        let store = Store::open(dir.path(), ids.clone(), Arc::new(hub.clone())).unwrap();
        let config = CatalogConfig {
            rehearsal: RehearsalConfig {
                delay_ms: 0,
                ..RehearsalConfig::default()
            },
            ..CatalogConfig::default()
        };
        let mut models = Catalog::from_config(&config, &Default::default(), &ids).unwrap();
        add_models(&mut models);
        let models = Arc::new(models);
        let executor = Arc::new(Scripted::default());
        let loopback = AddressPolicy::allowing(["127.0.0.0/8".parse::<Exception>().unwrap()]);
        let direct = Direct::new(loopback, None).unwrap();
        let audit = AuditLog::start(store.clone(), Arc::clone(ids.clock()));
        let options = freehold_mcp::Options {
            audit: Arc::new(audit.clone()),
            ..Default::default()
        };
        let connector = Connector::new(Arc::new(direct), options);
        let mcp = Mcp::new(store.clone(), connector, audit, ids.clock().clone());
        let catalogue = mcp.catalogue.clone();
        let runtime = Runtime::start(
            store.clone(),
            Arc::clone(&models),
            Arc::clone(&executor) as _,
            mcp,
            hub,
            ids.clone(),
            Options::default(),
        )
        .await
        .unwrap();
        let key = Secret::new(ADMIN_KEY.to_owned());
        credential::bootstrap(&store, &ids, Some(&key))
            .await
            .unwrap();
        let organization: OrganizationId = "org_test".parse().unwrap();
        let app = App::new(Parts {
            store,
            runtime,
            models,
            ids,
            organization,
            about: About {
                version: "test".into(),
                ..About::default()
            },
        });
        let app = Arc::new(configure(app));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(freehold_server::serve(listener, Arc::clone(&app), async {
            let _ = stopped.await;
        }));
        Self {
            url,
            executor,
            catalogue,
            app,
            http: reqwest::Client::builder()
                .timeout(PATIENCE)
                .build()
                .unwrap(),
            stop: Some(stop),
            serving,
            dir,
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the server and waits for it.
    pub async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(PATIENCE, self.serving)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// A request without any header of ours.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A request of the admin key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_as(ADMIN_KEY, method, path)
    }

    pub fn request_as(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path)
            .bearer_auth(key)
            .header("anthropic-version", "2026-10-21")
    }

    pub async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path)).await
    }
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        read(self.request(Method::POST, path).json(&body)).await
    }
    pub async fn post_raw(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        read(self.request(Method::POST, path).body(body)).await
    }
    pub async fn delete(&self, path: &str) -> Answer {
        read(self.request(Method::DELETE, path)).await
    }

    /// An agent with every built-in tool.
    pub async fn agent(&self) -> String {
        self.agent_with(json!([{"type": "agent_toolset_20260401"}]))
            .await
    }
    pub async fn agent_with(&self, tools: Value) -> String {
        let body = json!({"name": "helper", "model": "rehearsal", "tools": tools});
        id(&self.post("/v1/agents", body).await.ok())
    }
    pub async fn environment(&self, kind: &str) -> String {
        let n = self.dir().join("n");
        let name = format!("env-{}", std::fs::read_to_string(&n).unwrap_or_default());
        std::fs::write(&n, format!("{name}x")).unwrap();
        let body = json!({"name": name, "config": {"type": kind}});
        id(&self.post("/v1/environments", body).await.ok())
    }
    /// An idle cloud session of an agent with every built-in tool.
    pub async fn session(&self) -> String {
        let agent = self.agent().await;
        self.session_of(&agent, "cloud").await
    }
    pub async fn session_of(&self, agent: &str, kind: &str) -> String {
        let environment = self.environment(kind).await;
        let body = json!({"agent": agent, "environment_id": environment});
        id(&self.post("/v1/sessions", body).await.ok())
    }
    /// Sends events.
    pub async fn send(&self, session: &str, events: Value) -> Answer {
        self.post(
            &format!("/v1/sessions/{session}/events"),
            json!({"events": events}),
        )
        .await
    }
    /// Sends a message of text.
    pub async fn say(&self, session: &str, text: &str) -> Value {
        self.send(session, json!([message(text)])).await.ok()
    }
    /// The whole history.
    pub async fn history(&self, session: &str) -> Vec<Value> {
        let page = self
            .get(&format!("/v1/sessions/{session}/events"))
            .await
            .ok();
        assert_eq!(page["next_page"], Value::Null);
        page["data"].as_array().unwrap().clone()
    }
    /// The whole history by pages.
    pub async fn history_pages(&self, session: &str, query: &str) -> Vec<Vec<Value>> {
        let mut pages = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("/v1/sessions/{session}/events?{query}{page}");
            let answer = self.get(&path).await.ok();
            pages.push(answer["data"].as_array().unwrap().clone());
            let Some(next) = answer["next_page"].as_str() else {
                return pages;
            };
            page = format!("&page={next}");
        }
    }
    /// Waits until the session is idle with nothing queued, and gives its history.
    pub async fn settled(&self, session: &str) -> Vec<Value> {
        let path = format!("/v1/sessions/{session}");
        let wait = async {
            loop {
                let history = self.history(session).await;
                let row = self.get(&path).await.ok();
                let last = history.last().map_or("", |e| e["type"].as_str().unwrap());
                if row["status"] == "idle" && (history.is_empty() || last == "session.status_idle")
                {
                    return history;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the session does not settle")
    }
    /// Waits until the history has an event of this type.
    pub async fn reached(&self, session: &str, kind: &str) {
        let wait = async {
            while !self
                .history(session)
                .await
                .iter()
                .any(|e| e["type"] == kind)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the session does not come to it")
    }
    /// A key of a workspace of its own.
    pub async fn other_workspace(&self) -> (String, String) {
        let made = self
            .post("/v1/freehold/workspaces", json!({"name": "other"}))
            .await
            .ok();
        let workspace = id(&made);
        let body = json!({"name": "k", "workspace_id": workspace});
        let made = self.post("/v1/freehold/keys", body).await.ok();
        (workspace, made["key"].as_str().unwrap().to_owned())
    }
}

pub async fn read(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status();
    assert_ne!(status, StatusCode::NO_CONTENT);
    let headers = response.headers().clone();
    let bytes = response.bytes().await.unwrap().to_vec();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer {
        status: status.as_u16(),
        headers,
        bytes,
        body,
    }
}

pub fn message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

pub fn id(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

pub fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["type"].as_str().unwrap()).collect()
}

/// The ids of a list's items.
pub fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(id).collect()
}
