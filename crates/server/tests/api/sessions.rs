//! Sessions, their resources and threads (contracts 30 and 45).

use std::sync::atomic::Ordering;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Server, id, ids, message, read, types};

#[tokio::test]
async fn a_session_is_shown_whole() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let body = json!({"agent": agent, "environment_id": environment, "title": "t",
        "metadata": {"a": "b"}});
    let session = s.post("/v1/sessions", body).await.ok();
    for key in [
        "id",
        "type",
        "agent",
        "environment_id",
        "status",
        "title",
        "metadata",
        "resources",
        "vault_ids",
        "budget",
        "usage",
        "stats",
        "outcome_evaluations",
        "created_at",
        "updated_at",
        "archived_at",
        "deployment_id",
    ] {
        assert!(session.get(key).is_some(), "{key}");
    }
    assert_eq!(
        (&session["type"], &session["status"]),
        (&json!("session"), &json!("idle"))
    );
    assert_eq!(
        (&session["agent"]["id"], &session["agent"]["version"]),
        (&json!(agent), &json!(1))
    );
    assert!(session["agent"].get("metadata").is_none());
    let path = format!("/v1/sessions/{}", id(&session));
    let again = s.get(&path).await.ok();
    assert_eq!(again["agent"], session["agent"]);
    s.say(&id(&session), "say: hi").await;
    s.settled(&id(&session)).await;
    let after = s.get(&path).await.ok();
    assert!(
        after["usage"]["output_tokens"].as_u64().unwrap() > 0,
        "{after}"
    );
    assert!(
        after["stats"]["active_seconds"].as_f64().unwrap() > 0.0,
        "{after}"
    );
}

#[tokio::test]
async fn initial_events_start_the_session_at_once() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let body = |events: Value| json!({"agent": agent, "environment_id": environment, "initial_events": events});
    let session = s
        .post("/v1/sessions", body(json!([message("say: hi")])))
        .await
        .ok();
    assert_eq!(session["status"], "running");
    assert!(session.get("initial_events").is_none());
    let history = s.settled(&id(&session)).await;
    assert!(types(&history).contains(&"agent.message"));
    for events in [
        json!([{"type": "user.interrupt"}]),
        json!([message("a"), {"type": "user.message", "content": [{"type": "redacted"}]}]),
        json!([{"type": "user.define_outcome", "description": "d"}]),
        json!((0..51).map(|_| message("a")).collect::<Vec<_>>()),
        json!([{"type": "user.message", "content": [{"type": "document",
            "source": {"type": "file", "file_id": "file_none"}}]}]),
    ] {
        s.post("/v1/sessions", body(events)).await.invalid();
    }
    let outcome = json!([{"type": "user.define_outcome", "description": "d",
        "rubric": {"type": "text", "content": "c"}}]);
    let refused = s.post("/v1/sessions", body(outcome)).await;
    refused.invalid();
    assert_eq!(refused.code(), "not_supported_yet");
    assert_eq!(ids(&s.get("/v1/sessions").await.ok()), [id(&session)]);
}

#[tokio::test]
async fn agents_may_be_pinned_and_overridden() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    s.post(&format!("/v1/agents/{agent}"), json!({"system": "two"}))
        .await
        .ok();
    let create = async |agent: Value| {
        s.post(
            "/v1/sessions",
            json!({"agent": agent, "environment_id": environment}),
        )
        .await
    };
    let pinned = create(json!({"type": "agent", "id": agent, "version": 1}))
        .await
        .ok();
    assert_eq!(
        (&pinned["agent"]["version"], &pinned["agent"]["system"]),
        (&json!(1), &Value::Null)
    );
    let latest = create(json!(agent)).await.ok();
    assert_eq!(latest["agent"]["system"], "two");
    let own = create(
        json!({"type": "agent_with_overrides", "id": agent, "system": "mine",
        "tools": null}),
    )
    .await
    .ok();
    assert_eq!(
        (&own["agent"]["system"], &own["agent"]["tools"]),
        (&json!("mine"), &json!([]))
    );
    let refused = create(json!({"type": "agent_with_overrides", "id": agent, "model": null})).await;
    refused.invalid();
    assert_eq!(refused.code(), "agent_model_required");
    for agent in [
        json!("agent_none"),
        json!({"type": "agent", "id": agent, "version": 99}),
    ] {
        let missing = create(agent).await;
        assert!(
            missing.status == 404 || missing.status == 400,
            "{}",
            missing.body
        );
    }
}

