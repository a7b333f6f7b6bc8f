//! Access tokens that are refreshed at endpoints that do not play by the rules: a grant is neither sent
//! elsewhere nor lost (docs/tunnel-attacks.md).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::harness::{ADMIN_KEY, Server, id};
use crate::mcp_server::{Hostile, discovered};

/// What the next request of a token endpoint comes to; afterwards all are served well.
enum Next {
    /// This answer.
    Answer(Response),
    /// A good one, after the test was told and says so.
    Hold,
    /// A good one, after this request went to the platform: path and body.
    After(String, Value),
    /// This answer, after the same.
    AnswerAfter(Response, String, Value),
}

/// An endpoint that rotates: each refresh token is good once.
#[derive(Clone)]
struct Endpoint {
    url: String,
    next: Arc<Mutex<Vec<Next>>>,
    asked: Arc<Mutex<Vec<HashMap<String, String>>>>,
    good: Arc<Mutex<String>>,
    issued: Arc<AtomicUsize>,
    reached: Arc<Notify>,
    go: Arc<Notify>,
}

impl Endpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Self {
            url: format!("http://{}/token", listener.local_addr().unwrap()),
            next: Arc::default(),
            asked: Arc::default(),
            good: Arc::new(Mutex::new(grant(0))),
            issued: Arc::default(),
            reached: Arc::default(),
            go: Arc::default(),
        };
        let router = Router::new()
            .route("/token", post(Self::answer))
            .with_state(endpoint.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        endpoint
    }

    fn then(&self, next: Next) {
        self.next.lock().unwrap().push(next);
    }

    fn n_asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The refresh token that was shown last.
    fn last(&self) -> String {
        self.asked.lock().unwrap().last().unwrap()["refresh_token"].clone()
    }

    async fn answer(State(endpoint): State<Self>, body: String) -> Response {
        let form = reqwest::Url::parse(&format!("http://form/?{body}")).unwrap();
        let form: HashMap<String, String> = form.query_pairs().into_owned().collect();
        endpoint.asked.lock().unwrap().push(form.clone());
        let next = endpoint.next.lock().unwrap().pop();
        // What uses the grant up does so now, however long the answer takes.
        let rotated = match next {
            Some(Next::Answer(answer)) => return answer,
            Some(Next::AnswerAfter(answer, at, body)) => {
                ours(&at, &body).await;
                return answer;
            }
            _ => endpoint.rotate(&form),
        };
        match next {
            Some(Next::Hold) => {
                endpoint.reached.notify_one();
                endpoint.go.notified().await;
            }
            Some(Next::After(at, body)) => ours(&at, &body).await,
            _ => {}
        }
        rotated
    }

    fn rotate(&self, form: &HashMap<String, String>) -> Response {
        let mut good = self.good.lock().unwrap();
        if form["refresh_token"] != *good {
            let gone = json!({"error": "invalid_grant"});
            return (StatusCode::BAD_REQUEST, axum::Json(gone)).into_response();
        }
        let n = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        *good = grant(n);
        let given = json!({"access_token": access(n), "refresh_token": *good,
            "token_type": "Bearer", "expires_in": 3600});
        axum::Json(given).into_response()
    }
}

fn grant(n: usize) -> String {
    format!("grant-{n}-of-the-test")
}

fn access(n: usize) -> String {
    format!("access-{n}-of-the-test")
}

/// A request to the platform, by somebody else.
async fn ours(at: &str, body: &Value) {
    let client = reqwest::Client::new();
    let request = client.request(Method::POST, at).bearer_auth(ADMIN_KEY);
    let answer = request.header("anthropic-version", "2026-10-21").json(body);
    assert_eq!(answer.send().await.unwrap().status(), 200);
}

/// A server that takes the access tokens that an endpoint has issued, the endpoint, and a credential
/// whose access token is no longer good.
struct World {
    s: Server,
    guarded: Hostile,
    endpoint: Endpoint,
    vault: String,
    credential: String,
    session: String,
}

