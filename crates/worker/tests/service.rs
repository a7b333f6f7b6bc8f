//! The worker against a server that says what a test tells it to, on a clock that jumps.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_base::{Secret, SessionId};
use freehold_client::{Client, Options};
use freehold_sandbox::ToolRequest;
use freehold_wire::content::ContentBlock;
use freehold_worker::service::{
    Claim, Hands, Lapsed, Metrics, PollError, Poller, Service, Shown, Until,
};
use freehold_worker::{Reply, SandboxUnavailable};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

const ENV: &str = "env_1";
const SESSION: &str = "sesn_1";

/// What was asked: method and path with query, credential, body.
type Asked = (String, String, String);
/// Answers a request out of turn.
type Rule = Box<dyn Fn(&str, usize) -> Option<(u16, String)> + Send + Sync>;

/// Moves the paused clock fifty times as fast as the world's, for as long as it lives. Left to itself
/// a paused clock jumps whenever all wait for the network.
struct Fast {
    _jumps_not: std::sync::mpsc::Sender<()>,
}

impl Fast {
    fn start() -> Self {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        // While a blocking task runs the clock does not jump.
        tokio::task::spawn_blocking(move || receiver.recv());
        let (tick, mut ticks) = tokio::sync::mpsc::channel(1);
        std::thread::spawn(move || {
            while tick.blocking_send(()).is_ok() {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        tokio::spawn(async move {
            while ticks.recv().await.is_some() {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
        });
        Self { _jumps_not: sender }
    }
}

struct Server {
    asked: Mutex<Vec<Asked>>,
    rule: Rule,
    items: Mutex<VecDeque<Value>>,
    history: Mutex<Vec<Value>>,
    live: broadcast::Sender<String>,
    beats: AtomicUsize,
}

impl Server {
    /// `rule` gets `METHOD path` and how often that was asked before.
    async fn start(
        history: Vec<Value>,
        rule: impl Fn(&str, usize) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> (Arc<Self>, String) {
        let server = Arc::new(Self {
            asked: Mutex::default(),
            rule: Box::new(rule),
            items: Mutex::default(),
            history: Mutex::new(history),
            live: broadcast::channel(100).0,
            beats: AtomicUsize::new(0),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&server));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, url)
    }

    fn happens(&self, event: Value) {
        self.history.lock().unwrap().push(event.clone());
        let _ = self.live.send(frame(&event));
    }

    /// Requests whose `METHOD path` ends so.
    fn asked(&self, end: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        let path = |a: &Asked| a.0.split('?').next().unwrap().to_owned();
        asked
            .iter()
            .filter(|a| path(a).ends_with(end))
            .cloned()
            .collect()
    }

    /// Waits until it was asked so.
    async fn until(&self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn results(&self) -> Vec<Value> {
        let posts = self.asked(&format!("POST /v1/sessions/{SESSION}/events"));
        posts
            .iter()
            .map(|(_, _, body)| serde_json::from_str::<Value>(body).unwrap()["events"][0].clone())
            .collect()
    }
}

fn frame(event: &Value) -> String {
    format!("event: message\ndata: {event}\n\n")
}

fn item(kind: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    json!({
        "id": "work_1", "type": "work", "environment_id": ENV,
        "data": { "type": kind, "id": SESSION }, "state": "queued",
        // {"sessions_token":"T"}
        "secret": "eyJzZXNzaW9uc190b2tlbiI6IlQifQ", "metadata": {}, "created_at": at,
        "acknowledged_at": null, "started_at": null, "latest_heartbeat_at": null,
        "stop_requested_at": null, "stopped_at": null,
    })
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let place = format!("{} {}", parts.method, parts.uri.path());
    let key = parts.headers["authorization"].to_str().unwrap();
    let before = {
        let mut asked = server.asked.lock().unwrap();
        let same = |a: &&Asked| a.0.split('?').next() == Some(&place);
        let before = asked.iter().filter(same).count();
        asked.push((
            format!("{} {}", parts.method, parts.uri),
            key.trim_start_matches("Bearer ").to_owned(),
            String::from_utf8(body.to_vec()).unwrap(),
        ));
        before
    };
    if let Some((status, text)) = (server.rule)(&place, before) {
        return (StatusCode::from_u16(status).unwrap(), text).into_response();
    }
    let json = |value: Value| ([("content-type", "application/json")], value.to_string());
    match parts.uri.path().rsplit('/').next().unwrap() {
        "poll" => {
            let item = server.items.lock().unwrap().pop_front();
            json(item.unwrap_or(Value::Null)).into_response()
        }
        "ack" | "stop" => json(item("session")).into_response(),
        "heartbeat" => {
            let n = server.beats.fetch_add(1, SeqCst);
            json(beat(n, "active", true)).into_response()
        }
        "stream" => {
            let mut live = server.live.subscribe();
            let frames = async_stream(move || {
                let frame = live.try_recv();
                frame.ok()
            });
            let headers = [("content-type", "text/event-stream")];
            (headers, frames).into_response()
        }
        "events" if parts.method == "GET" => {
            let data = server.history.lock().unwrap().clone();
            json(json!({ "data": data, "next_page": null })).into_response()
        }
        "events" => {
            let sent: Value = serde_json::from_slice(&body).unwrap();
            json(json!({ "data": sent["events"] })).into_response()
        }
        _ => json(json!({
            "id": SESSION, "status": "running", "resources": [], "agent": { "skills": [] },
        }))
        .into_response(),
    }
}

fn beat(n: usize, state: &str, extended: bool) -> Value {
    json!({
        "type": "work_heartbeat", "last_heartbeat": format!("beat {n}+"), "state": state,
        "lease_extended": extended, "ttl_seconds": 20,
    })
}

/// A body that looks for frames ten times a second, and pings.
fn async_stream(mut next: impl FnMut() -> Option<String> + Send + 'static) -> Body {
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    tokio::spawn(async move {
        for n in 0u64.. {
            let text = match next() {
                Some(text) => text,
                None if n.is_multiple_of(100) => "event: ping\ndata: {}\n\n".to_owned(),
                None => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if sender.send(Ok(text.into())).await.is_err() {
                return;
            }
        }
    });
    let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
        let frame = receiver.recv().await?;
        Some((frame, receiver))
    });
    Body::from_stream(frames)
}

/// Tools that take a while, or never end.
#[derive(Default)]
struct Tools {
    ran: Mutex<Vec<String>>,
    killed: AtomicUsize,
    takes: Option<Duration>,
}

#[async_trait]
impl Hands for Tools {
    fn show(&self, _: &SessionId, _: Shown, _: &Client) {}
    async fn prepare(&self, _: &SessionId) -> Result<(), SandboxUnavailable> {
        Ok(())
    }
    async fn call(
        &self,
        _: &SessionId,
        request: ToolRequest,
        _: bool,
        kill: &CancellationToken,
    ) -> Reply {
        self.ran.lock().unwrap().push(request.id.clone());
        tokio::select! {
            () = tokio::time::sleep(self.takes.unwrap_or_default()) => {}
            () = kill.cancelled() => {
                self.killed.fetch_add(1, SeqCst);
            }
        }
        Reply {
            content: vec![ContentBlock::text(format!("did {}", request.id))],
            is_error: false,
        }
    }
    async fn settle(&self, _: &SessionId, _: bool) {}
    async fn close(&self, _: &SessionId) {}
    async fn remove(&self, _: &SessionId) {}
}

struct Worker {
    service: Service,
    tools: Arc<Tools>,
    _dir: tempfile::TempDir,
}

fn worker(url: &str, takes: Option<Duration>) -> Worker {
    let dir = tempfile::tempdir().unwrap();
    let tools = Arc::new(Tools {
        takes,
        ..Tools::default()
    });
    let key = Secret::new("E".to_owned());
    let service = Service {
        client: Client::new(Options::new(url, key.clone())).unwrap(),
        environment_key: Some(key),
        hands: Arc::clone(&tools) as _,
        journals: dir.path().to_owned(),
        max_idle: Some(Duration::from_secs(60)),
        lease_seconds: None,
        stop_timeout: Duration::from_secs(30),
        metrics: Arc::new(Metrics::default()),
        stop: CancellationToken::new(),
    };
    Worker {
        service,
        tools,
        _dir: dir,
    }
}

fn claim(kind: &str) -> Claim {
    Claim::from(serde_json::from_value::<freehold_wire::work::Work>(item(kind)).unwrap())
}

fn call(id: &str, name: &str, permission: &str) -> Value {
    json!({
        "id": id, "type": "agent.tool_use", "name": name, "input": {},
        "evaluated_permission": permission, "processed_at": "2026-01-01T00:00:01Z",
    })
}

fn idle(reason: &str) -> Value {
    json!({
        "id": "sevt_idle", "type": "session.status_idle", "stop_reason": { "type": reason },
        "processed_at": "2026-01-01T00:00:02Z",
    })
}

fn over() -> Value {
    json!({ "id": "sevt_over", "type": "session.status_terminated" })
}

#[tokio::test(start_paused = true)]
async fn calls_run_in_order_with_the_items_token_and_the_item_is_stopped() {
    let _fast = Fast::start();
    let history = vec![call("a", "bash", "allow"), call("b", "read", "allow")];
    let (server, url) = Server::start(history, |_, _| None).await;
    let worker = worker(&url, None);
    let serving = async { worker.service.serve(&claim("session")).await };
    let watching = async {
        server.until(|s| s.results().len() == 2).await;
        server.happens(idle("end_turn"));
    };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "idle");
    assert_eq!(*worker.tools.ran.lock().unwrap(), ["a", "b"]);
    let results = server.results();
    assert_eq!(
        (&results[0]["tool_use_id"], &results[1]["tool_use_id"]),
        (&"a".into(), &"b".into())
    );
    assert_eq!(results[0]["content"][0]["text"], "did a");
    let beats = server.asked("heartbeat");
    assert!(beats[0].0.contains("expected_last_heartbeat=NO_HEARTBEAT"));
    // Byte for byte.
    assert!(
        beats[1].0.contains("expected_last_heartbeat=beat+0%2B"),
        "{}",
        beats[1].0
    );
    let stops = server.asked("stop");
    assert_eq!(
        (stops.len(), &*stops[0].1, &*stops[0].2),
        (1, "T", r#"{"force":true}"#)
    );
    let others = server
        .asked
        .lock()
        .unwrap()
        .iter()
        .filter(|a| a.1 != "T")
        .count();
    assert_eq!(others, 0);
}

#[tokio::test(start_paused = true)]
async fn while_another_process_has_the_session_the_lease_is_kept_and_a_stop_is_heard() {
    let _fast = Fast::start();
    let (server, url) = Server::start(vec![call("a", "bash", "allow")], |_, _| None).await;
    let worker = worker(&url, None);
    let claim = claim("session");
    let journal = worker
        .service
        .journals
        .join(format!("{}.journal", claim.session));
    let theirs = std::fs::File::create(journal).unwrap();
    theirs.lock().unwrap();
    let serving = async { worker.service.serve(&claim).await };
    let watching = async {
        server.until(|s| !s.asked("heartbeat").is_empty()).await;
        worker.service.stop.cancel();
    };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "worker_stopped");
    assert!(worker.tools.ran.lock().unwrap().is_empty());
    assert_eq!(server.asked("stop").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_host_went_down_a_call_that_may_have_run_is_not_run_again() {
    let _fast = Fast::start();
    let (server, url) = Server::start(vec![call("a", "bash", "allow")], |_, _| None).await;
    let worker = worker(&url, None);
    let journal = worker.service.journals.join(format!("{SESSION}.journal"));
    let earlier = json!({ "note": "held", "work": "work_0", "boot": "an earlier one" });
    std::fs::write(journal, format!("{earlier}\n")).unwrap();
    let rested = |id: &str| json!({ "id": id, "type": "session.status_idle", "stop_reason": { "type": "end_turn" } });
    let answered = |id: &str| json!({ "id": format!("sevt_of_{id}"), "type": "user.tool_result", "tool_use_id": id });
    let watching = async {
        server.until(|s| s.results().len() == 1).await;
        server.happens(answered("a"));
        // No clock has a say: it came later, and is stamped as the first.
        server.happens(call("b", "bash", "allow"));
        server.until(|s| s.results().len() == 2).await;
        server.happens(answered("b"));
        server.happens(rested("sevt_rest"));
    };
    // An item whose worker died before that, and whose journal this is, says nothing of what came after.
    let mut claim = claim("session");
    claim.lapsed = Lapsed::from_parts(Some("2026-01-01T00:00:00Z"), Some("work_0"));
    let serving = async { worker.service.serve(&claim).await };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "idle");
    assert_eq!(*worker.tools.ran.lock().unwrap(), ["b"]);
    let results = server.results();
    let text = results[0]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("effect is unknown"), "{text}");
    assert_eq!(
        (&results[0]["tool_use_id"], &results[0]["is_error"]),
        (&"a".into(), &true.into())
    );
    assert_eq!(results[1]["content"][0]["text"], "did b");

    // The next service trusts the journal.
    server.happens(call("c", "bash", "allow"));
    let watching = async {
        server.until(|s| s.results().len() == 3).await;
        server.happens(rested("sevt_rest_again"));
    };
    claim.lapsed = None;
    let serving = async { worker.service.serve(&claim).await };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "idle");
    assert_eq!(*worker.tools.ran.lock().unwrap(), ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_event_keeps_a_session_and_max_idle_leaves_it() {
    let _fast = Fast::start();
    let (server, url) = Server::start(vec![idle("end_turn")], |_, _| None).await;
    let worker = worker(&url, None);
    let start = tokio::time::Instant::now();
    let serving = async { worker.service.serve(&claim("session")).await };
    let watching = async {
        tokio::time::sleep(Duration::from_secs(50)).await;
        server.happens(json!({ "id": "sevt_usage", "type": "session.usage" }));
        tokio::time::sleep(Duration::from_secs(100)).await;
        server.happens(idle("requires_action"));
        tokio::time::sleep(Duration::from_secs(100)).await;
        server.happens(idle("retries_exhausted"));
    };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "idle");
    let kept = start.elapsed().as_secs();
    assert!((310..340).contains(&kept), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_run_does_not() {
    let _fast = Fast::start();
    let mut custom = call("c", "lookup", "allow");
    custom["type"] = "agent.custom_tool_use".into();
    let history = vec![
        call("denied", "bash", "deny"),
        call("asked", "bash", "ask"),
        call("strange", "bash", "perhaps"),
        call("unknown", "other_tool", "allow"),
        call("server", "web_fetch", "allow"),
        custom,
        json!({ "id": "v", "type": "user.tool_confirmation", "tool_use_id": "asked", "result": "deny" }),
    ];
    let (server, url) = Server::start(history, |_, _| None).await;
    let worker = worker(&url, None);
    let serving = async { worker.service.serve(&claim("session")).await };
    let watching = async {
        server.until(|s| !s.asked("events").is_empty()).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(worker.tools.ran.lock().unwrap().is_empty());
        // Only now may it run.
        server.happens(json!({
            "id": "v2", "type": "user.tool_confirmation", "tool_use_id": "strange", "result": "allow",
        }));
        server.until(|s| !s.results().is_empty()).await;
        server.happens(over());
    };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "session_over");
    assert_eq!(*worker.tools.ran.lock().unwrap(), ["strange"]);
    assert_eq!(server.results().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_kills_the_call_and_touches_nothing_more() {
    let _fast = Fast::start();
    let history = vec![call("a", "bash", "allow")];
    let lost =
        json!({ "type": "error", "error": { "type": "invalid_request_error", "message": "no",
        "details": { "error_code": "heartbeat_precondition_failed" } } })
        .to_string();
    let (server, url) = Server::start(history, move |place, before| {
        (place.ends_with("heartbeat") && before > 0).then(|| (412, lost.clone()))
    })
    .await;
    let worker = worker(&url, Some(Duration::from_secs(100)));
    let ended = worker.service.serve(&claim("session")).await;
    assert_eq!(ended.unwrap(), "lease_lost");
    assert_eq!(worker.tools.killed.load(SeqCst), 1);
    assert!(server.results().is_empty());
    assert!(server.asked("stop").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_over_when_nothing_was_heard_for_its_length() {
    let _fast = Fast::start();
    let history = vec![call("a", "bash", "allow")];
    let (server, url) = Server::start(history, |place, before| {
        (place.ends_with("heartbeat") && before > 0).then(|| (503, "garbage".to_owned()))
    })
    .await;
    let worker = worker(&url, Some(Duration::from_secs(1000)));
    let start = tokio::time::Instant::now();
    let ended = worker.service.serve(&claim("session")).await;
    assert_eq!(ended.unwrap(), "lease_assumed_lost");
    let held = start.elapsed().as_secs();
    assert!((20..30).contains(&held), "{held}");
    assert!(server.asked("stop").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_to_stop_gets_the_result_first() {
    let _fast = Fast::start();
    let history = vec![call("a", "bash", "allow"), call("b", "bash", "allow")];
    let (server, url) = Server::start(history, |place, before| {
        let stopping = beat(9, "stopping", false).to_string();
        (place.ends_with("heartbeat") && before > 0).then_some((200, stopping))
    })
    .await;
    let worker = worker(&url, Some(Duration::from_secs(15)));
    let ended = worker.service.serve(&claim("session")).await;
    assert_eq!(ended.unwrap(), "stopped");
    assert_eq!(server.results().len(), 1);
    assert_eq!(*worker.tools.ran.lock().unwrap(), ["a"]);
    assert_eq!(server.asked("stop").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_success_that_makes_no_sense_is_none() {
    let _fast = Fast::start();
    let nonsense = ["null", "[]", "\"ok\"", r#"{"data":[]}"#, r#"{"data":7}"#];
    let history = vec![call("a", "bash", "allow")];
    let (server, url) = Server::start(history, move |place, before| {
        let post = place == format!("POST /v1/sessions/{SESSION}/events");
        let body = nonsense.get(before).filter(|_| post)?;
        Some((200, (*body).to_owned()))
    })
    .await;
    let worker = worker(&url, None);
    let serving = async { worker.service.serve(&claim("session")).await };
    let watching = async {
        server.until(|s| s.results().len() > nonsense.len()).await;
        server.happens(over());
    };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "session_over");
    assert_eq!(server.results().len(), nonsense.len() + 1);
    assert_eq!(worker.tools.ran.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn results_are_sent_until_they_arrive_and_a_refused_one_becomes_an_error() {
    let _fast = Fast::start();
    for (answers, sent, told) in [
        (vec![500, 429, 408], 4, "did a"),
        (vec![413], 2, "too large"),
        (vec![400], 2, "refused"),
        // Twice refused: there is nothing more to be said.
        (vec![400, 400], 2, "refused"),
    ] {
        let script = answers.clone();
        let history = vec![call("a", "bash", "allow")];
        let (server, url) = Server::start(history, move |place, before| {
            let post = place == format!("POST /v1/sessions/{SESSION}/events");
            let status = script.get(before).filter(|_| post)?;
            Some((*status, "<html>no</html>".to_owned()))
        })
        .await;
        let worker = worker(&url, None);
        let serving = async { worker.service.serve(&claim("session")).await };
        let watching = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            server.happens(over());
        };
        let (ended, ()) = tokio::join!(serving, watching);
        assert_eq!(ended.unwrap(), "session_over");
        let results = server.results();
        assert_eq!(results.len(), sent, "{answers:?}");
        let last = results.last().unwrap()["content"][0]["text"]
            .as_str()
            .unwrap();
        assert!(last.contains(told), "{answers:?}: {last}");
        assert_eq!(worker.tools.ran.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_from_a_history_that_was_not_read_to_its_end() {
    let _fast = Fast::start();
    let answered = json!({ "id": "r", "type": "user.tool_result", "tool_use_id": "a" });
    let history = vec![
        call("a", "bash", "allow"),
        answered,
        call("b", "bash", "allow"),
    ];
    let list = format!("GET /v1/sessions/{SESSION}/events");
    let (server, url) = Server::start(history, move |place, before| {
        // The client asks three times before it gives up.
        (place == list && before < 3).then(|| (500, String::new()))
    })
    .await;
    let worker = worker(&url, None);
    let serving = async { worker.service.serve(&claim("session")).await };
    let watching = async {
        let lists = || {
            server
                .asked(&format!("GET /v1/sessions/{SESSION}/events"))
                .len()
        };
        server.until(|_| lists() == 3).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(worker.tools.ran.lock().unwrap().is_empty());
        // The stream breaks: all is looked at again.
        let _ = server.live.send("event: error\ndata: {}\n\n".to_owned());
        server.until(|s| !s.results().is_empty()).await;
        server.happens(over());
    };
    let (ended, ()) = tokio::join!(serving, watching);
    assert_eq!(ended.unwrap(), "session_over");
    assert_eq!(*worker.tools.ran.lock().unwrap(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_150_seconds() {
    let _fast = Fast::start();
    let history = vec![call("a", "bash", "allow")];
    let (server, url) = Server::start(history, |_, _| None).await;
    let worker = worker(&url, Some(Duration::from_secs(1000)));
    let serving = async { worker.service.serve(&claim("session")).await };
    let watching = async {
        tokio::time::sleep(Duration::from_secs(160)).await;
        server.happens(over());
    };
    let (ended, ()) = tokio::join!(serving, watching);
    ended.unwrap();
    let results = server.results();
    assert_eq!(results[0]["content"][0]["text"], "tool 'bash' timed out");
    assert_eq!(
        (&results[0]["is_error"], worker.tools.killed.load(SeqCst)),
        (&true.into(), 1)
    );
}

#[tokio::test(start_paused = true)]
async fn items_that_need_no_serving_are_stopped() {
    let _fast = Fast::start();
    let (server, url) = Server::start(vec![call("a", "bash", "allow")], |place, _| {
        let shown = json!({ "id": SESSION, "status": "terminated" }).to_string();
        (place == format!("GET /v1/sessions/{SESSION}")).then_some((200, shown))
    })
    .await;
    let worker = worker(&url, None);
    assert_eq!(
        worker.service.serve(&claim("session")).await.unwrap(),
        "session_over"
    );
    assert_eq!(
        worker.service.serve(&claim("healthcheck")).await.unwrap(),
        "skipped"
    );
    let mut unreadable = claim("session");
    unreadable.secret = Some(Secret::new("?".to_owned()));
    worker.service.serve(&unreadable).await.unwrap();
    unreadable.session = "../../etc".to_owned();
    assert!(worker.service.serve(&unreadable).await.is_err());
    let keys: Vec<_> = server.asked("stop").into_iter().map(|a| a.1).collect();
    assert_eq!(keys, ["T", "T", "E", "E"]);
    assert!(worker.tools.ran.lock().unwrap().is_empty());
}

fn poller(url: &str, worker: Worker) -> (Poller, Arc<Tools>) {
    let Worker {
        service,
        tools,
        _dir,
    } = worker;
    // For as long as the test runs.
    std::mem::forget(_dir);
    let poller = Poller {
        client: Client::new(Options::new(url, Secret::new("E".to_owned()))).unwrap(),
        environment: ENV.parse().unwrap(),
        worker: "w".to_owned(),
        max_items: 2,
        metrics: Arc::clone(&service.metrics),
        stop: service.stop.clone(),
        serve: Arc::new(service),
    };
    (poller, tools)
}

#[tokio::test(start_paused = true)]
async fn garbage_and_outages_do_not_end_polling_and_a_refusal_does() {
    let _fast = Fast::start();
    let (server, url) = Server::start(vec![idle("end_turn")], |place, before| {
        if !place.ends_with("poll") {
            return None;
        }
        match before {
            0 => Some((200, "<html>a captive portal</html>".to_owned())),
            1..=8 => Some((503, String::new())),
            9 | 10 => None,
            _ => Some((
                401,
                json!({ "type": "error", "error": { "type": "authentication_error",
                "message": "revoked" } })
                .to_string(),
            )),
        }
    })
    .await;
    server.items.lock().unwrap().push_back(item("session"));
    let (poller, _) = poller(&url, worker(&url, None));
    let ended = poller.run(Until::Stopped).await;
    assert!(
        matches!(&ended, Err(PollError::Refused(e)) if e.status() == Some(401)),
        "{ended:?}"
    );
    // What was claimed before came to its end.
    assert_eq!(server.asked("stop").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_not_acknowledged_is_not_served() {
    let _fast = Fast::start();
    let (server, url) = Server::start(vec![], |place, before| {
        if !place.ends_with("ack") {
            return None;
        }
        let status = if before == 0 { 404 } else { 409 };
        Some((status, String::new()))
    })
    .await;
    server
        .items
        .lock()
        .unwrap()
        .extend([item("session"), item("session")]);
    let (poller, tools) = poller(&url, worker(&url, None));
    poller.run(Until::Drained).await.unwrap();
    // Refused for good: stopped. Somebody else's: left alone.
    assert_eq!(server.asked("stop").len(), 1);
    assert!(server.asked("heartbeat").is_empty() && tools.ran.lock().unwrap().is_empty());
}