#[tokio::test]
async fn features_of_later_versions_are_refused_by_name() {
    let s = Server::start().await;
    let environment = s.environment("cloud").await;
    let pinned = json!({"name": "m", "model": {"id": "rehearsal", "inference_geo": "us"}});
    let pinned = id(&s.post("/v1/agents", pinned).await.ok());
    let agent = s.agent().await;
    let lead = json!({"name": "lead", "model": "rehearsal",
        "multiagent": {"type": "coordinator", "agents": [agent]}});
    let lead = id(&s.post("/v1/agents", lead).await.ok());
    for body in [
        json!({"agent": pinned, "environment_id": environment}),
        json!({"agent": lead, "environment_id": environment}),
        json!({"agent": agent, "environment_id": environment, "resources": [
            {"type": "github_repository", "url": "https://github.com/o/r"}]}),
    ] {
        let refused = s.post("/v1/sessions", body).await;
        refused.invalid();
        assert_eq!(refused.code(), "not_supported_yet", "{}", refused.body);
    }
    assert_eq!(s.get("/v1/sessions").await.ok()["data"], json!([]));
}

#[tokio::test]
async fn a_host_that_cannot_isolate_refuses_cloud_sessions_only() {
    let s = Server::start().await;
    s.executor.no_cloud.store(true, Ordering::SeqCst);
    let (agent, cloud) = (s.agent().await, s.environment("cloud").await);
    let body = json!({"agent": agent, "environment_id": cloud});
    let refused = s.post("/v1/sessions", body).await;
    let message = refused.invalid();
    assert!(message.contains("this host cannot isolate"), "{message}");
    let own = s.environment("self_hosted").await;
    s.post(
        "/v1/sessions",
        json!({"agent": agent, "environment_id": own}),
    )
    .await
    .ok();
}

#[tokio::test]
async fn updates_change_only_what_they_name() {
    let s = Server::start().await;
    let session = s.session().await;
    let path = format!("/v1/sessions/{session}");
    let changed = s
        .post(&path, json!({"title": "t", "metadata": {"a": "b"}}))
        .await
        .ok();
    assert_eq!(
        (&changed["title"], &changed["metadata"]),
        (&json!("t"), &json!({"a": "b"}))
    );
    let history = s.history(&session).await;
    assert_eq!(types(&history), ["session.updated"]);
    assert!(history[0].get("agent").is_none());
    s.post(&path, json!({"title": "t"})).await.ok();
    assert_eq!(s.history(&session).await.len(), 1);
    let tools = s.post(&path, json!({"agent": {"tools": []}})).await.ok();
    assert_eq!(tools["agent"]["tools"], json!([]));
    for bad in [
        json!({"agent": {"system": "x"}}),
        json!({"status": "idle"}),
        json!({"metadata": {"k": 1}}),
    ] {
        s.post(&path, bad).await.invalid();
    }
    let budget = json!({"budget": {"type": "limit",
        "max_list_cost": {"amount": "100", "currency": "USD"}}});
    let refused = s.post(&path, budget).await;
    refused.invalid();
    assert_eq!(refused.code(), "budget_create_only");
}

#[tokio::test]
async fn budgets_are_kept_changed_and_removed() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let budget = |cents: &str| json!({"type": "limit", "max_list_cost": {"amount": cents, "currency": "USD"}});
    let body = json!({"agent": agent, "environment_id": environment, "budget": budget("100")});
    let session = s.post("/v1/sessions", body).await.ok();
    assert_eq!(session["budget"], budget("100"));
    let path = format!("/v1/sessions/{}", id(&session));
    assert_eq!(
        s.post(&path, json!({"budget": budget("50")})).await.ok()["budget"],
        budget("50")
    );
    assert_eq!(
        s.post(&path, json!({"budget": null})).await.ok()["budget"],
        Value::Null
    );
    s.post(&path, json!({"budget": budget("50")}))
        .await
        .invalid();
    for cents in ["0", "1.5", "-1", "007", ""] {
        let body = json!({"agent": agent, "environment_id": environment, "budget": budget(cents)});
        s.post("/v1/sessions", body).await.invalid();
    }
}