impl World {
    async fn start() -> Self {
        let (s, endpoint) = (Server::start().await, Endpoint::start().await);
        let issued = endpoint.issued.clone();
        let guarded = Hostile::start(move |a| {
            let newest = issued.load(Ordering::SeqCst);
            let good = (1..=newest).any(|n| a.shown == format!("Bearer {}", access(n)));
            match a.method() {
                _ if !good => (StatusCode::UNAUTHORIZED, a.shown.clone()).into_response(),
                "tools/list" => a.lists(&[("t", "x")]),
                "tools/call" => a.says("done"),
                _ => discovered(a),
            }
        })
        .await;
        let vault = id(&s
            .post("/v1/vaults", json!({"display_name": "v"}))
            .await
            .ok());
        let auth = json!({"type": "mcp_oauth", "mcp_server_url": guarded.url,
            "access_token": access(0), "refresh": {"token_endpoint": endpoint.url,
            "client_id": "client", "refresh_token": grant(0), "resource": guarded.url,
            "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "secret-of-the-client"}}});
        let at = format!("/v1/vaults/{vault}/credentials");
        let credential = id(&s.post(&at, json!({"auth": auth})).await.ok());
        let agent = json!({"name": "a", "model": "rehearsal",
            "mcp_servers": [{"type": "url", "name": "demo", "url": guarded.url}],
            "tools": [{"type": "mcp_toolset", "mcp_server_name": "demo",
                "default_config": {"permission_policy": {"type": "always_allow"}}}]});
        let agent = id(&s.post("/v1/agents", agent).await.ok());
        let environment = s.environment("cloud").await;
        let body = json!({"agent": agent, "environment_id": environment, "vault_ids": [vault]});
        let session = id(&s.post("/v1/sessions", body).await.ok());
        Self {
            credential: format!("{at}/{credential}"),
            s,
            guarded,
            endpoint,
            vault,
            session,
        }
    }

    /// The errors and the results of a turn with one call.
    async fn turn(&self) -> (Vec<Value>, usize) {
        let before = self.s.history(&self.session).await.len();
        self.s
            .say(&self.session, "tool: mcp__demo__t {}\nsay: after")
            .await;
        let seen = self.s.settled(&self.session).await.split_off(before);
        let errors = seen
            .iter()
            .filter(|e| e["type"] == "session.error")
            .cloned();
        let results = seen.iter().filter(|e| e["type"] == "agent.mcp_tool_result");
        let done = results.filter(|e| e["is_error"] != true).count();
        (errors.collect(), done)
    }

    async fn works(&self) {
        let (errors, done) = self.turn().await;
        assert_eq!((errors.len(), done), (0, 1), "{errors:?}");
    }

    async fn fails(&self) {
        let (errors, done) = self.turn().await;
        assert_eq!((errors.len(), done), (1, 0));
        assert_eq!(
            errors[0]["error"]["type"],
            "mcp_authentication_failed_error"
        );
    }

    /// Nothing secret is in what clients and operators see.
    async fn silent(&self) {
        let mut text = json!(self.s.history(&self.session).await).to_string();
        for path in [
            &self.credential,
            "/v1/freehold/mcp/servers",
            "/v1/freehold/mcp/audit",
        ] {
            text += &self.s.get(path).await.ok().to_string();
        }
        for secret in [
            "grant-",
            "access-0",
            "access-1",
            "access-2",
            "secret-of-the-client",
        ] {
            assert!(!text.contains(secret), "{secret}");
        }
    }
}

fn page(status: u16, kind: &'static str, body: String) -> Response {
    let code = StatusCode::from_u16(status).unwrap();
    (code, [("content-type", kind)], body).into_response()
}

#[tokio::test]
async fn whatever_an_endpoint_answers_the_grant_is_kept_and_goes_nowhere_else() {
    let w = World::start().await;
    let thief = Hostile::start(|a| a.says("stolen")).await;
    let location = |status: u16, to: &str| {
        let code = StatusCode::from_u16(status).unwrap();
        (code, [("location", to.to_owned())]).into_response()
    };
    let token = json!({"access_token": "a", "token_type": "Bearer"});
    let with = |key: &str, value: Value| {
        let mut token = token.clone();
        token[key] = value;
        page(200, "application/json", token.to_string())
    };
    let bad = [
        location(302, &thief.url),
        location(307, &thief.url),
        location(308, "http://169.254.169.254/"),
        page(200, "text/html", format!("<html>{}</html>", grant(0))),
        page(200, "application/json", "{\"access_token\": ".to_owned()),
        page(200, "application/json", format!("\"{}\"", grant(0))),
        with("access_token", json!("with space")),
        with("access_token", json!("a\r\nX-Evil: 1")),
        with("access_token", json!("x".repeat(20_000))),
        with("refresh_token", json!(7)),
        with("token_type", json!("mac")),
        page(500, "text/plain", format!("no {}", grant(0))),
        page(503, "text/plain", String::new()),
        page(429, "text/plain", "x".repeat(1 << 20)),
    ];
    for (n, answer) in bad.into_iter().enumerate() {
        w.endpoint.then(Next::Answer(answer));
        w.fails().await;
        assert_eq!(w.endpoint.n_asked(), n + 1, "once each turn");
    }
    assert!(thief.asked().is_empty());
    w.works().await;
    assert_eq!(w.endpoint.last(), grant(0));
    let asked = w.endpoint.asked.lock().unwrap().clone();
    assert!(asked.iter().all(|form| form["resource"] == w.guarded.url));
    w.silent().await;
}

/// The body of an error may hold anything, also what was sent.
#[tokio::test]
async fn an_error_of_the_endpoint_shows_no_secret() {
    let w = World::start().await;
    let body = format!("{} {} secret-of-the-client", grant(0), access(0));
    w.endpoint
        .then(Next::Answer(page(503, "text/grant-0-of-the-test", body)));
    let validate = format!("{}/mcp_oauth_validate", w.credential);
    let found = w.s.post_raw(&validate, "").await.ok();
    let refresh = &found["refresh"]["http_response"];
    assert_eq!(refresh["body"], "[redacted] [redacted] [redacted]");
    assert!(!found.to_string().contains("of-the-test"), "{found}");
    // The server said the token back.
    assert_eq!(
        found["mcp_probe"]["http_response"]["body"],
        "Bearer [redacted]"
    );
    w.silent().await;
}

/// A token that its server does not take: meant for somebody else, or for nobody.
#[tokio::test]
async fn a_token_that_the_server_does_not_take_is_an_error_and_no_loop() {
    let w = World::start().await;
    let foreign = json!({"access_token": "for-another-audience", "refresh_token": grant(0), "token_type": "Bearer"});
    w.endpoint
        .then(Next::Answer(axum::Json(foreign).into_response()));
    w.fails().await;
    assert_eq!(w.endpoint.n_asked(), 1);
    let shown: Vec<_> = w.guarded.asked().iter().map(|a| a.shown.clone()).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    w.works().await;
    assert_eq!(w.endpoint.n_asked(), 2);
}

#[tokio::test]
async fn a_grant_is_used_once_for_all_sessions() {
    let w = World::start().await;
    let row = w.s.get(&format!("/v1/sessions/{}", w.session)).await.ok();
    let mut sessions = vec![w.session.clone()];
    for _ in 0..5 {
        let body = json!({"agent": row["agent"]["id"], "environment_id": row["environment_id"],
            "vault_ids": [w.vault]});
        sessions.push(id(&w.s.post("/v1/sessions", body).await.ok()));
    }
    w.endpoint.then(Next::Hold);
    for session in &sessions {
        w.s.say(session, "tool: mcp__demo__t {}\nsay: after").await;
    }
    w.endpoint.reached.notified().await;
    w.endpoint.go.notify_one();
    for session in &sessions {
        let seen = w.s.settled(session).await;
        let errors = seen.iter().filter(|e| e["type"] == "session.error").count();
        let done = seen
            .iter()
            .filter(|e| e["type"] == "agent.mcp_tool_result")
            .count();
        assert_eq!((errors, done), (0, 1));
    }
    assert_eq!(w.endpoint.n_asked(), 1);
}

/// An endpoint that has rotated a grant and is slow to say so: the turn may be interrupted, and the
/// client of a validation may go away. What comes is stored all the same.
#[tokio::test]
async fn whoever_goes_away_loses_no_grant() {
    let w = World::start().await;
    w.endpoint.then(Next::Hold);
    w.s.say(&w.session, "say: never").await;
    w.endpoint.reached.notified().await;
    w.s.send(&w.session, json!([{"type": "user.interrupt"}]))
        .await
        .ok();
    w.s.settled(&w.session).await;
    w.endpoint.go.notify_one();
    w.works().await;
    assert_eq!(
        w.endpoint.n_asked(),
        1,
        "the first grant was used, and its gain is there"
    );

    // The same while a client waits. Its token has gone bad once more.
    let bad = json!({"auth": {"type": "mcp_oauth", "access_token": "gone-bad-again"}});
    w.s.post(&w.credential, bad).await.ok();
    w.endpoint.then(Next::Hold);
    let validate = format!("{}/mcp_oauth_validate", w.credential);
    let asked = w.s.request(Method::POST, &validate).send();
    tokio::select! {
        _ = asked => panic!("answered"),
        () = w.endpoint.reached.notified() => {}
    }
    w.endpoint.go.notify_one();
    w.works().await;
    assert_eq!((w.endpoint.n_asked(), w.endpoint.last()), (2, grant(1)));
}

/// Somebody names the credential while its grant is being used up: both count.
#[tokio::test]
async fn a_change_of_something_else_loses_no_grant() {
    let w = World::start().await;
    let at = format!("{}{}", w.s.url, w.credential);
    w.endpoint
        .then(Next::After(at, json!({"display_name": "named meanwhile"})));
    w.works().await;
    assert_eq!(w.endpoint.n_asked(), 1);
    let shown = w.s.get(&w.credential).await.ok();
    assert_eq!(shown["display_name"], "named meanwhile");
    assert!(shown["auth"]["expires_at"].is_string());
    let bad = json!({"auth": {"type": "mcp_oauth", "access_token": "gone-bad-again"}});
    w.s.post(&w.credential, bad).await.ok();
    w.works().await;
    assert_eq!((w.endpoint.n_asked(), w.endpoint.last()), (2, grant(1)));
}

/// Somebody authorizes again while the old grant is being used: theirs counts.
#[tokio::test]
async fn a_new_grant_is_not_overwritten() {
    let w = World::start().await;
    let at = format!("{}{}", w.s.url, w.credential);
    let auth = json!({"auth": {"type": "mcp_oauth", "access_token": "another-bad-one",
        "refresh": {"refresh_token": "the-grant-of-the-user"}}});
    w.endpoint.then(Next::After(at, auth));
    w.fails().await;
    assert_eq!(w.endpoint.last(), grant(0));
    w.fails().await;
    assert_eq!(w.endpoint.last(), "the-grant-of-the-user");
}

/// Another replica of this server was first with the grant, and has stored what it got.
#[tokio::test]
async fn a_grant_that_another_replica_used_is_looked_up_again() {
    let first = |w: &World| {
        let at = format!("{}{}", w.s.url, w.credential);
        w.endpoint.issued.store(1, Ordering::SeqCst);
        let stored = json!({"auth": {"type": "mcp_oauth", "access_token": access(1),
            "refresh": {"refresh_token": grant(1)}}});
        let gone = axum::Json(json!({"error": "invalid_grant"}));
        let gone = (StatusCode::BAD_REQUEST, gone).into_response();
        w.endpoint.then(Next::AnswerAfter(gone, at, stored));
    };
    let w = World::start().await;
    first(&w);
    w.works().await;
    assert_eq!(w.endpoint.n_asked(), 1);

    let w = World::start().await;
    first(&w);
    let validate = format!("{}/mcp_oauth_validate", w.credential);
    let found = w.s.post_raw(&validate, "").await.ok();
    assert_eq!(
        (&found["status"], w.endpoint.n_asked()),
        (&json!("valid"), 1),
        "{found}"
    );
}
