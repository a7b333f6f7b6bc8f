//! Agents (contract 10).

use serde_json::{Value, json};

use crate::harness::{Server, id, ids};

#[tokio::test]
async fn an_agent_is_shown_whole() {
    let s = Server::start().await;
    let body = json!({"name": "helper", "model": "rehearsal", "system": "be terse",
        "tools": [{"type": "agent_toolset_20260401"}], "metadata": {"team": "a"}});
    let agent = s.post("/v1/agents", body).await.ok();
    for key in [
        "id",
        "type",
        "name",
        "description",
        "system",
        "model",
        "tools",
        "mcp_servers",
        "skills",
        "multiagent",
        "execution_identity",
        "metadata",
        "version",
        "created_at",
        "updated_at",
        "archived_at",
    ] {
        assert!(agent.get(key).is_some(), "{key}");
    }
    assert_eq!(agent["version"], 1);
    assert_eq!(agent["model"]["id"], "rehearsal");
    let path = format!("/v1/agents/{}", id(&agent));
    assert_eq!(s.get(&path).await.ok(), agent);
    assert_eq!(s.get(&format!("{path}?version=1")).await.ok(), agent);
    s.get(&format!("{path}?version=2"))
        .await
        .error(404, "not_found_error");
    s.get(&format!("{path}?version=0")).await.invalid();
}

#[tokio::test]
async fn updates_make_versions_only_when_something_changes() {
    let s = Server::start().await;
    let agent = s.agent().await;
    let path = format!("/v1/agents/{agent}");
    let same = s
        .post(&path, json!({"name": "helper", "version": 1}))
        .await
        .ok();
    assert_eq!(same["version"], 1);
    let second = s
        .post(&path, json!({"system": "new", "version": 1}))
        .await
        .ok();
    assert_eq!(
        (&second["version"], &second["system"]),
        (&json!(2), &json!("new"))
    );
    let stale = s.post(&path, json!({"system": "new", "version": 1})).await;
    stale.error(409, "conflict_error");
    assert_eq!(stale.header("x-should-retry"), "false");
    let third = s.post(&path, json!({"metadata": {"a": "b"}})).await.ok();
    assert_eq!(third["version"], 3);
    let versions = s.get(&format!("{path}/versions?limit=2")).await.ok();
    let numbers = |page: &Value| -> Vec<i64> {
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["version"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(numbers(&versions), [3, 2]);
    let next = versions["next_page"].as_str().unwrap();
    let rest = s.get(&format!("{path}/versions?page={next}")).await.ok();
    assert_eq!(
        (numbers(&rest), &rest["next_page"]),
        (vec![1], &Value::Null)
    );
    let first = s.get(&format!("{path}?version=1")).await.ok();
    assert_eq!(first["system"], Value::Null);
}

#[tokio::test]
async fn a_model_that_is_not_configured_says_how_to_configure_it() {
    let s = Server::start().await;
    let body = json!({"name": "a", "model": "no-such-model"});
    let message = s.post("/v1/agents", body).await.invalid();
    assert!(
        message.contains("no-such-model") && message.contains("rehearsal"),
        "{message}"
    );
    assert!(
        message.contains("--model-url") || message.contains("models"),
        "{message}"
    );
    let agent = s.agent().await;
    let path = format!("/v1/agents/{agent}");
    s.post(&path, json!({"model": "no-such-model"}))
        .await
        .invalid();
}

#[tokio::test]
async fn an_archived_agent_is_read_only_and_starts_nothing() {
    let s = Server::start().await;
    let agent = s.agent().await;
    let environment = s.environment("cloud").await;
    let path = format!("/v1/agents/{agent}");
    let archived = s.post(&format!("{path}/archive"), json!({})).await.ok();
    assert!(archived["archived_at"].is_string());
    let again = s.post(&format!("{path}/archive"), json!({})).await.ok();
    assert_eq!(again["archived_at"], archived["archived_at"]);
    s.post(&path, json!({"system": "x"})).await.invalid();
    let body = json!({"agent": agent, "environment_id": environment});
    s.post("/v1/sessions", body).await.invalid();
    assert_eq!(s.get("/v1/agents").await.ok()["data"], json!([]));
    let all = s.get("/v1/agents?include_archived=true").await.ok();
    assert_eq!(ids(&all), [agent]);
}

#[tokio::test]
async fn agents_are_listed_newest_first_by_pages() {
    let s = Server::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(s.agent().await);
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut page = String::new();
    loop {
        let answer = s.get(&format!("/v1/agents?limit=2{page}")).await.ok();
        seen.extend(ids(&answer));
        let Some(next) = answer["next_page"].as_str() else {
            break;
        };
        page = format!("&page={next}");
    }
    assert_eq!(seen, made);
    let third = s.get(&format!("/v1/agents/{}", made[2])).await.ok();
    let at = third["created_at"].as_str().unwrap();
    let since = s
        .get(&format!("/v1/agents?created_at[gte]={at}"))
        .await
        .ok();
    assert_eq!(ids(&since), made[..3]);
    let until = s
        .get(&format!("/v1/agents?created_at%5Blte%5D={at}"))
        .await
        .ok();
    assert_eq!(ids(&until), made[2..]);
}

#[tokio::test]
async fn rosters_name_agents_that_exist() {
    let s = Server::start().await;
    let member = s.agent().await;
    let roster = |entry: Value| {
        json!({"name": "lead", "model": "rehearsal",
            "multiagent": {"type": "coordinator", "agents": [entry]}})
    };
    let lead = s.post("/v1/agents", roster(json!(member))).await.ok();
    let pinned = json!({"type": "agent", "id": member, "version": 1});
    assert_eq!(lead["multiagent"]["agents"][0], pinned);
    let unknown = s.post("/v1/agents", roster(json!("agent_none"))).await;
    assert!(
        unknown.status == 400 || unknown.status == 404,
        "{}",
        unknown.body
    );
    let (_, other) = s.other_workspace().await;
    let body = roster(json!(member));
    let foreign = s
        .request_as(&other, reqwest::Method::POST, "/v1/agents")
        .json(&body);
    let foreign = crate::harness::read(foreign).await;
    assert!(
        foreign.status == 400 || foreign.status == 404,
        "{}",
        foreign.body
    );
    // A feature of a later version is stored, and refused where it would have to run.
    let environment = s.environment("cloud").await;
    let body = json!({"agent": id(&lead), "environment_id": environment});
    let refused = s.post("/v1/sessions", body).await;
    refused.invalid();
    assert_eq!(refused.code(), "not_supported_yet");
}