#[tokio::test]
async fn a_running_session_is_neither_archived_nor_deleted() {
    let s = Server::start().await;
    let session = s.session().await;
    s.executor.hang.store(true, Ordering::SeqCst);
    s.say(&session, "bash: ls").await;
    let path = format!("/v1/sessions/{session}");
    assert_eq!(s.get(&path).await.ok()["status"], "running");
    let refused = s.delete(&path).await.invalid();
    assert!(refused.contains("running"), "{refused}");
    s.post(&format!("{path}/archive"), json!({}))
        .await
        .invalid();
    s.post(&path, json!({"agent": {"tools": []}}))
        .await
        .invalid();
    s.send(&session, json!([{"type": "user.interrupt"}]))
        .await
        .ok();
    s.settled(&session).await;
    let archived = s.post(&format!("{path}/archive"), json!({})).await.ok();
    assert_eq!(archived["status"], "terminated");
    assert!(archived["archived_at"].is_string());
    assert_eq!(s.get("/v1/sessions").await.ok()["data"], json!([]));
    assert_eq!(
        ids(&s.get("/v1/sessions?include_archived=true").await.ok()),
        [session.as_str()]
    );
    s.post(&path, json!({"title": "x"})).await.invalid();
    assert!(types(&s.history(&session).await).contains(&"session.status_terminated"));
    let gone = s.delete(&path).await.ok();
    assert_eq!(gone, json!({"id": session, "type": "session_deleted"}));
    s.get(&path).await.error(404, "not_found_error");
    assert_eq!(s.executor.removed.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn lists_go_both_ways() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let mut made = Vec::new();
    for _ in 0..5 {
        let body = json!({"agent": agent, "environment_id": environment});
        made.push(id(&s.post("/v1/sessions", body).await.ok()));
    }
    for order in ["asc", "desc"] {
        let mut wanted = made.clone();
        if order == "desc" {
            wanted.reverse();
        }
        let page = async |query: String| {
            s.get(&format!("/v1/sessions?order={order}&limit=2{query}"))
                .await
                .ok()
        };
        let first = page(String::new()).await;
        assert_eq!(
            (ids(&first), &first["prev_page"]),
            (wanted[..2].to_vec(), &Value::Null)
        );
        let second = page(format!("&page={}", first["next_page"].as_str().unwrap())).await;
        assert_eq!(ids(&second), wanted[2..4]);
        let third = page(format!("&page={}", second["next_page"].as_str().unwrap())).await;
        assert_eq!(
            (ids(&third), &third["next_page"]),
            (wanted[4..].to_vec(), &Value::Null)
        );
        let back = page(format!("&page={}", third["prev_page"].as_str().unwrap())).await;
        assert_eq!(ids(&back), wanted[2..4]);
        let start = page(format!("&page={}", back["prev_page"].as_str().unwrap())).await;
        assert_eq!(
            (ids(&start), &start["prev_page"]),
            (wanted[..2].to_vec(), &Value::Null)
        );
    }
    let first = s.get("/v1/sessions?limit=2").await.ok();
    let next = first["next_page"].as_str().unwrap();
    s.get(&format!("/v1/sessions?limit=2&order=asc&page={next}"))
        .await
        .invalid();
}

#[tokio::test]
async fn lists_filter() {
    let s = Server::start().await;
    let one = s.session().await;
    let two = s.session().await;
    let agent = s.get(&format!("/v1/sessions/{one}")).await.ok()["agent"]["id"].clone();
    let agent = agent.as_str().unwrap();
    let listed = async |query: &str| ids(&s.get(&format!("/v1/sessions?{query}")).await.ok());
    assert_eq!(listed(&format!("agent_id={agent}")).await, [one.as_str()]);
    assert_eq!(
        listed(&format!("agent_id={agent}&agent_version=1")).await,
        [one.as_str()]
    );
    assert!(
        listed(&format!("agent_id={agent}&agent_version=2"))
            .await
            .is_empty()
    );
    assert_eq!(listed("statuses[]=idle&statuses[]=running").await.len(), 2);
    assert!(listed("statuses%5B%5D=terminated").await.is_empty());
    assert!(listed("deployment_id=depl_1").await.is_empty());
    assert!(listed("memory_store_id=memstore_1").await.is_empty());
    let at = s.get(&format!("/v1/sessions/{two}")).await.ok()["created_at"].clone();
    let at = at.as_str().unwrap();
    assert_eq!(
        listed(&format!("created_at[gte]={at}")).await,
        [two.as_str()]
    );
    assert_eq!(listed(&format!("created_at[lt]={at}")).await, [one]);
}

async fn upload(s: &Server, name: &str, bytes: &[u8]) -> String {
    let part = reqwest::multipart::Part::bytes(bytes.to_vec()).file_name(name.to_owned());
    let form = reqwest::multipart::Form::new().part("file", part);
    id(&read(s.request(Method::POST, "/v1/files").multipart(form))
        .await
        .ok())
}

#[tokio::test]
async fn files_are_attached_as_copies() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let file = upload(&s, "data.csv", b"a,b").await;
    let body = json!({"agent": agent, "environment_id": environment, "resources": [
        {"type": "file", "file_id": file, "mount_path": "/data.csv"}]});
    let session = s.post("/v1/sessions", body).await.ok();
    let resource = &session["resources"][0];
    assert_eq!(resource["mount_path"], "/mnt/session/uploads/data.csv");
    let copy = resource["file_id"].as_str().unwrap();
    assert_ne!(copy, file);
    let session = id(&session);
    let shown = s.get(&format!("/v1/files/{copy}")).await.ok();
    assert_eq!(shown["scope"], json!({"type": "session", "id": session}));
    assert_eq!(
        (&shown["filename"], &shown["size_bytes"]),
        (&json!("data.csv"), &json!(3))
    );
    // The original may go; the session keeps its copy.
    s.delete(&format!("/v1/files/{file}")).await.ok();
    let path = format!("/v1/sessions/{session}/resources");
    let other = upload(&s, "more.txt", b"more").await;
    let added = s
        .post(&path, json!({"type": "file", "file_id": other}))
        .await
        .ok();
    assert_eq!(added["mount_path"], format!("/mnt/session/uploads/{other}"));
    s.say(&session, "bash: ls").await;
    s.settled(&session).await;
    assert_eq!(s.executor.uploads.lock().unwrap().len(), 2);
    let listed = s.get(&path).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    let one = s.get(&format!("{path}?limit=1")).await.ok();
    let next = one["next_page"].as_str().unwrap();
    let rest = s.get(&format!("{path}?limit=1&page={next}")).await.ok();
    assert_ne!(ids(&one), ids(&rest));
    let resource = format!("{path}/{}", id(&added));
    assert_eq!(s.get(&resource).await.ok(), added);
    s.post(&resource, json!({"authorization_token": "t"}))
        .await
        .invalid();
    let gone = s.delete(&resource).await.ok();
    assert_eq!(gone["type"], "session_resource_deleted");
    s.get(&resource).await.error(404, "not_found_error");
    assert_eq!(s.get(&path).await.ok()["data"].as_array().unwrap().len(), 1);
    for bad in [
        json!({"type": "file", "file_id": "file_none"}),
        json!({"type": "file", "file_id": other, "mount_path": "../../etc/passwd"}),
        json!({"type": "file", "file_id": other, "mount_path": "/a/../../etc"}),
        json!({"type": "file", "file_id": other, "mount_path": "/data.csv"}),
        json!({"type": "github_repository", "url": "https://github.com/o/r"}),
    ] {
        let refused = s.post(&path, bad).await;
        assert!(
            refused.status == 400 || refused.status == 404,
            "{}",
            refused.body
        );
    }
    s.delete(&format!("/v1/sessions/{session}")).await.ok();
    s.get(&format!("/v1/files/{copy}"))
        .await
        .error(404, "not_found_error");
    s.get(&format!("/v1/files/{other}")).await.ok();
}

