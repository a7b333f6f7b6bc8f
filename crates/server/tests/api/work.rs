//! The work queue as workers see it (contract 50), and who may do what with it.

use std::sync::Arc;

use freehold_base::{ManualClock, Timestamp};
use freehold_wire::work::WorkSecret;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Answer, Server, id, ids, message, read};

/// A self-hosted environment with a key, on a server.
struct Queue {
    s: Server,
    environment: String,
    key: String,
    agent: String,
}

const AGENT: &str = r#"[{"type": "agent_toolset_20260401"},
    {"type": "custom", "name": "lookup", "description": "looks up",
     "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}]"#;

impl Queue {
    async fn start() -> Self {
        Self::on(Server::start().await).await
    }

    async fn on(s: Server) -> Self {
        let environment = s.environment("self_hosted").await;
        let agent = s.agent_with(serde_json::from_str(AGENT).unwrap()).await;
        let key = make_key(&s, &environment).await;
        Self {
            s,
            environment,
            key: text(&key["key"]),
            agent,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/environments/{}/work{rest}", self.environment)
    }

    async fn session(&self) -> String {
        let body = json!({"agent": self.agent, "environment_id": self.environment});
        id(&self.s.post("/v1/sessions", body).await.ok())
    }

    async fn with(&self, key: &str, method: Method, path: &str) -> Answer {
        read(self.s.request_as(key, method, path)).await
    }

    async fn poll(&self) -> Value {
        self.with(&self.key, Method::GET, &self.path("/poll"))
            .await
            .ok()
    }

    async fn act(&self, key: &str, work: &str, what: &str) -> Answer {
        self.with(key, Method::POST, &self.path(&format!("/{work}/{what}")))
            .await
    }

    async fn stop(&self, key: &str, work: &str, force: bool) -> Answer {
        let path = self.path(&format!("/{work}/stop"));
        let request = self.s.request_as(key, Method::POST, &path);
        read(request.json(&json!({ "force": force }))).await
    }

    /// Polls and acknowledges; gives the item's id and its token.
    async fn claim(&self) -> (String, String) {
        let item = self.poll().await;
        let work = id(&item);
        self.act(&self.key, &work, "ack").await.ok();
        (work, token(&item))
    }

    async fn get_as(&self, key: &str, path: &str) -> Answer {
        self.with(key, Method::GET, path).await
    }

    async fn send_as(&self, key: &str, session: &str, event: Value) -> Answer {
        let path = format!("/v1/sessions/{session}/events");
        let request = self.s.request_as(key, Method::POST, &path);
        read(request.json(&json!({"events": [event]}))).await
    }
}

async fn make_key(s: &Server, environment: &str) -> Value {
    let path = format!("/v1/freehold/environments/{environment}/keys");
    s.post(&path, json!({"name": "worker"})).await.ok()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn token(item: &Value) -> String {
    let secret = item["secret"].as_str().expect("a polled item has a secret");
    let secret = WorkSecret::decode(secret).unwrap();
    secret.sessions_token.expose().clone()
}

fn result(call: &str, words: &str) -> Value {
    json!({"type": "user.tool_result", "tool_use_id": call,
        "content": [{"type": "text", "text": words}]})
}

#[tokio::test]
async fn an_item_goes_its_way() {
    let q = Queue::start().await;
    assert_eq!(q.poll().await, Value::Null, "JSON null, and a 200");
    let session = q.session().await;
    let item = q.poll().await;
    let work = id(&item);
    assert!(work.starts_with("work_"));
    assert_eq!(item["type"], "work");
    assert_eq!(item["environment_id"], q.environment.as_str());
    assert_eq!(item["data"], json!({"type": "session", "id": session}));
    assert_eq!(item["state"], "queued");
    assert_eq!(item["metadata"], json!({}));
    assert!(token(&item).starts_with("sk-ant-req-"));
    for unset in [
        "acknowledged_at",
        "started_at",
        "latest_heartbeat_at",
        "stop_requested_at",
        "stopped_at",
    ] {
        assert_eq!(item.get(unset), Some(&Value::Null), "{unset}");
    }
    assert_eq!(q.poll().await, Value::Null, "it went to one poller");
    let acked = q.act(&q.key, &work, "ack").await.ok();
    assert_eq!(
        (&acked["state"], &acked["secret"]),
        (&json!("starting"), &Value::Null)
    );
    assert!(acked["acknowledged_at"].is_string());
    let first = "heartbeat?expected_last_heartbeat=NO_HEARTBEAT";
    let beat = q.act(&token(&item), &work, first).await.ok();
    assert_eq!(beat["type"], "work_heartbeat");
    assert_eq!(beat["lease_extended"], true);
    assert_eq!(beat["state"], "active");
    assert_eq!(beat["ttl_seconds"], 300);
    let last = text(&beat["last_heartbeat"]);
    let next = format!("heartbeat?expected_last_heartbeat={last}&desired_ttl_seconds=60");
    let beat = q.act(&token(&item), &work, &next).await.ok();
    assert_eq!(beat["ttl_seconds"], 60);
    assert_ne!(beat["last_heartbeat"], last.as_str());
    let asked = q.stop(ADMIN_KEY, &work, false).await.ok();
    assert_eq!(asked["state"], "stopping");
    let beat = q.act(&token(&item), &work, &next).await.ok();
    assert_eq!(
        (&beat["state"], &beat["lease_extended"]),
        (&json!("stopping"), &json!(false))
    );
    let stopped = q.stop(&token(&item), &work, true).await.ok();
    assert_eq!(stopped["state"], "stopped");
    let again = q.stop(&q.key, &work, true).await;
    again.error(409, "conflict_error");
    assert_eq!(again.header("x-should-retry"), "false");
    let gone = q.stop(&q.key, "work_none", true).await;
    gone.error(404, "not_found_error");
}

#[tokio::test]
async fn a_heartbeat_of_somebody_else_is_a_412_that_tells_how_it_stands() {
    let q = Queue::start().await;
    q.session().await;
    let (work, token) = q.claim().await;
    let first = "heartbeat?expected_last_heartbeat=NO_HEARTBEAT";
    let beat = q.act(&token, &work, first).await.ok();
    // Its reply was lost: the same again is answered the same.
    assert_eq!(q.act(&token, &work, first).await.ok(), beat);
    let thief = q.act(&q.key, &work, first).await;
    thief.error(412, "invalid_request_error");
    assert_eq!(thief.code(), "heartbeat_precondition_failed");
    assert_eq!(
        thief.body["error"]["details"]["current_state"],
        json!({"state": "active", "last_heartbeat": beat["last_heartbeat"],
            "lease_extended": false, "ttl_seconds": 300})
    );
    for (query, ttl) in [
        ("?desired_ttl_seconds=1", 5),
        ("?desired_ttl_seconds=99999", 3600),
    ] {
        let beat = q
            .act(&q.key, &work, &format!("heartbeat{query}"))
            .await
            .ok();
        assert_eq!(beat["ttl_seconds"], ttl, "{query}");
    }
    let bad = q
        .act(&q.key, &work, "heartbeat?desired_ttl_seconds=0")
        .await;
    assert!(bad.invalid().starts_with("desired_ttl_seconds"));
}

#[tokio::test]
async fn a_poll_waits_for_work_as_long_as_it_said() {
    let q = Arc::new(Queue::start().await);
    let waiting = Arc::clone(&q);
    let poll = tokio::spawn(async move {
        loop {
            let item = waiting
                .with(
                    &waiting.key,
                    Method::GET,
                    &waiting.path("/poll?block_ms=999"),
                )
                .await
                .ok();
            if !item.is_null() {
                return item;
            }
        }
    });
    let session = q.session().await;
    assert_eq!(poll.await.unwrap()["data"]["id"], session.as_str());
    for bad in ["0", "1000", "x", "-1"] {
        let path = q.path(&format!("/poll?block_ms={bad}"));
        let refused = q.get_as(&q.key, &path).await.invalid();
        assert!(refused.starts_with("block_ms"), "{refused}");
    }
}

#[tokio::test]
async fn what_is_not_acknowledged_goes_out_again_with_another_token() {
    let q = Queue::start().await;
    let session = q.session().await;
    let first = q.poll().await;
    let path = q.path("/poll?reclaim_older_than_ms=0");
    let again = q.get_as(&q.key, &path).await.ok();
    assert_eq!(id(&again), id(&first));
    let session = format!("/v1/sessions/{session}");
    let old = q.get_as(&token(&first), &session).await;
    old.error(401, "authentication_error");
    q.get_as(&token(&again), &session).await.ok();
    // Two workers hold it: the first acknowledgement counts.
    let work = id(&first);
    q.act(&q.key, &work, "ack").await.ok();
    let second = q.act(&q.key, &work, "ack").await;
    second.error(409, "conflict_error");
    assert_eq!(second.header("x-should-retry"), "false");
}

#[tokio::test]
async fn a_worker_answers_a_call_once() {
    let q = Queue::start().await;
    let session = q.session().await;
    q.s.say(&session, "tool: bash {\"command\":\"id\"}\nsay: done")
        .await;
    let history = q.s.settled(&session).await;
    let idle = history.last().unwrap();
    assert_eq!(idle["stop_reason"]["type"], "requires_action");
    let call = text(&idle["stop_reason"]["event_ids"][0]);
    let (_, token) = q.claim().await;
    let events = format!("/v1/sessions/{session}/events");
    assert!(
        !q.get_as(&token, &events).await.ok()["data"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let first = q
        .send_as(&token, &session, result(&call, "root"))
        .await
        .ok();
    q.s.settled(&session).await;
    let again = q
        .send_as(&token, &session, result(&call, "root"))
        .await
        .ok();
    assert_eq!(first, again);
    let other = q.send_as(&q.key, &session, result(&call, "toor")).await;
    assert!(other.invalid().contains("already answered"));
    // A sandbox must not speak for the user, nor allow its own calls.
    for event in [
        message("do more"),
        json!({"type": "user.interrupt"}),
        json!({"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"}),
    ] {
        for key in [&token, &q.key] {
            let refused = q.send_as(key, &session, event.clone()).await;
            refused.error(403, "permission_error");
        }
    }
}

#[tokio::test]
async fn a_session_that_needs_a_worker_is_queued_again() {
    let q = Queue::start().await;
    let session = q.session().await;
    let (work, token) = q.claim().await;
    q.stop(&token, &work, true).await.ok();
    assert_eq!(q.poll().await, Value::Null, "it rests");
    q.s.say(&session, "tool: bash {\"command\":\"id\"}\nsay: done")
        .await;
    let (second, _) = q.claim().await;
    assert_ne!(second, work);
    q.s.settled(&session).await;
    // Its worker gives up, the call is open.
    q.stop(&q.key, &second, true).await.ok();
    let third = q.poll().await;
    assert_eq!(third["data"]["id"], session.as_str());
    q.s.send(&session, json!([{"type": "user.interrupt"}]))
        .await
        .ok();
    q.s.settled(&session).await;
    q.act(&q.key, &id(&third), "ack").await.ok();
    q.stop(&q.key, &id(&third), true).await.ok();
    assert_eq!(q.poll().await, Value::Null, "nothing is left");
}

#[tokio::test]
async fn the_server_says_how_long_a_lease_lasts_unless_its_worker_does() {
    let q = Queue::on(Server::with(|app| app.with_lease(7)).await).await;
    q.session().await;
    let (work, token) = q.claim().await;
    for (query, ttl) in [("", 7), ("?desired_ttl_seconds=60", 60)] {
        let beat = q.act(&token, &work, &format!("heartbeat{query}")).await;
        assert_eq!(beat.ok()["ttl_seconds"], ttl, "{query}");
    }
}

#[tokio::test]
async fn a_lapsed_lease_is_taken_back() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(
        1_700_000_000_000_000,
    )));
    let q = Queue::on(Server::at(Arc::clone(&clock)).await).await;
    let session = q.session().await;
    let (work, token) = q.claim().await;
    let first = "heartbeat?expected_last_heartbeat=NO_HEARTBEAT";
    let beat = q.act(&token, &work, first).await.ok();
    q.s.say(&session, "tool: bash {\"command\":\"id\"}").await;
    q.s.settled(&session).await;
    clock.advance_millis(300_000);
    let next = q.poll().await;
    assert_eq!(next["data"]["id"], session.as_str());
    assert_ne!(id(&next), work);
    let late = format!(
        "heartbeat?expected_last_heartbeat={}",
        text(&beat["last_heartbeat"])
    );
    let late = q.act(&token, &work, &late).await.ok();
    assert_eq!(
        (&late["state"], &late["lease_extended"]),
        (&json!("stopped"), &json!(false))
    );
}

#[tokio::test]
async fn an_ended_session_ends_its_item() {
    let q = Queue::start().await;
    let archived = q.session().await;
    let (work, token) = q.claim().await;
    q.s.post(&format!("/v1/sessions/{archived}/archive"), json!({}))
        .await
        .ok();
    let path = q.path(&format!("/{work}"));
    assert_eq!(q.s.get(&path).await.ok()["state"], "stopped");
    q.get_as(&token, &format!("/v1/sessions/{archived}"))
        .await
        .error(401, "authentication_error");
    let seen = q
        .get_as(&q.key, &format!("/v1/sessions/{archived}"))
        .await
        .ok();
    assert_eq!(seen["status"], "terminated");
    let deleted = q.session().await;
    q.s.delete(&format!("/v1/sessions/{deleted}")).await.ok();
    assert_eq!(q.poll().await, Value::Null);
}

#[tokio::test]
async fn each_credential_reaches_what_the_contract_says() {
    let q = Queue::start().await;
    let (one, other) = (q.session().await, q.session().await);
    let (work, token) = q.claim().await;
    let item = q.path(&format!("/{work}"));
    let list = q.path("");
    let stats = q.path("/stats");
    let poll = q.path("/poll");
    let session = format!("/v1/sessions/{one}");
    let foreign = format!("/v1/sessions/{other}");
    let cloud = format!("/v1/sessions/{}", q.s.session().await);
    let admin = ADMIN_KEY.to_owned();
    let (k, e, t) = (&admin, &q.key, &token);
    for (path, key, status) in [
        (&list, k, 403),
        (&list, e, 200),
        (&list, t, 403),
        (&item, k, 200),
        (&item, e, 403),
        (&item, t, 403),
        (&poll, k, 403),
        (&poll, e, 200),
        (&poll, t, 403),
        (&stats, k, 200),
        (&stats, e, 200),
        (&stats, t, 403),
        (&session, k, 200),
        (&session, e, 200),
        (&session, t, 200),
        (&foreign, e, 200),
        (&foreign, t, 404),
        (&cloud, k, 200),
        (&cloud, e, 404),
        (&cloud, t, 404),
    ] {
        let answer = q.get_as(key, path).await;
        assert_eq!(answer.status, status, "{path} {key:.12}: {}", answer.body);
    }
    for rest in ["/events", "/events/stream"] {
        for (path, key, status) in [(&foreign, t, 404), (&cloud, e, 404), (&cloud, t, 404)] {
            let answer = q.get_as(key, &format!("{path}{rest}")).await;
            assert_eq!(answer.status, status, "{path}{rest}");
        }
    }
    for path in [
        "/v1/sessions",
        "/v1/agents",
        "/v1/environments",
        "/v1/files",
        "/v1/models",
        "/v1/freehold/status",
        "/v1/freehold/keys",
    ] {
        for key in [e, t] {
            q.get_as(key, path).await.error(403, "permission_error");
        }
    }
    // Metadata is the API key's.
    for (key, status) in [(e, 403), (t, 403), (k, 200)] {
        let request = q.s.request_as(key, Method::POST, &item);
        let answer = read(request.json(&json!({"metadata": {"rack": "b2"}}))).await;
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    for what in ["ack", "heartbeat"] {
        q.act(k, &work, what).await.error(403, "permission_error");
    }
    let again = q.path("/poll?reclaim_older_than_ms=0");
    let second = id(&q.get_as(e, &again).await.ok());
    q.act(t, &second, "ack")
        .await
        .error(403, "permission_error");
    q.stop(t, &second, true)
        .await
        .error(403, "permission_error");
    for key in [k, e, t] {
        q.stop(key, &work, false).await.ok();
    }
}

#[tokio::test]
async fn a_workers_result_refers_to_no_file() {
    let q = Queue::start().await;
    let session = q.session().await;
    let (_, token) = q.claim().await;
    let document = json!({"type": "document", "source": {"type": "file", "file_id": "file_1"}});
    for key in [&q.key, &token] {
        for event in [
            json!({"type": "user.tool_result", "tool_use_id": "sevt_1", "content": [document]}),
            json!({"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_1",
                "content": [document]}),
        ] {
            let refused = q.send_as(key, &session, event).await;
            let said = refused.error(403, "permission_error");
            assert!(said.contains("opens no file"), "{said}");
        }
    }
}

/// What a worker's credentials open at all; everything else is an API key's, what is new included.
const WORKERS: [&str; 16] = [
    "/v1/environments/{id}/work",
    "/v1/environments/{id}/work/poll",
    "/v1/environments/{id}/work/stats",
    "/v1/environments/{id}/work/{work}/ack",
    "/v1/environments/{id}/work/{work}/heartbeat",
    "/v1/environments/{id}/work/{work}/stop",
    "/v1/sessions/{id}",
    "/v1/sessions/{id}/events",
    "/v1/sessions/{id}/events/stream",
    "/v1/memory_stores/{id}",
    "/v1/memory_stores/{id}/memories",
    "/v1/memory_stores/{id}/memories/{memory}",
    "/v1/memory_stores/{id}/memory_versions",
    "/v1/memory_stores/{id}/memory_versions/{version}",
    "/v1/skills/{id}/versions/{version}",
    "/v1/skills/{id}/versions/{version}/content",
];

#[tokio::test]
async fn no_other_endpoint_serves_a_worker() {
    let q = Queue::start().await;
    q.session().await;
    let (_, token) = q.claim().await;
    // The paths of the router itself, so that none is forgotten.
    let router = include_str!("../../src/routes/mod.rs");
    let paths: Vec<&str> = router
        .split('"')
        .filter(|text| text.starts_with("/v1/"))
        .collect();
    assert!(paths.len() > 50 && WORKERS.iter().all(|path| paths.contains(path)));
    for path in paths.iter().filter(|path| !WORKERS.contains(path)) {
        let named = path.split('/').map(|part| match part.starts_with('{') {
            true => "x_1",
            false => part,
        });
        let named = named.collect::<Vec<_>>().join("/");
        for key in [&q.key, &token] {
            for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
                let request = q.s.request_as(key, method.clone(), &named);
                let body = json!({"model": "rehearsal", "max_tokens": 9, "messages": []});
                let status = read(request.json(&body)).await.status;
                assert!(matches!(status, 403 | 405), "{method} {path}: {status}");
            }
        }
    }
}

#[tokio::test]
async fn an_api_key_in_a_workers_hands_is_refused_with_the_reason() {
    let q = Queue::start().await;
    let refused = q.s.get(&q.path("/poll")).await;
    let why = refused.error(403, "permission_error");
    assert!(why.contains("not an API key"), "{why}");
    assert!(why.contains("whole workspace"), "{why}");
    assert!(why.contains("freehold environments keys create"), "{why}");
}

#[tokio::test]
async fn a_key_of_another_environment_is_refused() {
    let q = Queue::start().await;
    let other = q.s.environment("self_hosted").await;
    let key = text(&make_key(&q.s, &other).await["key"]);
    for path in ["", "/poll", "/stats"] {
        q.get_as(&key, &q.path(path))
            .await
            .error(403, "permission_error");
    }
    let session = q.session().await;
    q.get_as(&key, &format!("/v1/sessions/{session}"))
        .await
        .error(404, "not_found_error");
}

#[tokio::test]
async fn keys_are_shown_once_and_revoked_at_once() {
    let q = Queue::start().await;
    assert!(q.key.starts_with("sk-ant-oat01-"));
    let keys = format!("/v1/freehold/environments/{}/keys", q.environment);
    let second = make_key(&q.s, &q.environment).await;
    let listed = q.s.get(&keys).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("sk-ant-oat01"));
    assert_eq!(listed["data"][1]["last4"].as_str().unwrap().len(), 4);
    let second_key = text(&second["key"]);
    q.get_as(&second_key, &q.path("/poll")).await.ok();
    let session = q.session().await;
    let path = format!("/v1/sessions/{session}/events/stream");
    let mut stream =
        q.s.request_as(&second_key, Method::GET, &path)
            .send()
            .await
            .unwrap();
    assert_eq!(stream.status(), 200);
    let revoke = format!("{keys}/{}/revoke", id(&second));
    let revoked = q.s.post(&revoke, json!({})).await.ok();
    assert!(revoked["revoked_at"].is_string());
    q.get_as(&second_key, &q.path("/poll"))
        .await
        .error(401, "authentication_error");
    // The open stream ends.
    while stream.chunk().await.unwrap().is_some() {}
    q.poll().await;
    let cloud = q.s.environment("cloud").await;
    let refused =
        q.s.post(
            &format!("/v1/freehold/environments/{cloud}/keys"),
            json!({"name": "k"}),
        )
        .await;
    assert!(refused.invalid().contains("not a self-hosted environment"));
    let plain =
        q.s.post("/v1/freehold/keys", json!({"name": "plain"}))
            .await
            .ok();
    let request = q.s.request_as(&text(&plain["key"]), Method::POST, &keys);
    read(request.json(&json!({"name": "k"})))
        .await
        .error(403, "permission_error");
}

#[tokio::test]
async fn a_deleted_environments_keys_go_with_it() {
    let q = Queue::start().await;
    q.poll().await;
    q.s.delete(&format!("/v1/environments/{}", q.environment))
        .await
        .ok();
    q.get_as(&q.key, &q.path("/poll"))
        .await
        .error(401, "authentication_error");
}

#[tokio::test]
async fn an_archived_environments_sessions_go_on() {
    let q = Queue::start().await;
    let session = q.session().await;
    q.s.post(
        &format!("/v1/environments/{}/archive", q.environment),
        json!({}),
    )
    .await
    .ok();
    let (_, token) = q.claim().await;
    q.get_as(&token, &format!("/v1/sessions/{session}"))
        .await
        .ok();
}

#[tokio::test]
async fn a_tokens_streams_end_with_its_item() {
    let q = Queue::start().await;
    let session = q.session().await;
    let (work, token) = q.claim().await;
    let path = format!("/v1/sessions/{session}/events/stream");
    let mut stream =
        q.s.request_as(&token, Method::GET, &path)
            .send()
            .await
            .unwrap();
    assert_eq!(stream.status(), 200);
    q.stop(&q.key, &work, true).await.ok();
    while stream.chunk().await.unwrap().is_some() {}
    let late = q.get_as(&token, &path).await;
    let why = late.error(401, "authentication_error");
    assert!(why.contains("has stopped"), "{why}");
    q.stop(&token, &work, true)
        .await
        .error(409, "conflict_error");
}

#[tokio::test]
async fn a_queue_tells_how_it_stands() {
    let q = Queue::start().await;
    for _ in 0..3 {
        q.session().await;
    }
    let polled = q.s.request_as(&q.key, Method::GET, &q.path("/poll"));
    let item = read(polled.header("anthropic-worker-id", "w1")).await.ok();
    let polled = q.s.request_as(&q.key, Method::GET, &q.path("/poll"));
    read(polled.header("anthropic-worker-id", "w2")).await.ok();
    let stats = q.s.get(&q.path("/stats")).await.ok();
    assert_eq!(
        stats,
        json!({"type": "work_queue_stats", "depth": 1, "pending": 2,
            "oldest_queued_at": item["created_at"], "workers_polling": 2})
    );
    let page = q.get_as(&q.key, &q.path("?limit=2")).await.ok();
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    assert_eq!(page["data"][0]["secret"], Value::Null);
    let rest = format!("?limit=2&page={}", text(&page["next_page"]));
    let last = q.get_as(&q.key, &q.path(&rest)).await.ok();
    assert_eq!(ids(&last), [id(&item)], "newest first");
    assert_eq!(last["next_page"], Value::Null);
    let as_admin = format!("/v1/freehold/environments/{}/work", q.environment);
    assert_eq!(
        q.s.get(&as_admin).await.ok()["data"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[tokio::test]
async fn metadata_is_merged_within_its_limits() {
    let q = Queue::start().await;
    q.session().await;
    let path = q.path(&format!("/{}", id(&q.poll().await)));
    let set = |metadata: Value| q.s.post(&path, json!({ "metadata": metadata }));
    set(json!({"a": "1", "b": "2"})).await.ok();
    let merged = set(json!({"a": null, "c": "3"})).await.ok();
    assert_eq!(merged["metadata"], json!({"b": "2", "c": "3"}));
    let many: serde_json::Map<String, Value> =
        (0..16).map(|n| (format!("k{n}"), json!("v"))).collect();
    let refused = set(Value::Object(many)).await;
    refused.invalid();
    assert_eq!(refused.code(), "invalid_metadata");
    q.s.post(&path, json!({})).await.invalid();
}

#[tokio::test]
async fn a_cloud_environment_has_no_queue() {
    let s = Server::start().await;
    let cloud = s.environment("cloud").await;
    let refused = s.get(&format!("/v1/environments/{cloud}/work/stats")).await;
    assert!(refused.invalid().contains("not a self-hosted environment"));
    let none = s.get("/v1/environments/env_none/work/stats").await;
    none.error(404, "not_found_error");
}

/// A worker of the fleet: serves items until every session has ended its turn, and is lost now and
/// then with an item in its hands, at one place or another.
async fn serve(q: Arc<Queue>, clock: Arc<ManualClock>, sessions: Arc<Vec<String>>, seed: usize) {
    for n in seed.. {
        let item = q.poll().await;
        if item.is_null() {
            if all_rest(&q, &sessions).await {
                return;
            }
            // What the lost ones held lapses with time.
            clock.advance_millis(20_000);
            continue;
        }
        if n % 5 == 0 {
            continue; // Lost before it acknowledged.
        }
        let (work, token) = (id(&item), token(&item));
        let acked = q.act(&q.key, &work, "ack").await;
        let first = "heartbeat?expected_last_heartbeat=NO_HEARTBEAT";
        if acked.status != 200 || n % 5 == 1 {
            continue;
        }
        let beat = q.act(&token, &work, first).await;
        if beat.status != 200 || beat.body["lease_extended"] == false || n % 5 == 2 {
            continue;
        }
        let session = text(&item["data"]["id"]);
        // The time others let pass may have ended the item: then the token opens nothing.
        for call in open_calls(&q, &token, &session).await {
            let answer = q.send_as(&token, &session, result(&call, &token)).await;
            assert!([200, 400, 401].contains(&answer.status), "{}", answer.body);
        }
        if n % 5 != 3 {
            q.stop(&token, &work, true).await;
        }
    }
}

async fn open_calls(q: &Queue, token: &str, session: &str) -> Vec<String> {
    let history = q
        .get_as(token, &format!("/v1/sessions/{session}/events"))
        .await;
    let empty = Vec::new();
    let events = history.body["data"].as_array().unwrap_or(&empty);
    let answered: Vec<&Value> = events.iter().map(|e| &e["tool_use_id"]).collect();
    events
        .iter()
        .filter(|e| e["type"] == "agent.tool_use" && !answered.contains(&&e["id"]))
        .map(id)
        .collect()
}

async fn all_rest(q: &Queue, sessions: &[String]) -> bool {
    for session in sessions {
        let history = q.s.history(session).await;
        if history
            .last()
            .is_none_or(|e| e["stop_reason"]["type"] != "end_turn")
        {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_loses_workers_loses_nothing_and_answers_once() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_micros(
        1_700_000_000_000_000,
    )));
    let q = Queue::on(Server::at(Arc::clone(&clock)).await).await;
    let mut sessions = Vec::new();
    for n in 0..24 {
        let session = q.session().await;
        let script = format!(
            "tool: bash {{\"command\":\"{n}\"}}\ntool: bash {{\"command\":\"x\"}}\nsay: done"
        );
        q.s.say(&session, &script).await;
        sessions.push(session);
    }
    let (q, sessions) = (Arc::new(q), Arc::new(sessions));
    let mut fleet = tokio::task::JoinSet::new();
    for seed in 0..4 {
        fleet.spawn(serve(
            Arc::clone(&q),
            Arc::clone(&clock),
            Arc::clone(&sessions),
            seed,
        ));
    }
    tokio::time::timeout(crate::harness::PATIENCE * 3, fleet.join_all())
        .await
        .expect("the fleet does not end");
    for session in sessions.iter() {
        let history = q.s.history(session).await;
        let of = |kind: &str| history.iter().filter(|e| e["type"] == kind).count();
        assert_eq!(
            (of("agent.tool_use"), of("user.tool_result")),
            (2, 2),
            "{session}"
        );
    }
    // What was still held lapses, and nothing comes after it.
    clock.advance_millis(400_000);
    // But for what was queued just before its session came to rest, and lost before it was
    // acknowledged: that goes out once more.
    let mut left = 0;
    loop {
        let item = q.poll().await;
        if item.is_null() {
            break;
        }
        left += 1;
        assert!(left <= sessions.len(), "it does not end");
        q.act(&q.key, &id(&item), "ack").await.ok();
        q.stop(&q.key, &id(&item), true).await.ok();
    }
    let stats = q.s.get(&q.path("/stats")).await.ok();
    assert_eq!((&stats["depth"], &stats["pending"]), (&json!(0), &json!(0)));
    let page = q.get_as(&q.key, &q.path("?limit=100")).await.ok();
    let states = page["data"].as_array().unwrap();
    assert!(
        states.iter().all(|item| item["state"] == "stopped"),
        "{states:#?}"
    );
}