#[tokio::test]
async fn self_hosted_sessions_take_no_files() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("self_hosted").await);
    let file = upload(&s, "data.csv", b"a,b").await;
    let body = json!({"agent": agent, "environment_id": environment, "resources": [
        {"type": "file", "file_id": file}]});
    let refused = s.post("/v1/sessions", body).await.invalid();
    let literal = format!(
        "Environment {environment} is a self-hosted environment. `resources` are \
        not supported with self-hosted environments."
    );
    assert!(refused.contains(&literal), "{refused}");
}

#[tokio::test]
async fn the_primary_thread_can_be_read() {
    let s = Server::start().await;
    let session = s.session().await;
    let path = format!("/v1/sessions/{session}/threads");
    let fresh = s.get(&path).await.ok();
    let thread = &fresh["data"][0];
    for key in [
        "parent_thread_id",
        "workflow_run_id",
        "stats",
        "usage",
        "archived_at",
    ] {
        assert_eq!(thread.get(key), Some(&Value::Null), "{key}");
    }
    assert!(thread["agent"].get("multiagent").is_none());
    let tid = id(thread);
    s.say(&session, "say: hi").await;
    let history = s.settled(&session).await;
    let running = history
        .iter()
        .find(|e| e["type"] == "session.thread_status_running")
        .unwrap();
    assert_eq!(running["session_thread_id"], tid);
    let thread = s.get(&format!("{path}/{tid}")).await.ok();
    assert_eq!(
        (&thread["status"], &thread["session_id"]),
        (&json!("idle"), &json!(session))
    );
    assert!(
        thread["usage"]["output_tokens"].as_u64().unwrap() > 0,
        "{thread}"
    );
    assert!(thread["stats"]["active_seconds"].is_number());
    let events = s.get(&format!("{path}/{tid}/events?limit=2")).await.ok();
    assert!(events["next_page"].is_string());
    let idle = s.get(&format!("{path}?statuses[]=idle")).await.ok();
    assert_eq!(ids(&idle), [tid.as_str()]);
    assert_eq!(
        s.get(&format!("{path}?statuses[]=running")).await.ok()["data"],
        json!([])
    );
    s.post(&format!("{path}/{tid}/archive"), json!({}))
        .await
        .invalid();
    for tail in ["", "/events", "/stream"] {
        let unknown = format!("{path}/sthr_none{tail}");
        s.get(&unknown).await.error(404, "not_found_error");
    }
}
