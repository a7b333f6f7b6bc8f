//! Environments (contract 20).

use serde_json::{Value, json};

use crate::harness::{Server, id, ids};

#[tokio::test]
async fn an_environment_is_shown_resolved() {
    let s = Server::start().await;
    let body = json!({"name": "py", "metadata": {"a": "b"}});
    let environment = s.post("/v1/environments", body).await.ok();
    assert_eq!(environment["type"], "environment");
    assert_eq!(environment["config"]["type"], "cloud");
    assert_eq!(
        environment["config"]["networking"],
        json!({"type": "unrestricted"})
    );
    assert_eq!(environment["config"]["packages"]["pip"], json!([]));
    assert_eq!(
        (&environment["description"], &environment["archived_at"]),
        (&Value::Null, &Value::Null)
    );
    let path = format!("/v1/environments/{}", id(&environment));
    assert_eq!(s.get(&path).await.ok(), environment);
}

#[tokio::test]
async fn names_are_unique_among_the_living() {
    let s = Server::start().await;
    let body = json!({"name": "py"});
    let first = id(&s.post("/v1/environments", body.clone()).await.ok());
    let twice = s.post("/v1/environments", body.clone()).await;
    twice.error(409, "conflict_error");
    assert_eq!(twice.header("x-should-retry"), "false");
    s.post(&format!("/v1/environments/{first}/archive"), json!({}))
        .await
        .ok();
    let second = id(&s.post("/v1/environments", body).await.ok());
    assert_eq!(
        ids(&s.get("/v1/environments").await.ok()),
        [second.as_str()]
    );
    let all = s
        .get("/v1/environments?include_archived=true&limit=1")
        .await
        .ok();
    assert_eq!(ids(&all), [second.as_str()]);
    let next = all["next_page"].as_str().unwrap();
    let path = format!("/v1/environments?include_archived=true&page={next}");
    assert_eq!(ids(&s.get(&path).await.ok()), [first]);
}

#[tokio::test]
async fn updates_merge_and_keep_the_type() {
    let s = Server::start().await;
    let limited = json!({"type": "limited", "allowed_hosts": ["api.example.com"]});
    let body = json!({"name": "py", "description": "d",
        "config": {"type": "cloud", "networking": limited}, "metadata": {"a": "b", "c": "d"}});
    let environment = s.post("/v1/environments", body).await.ok();
    let path = format!("/v1/environments/{}", id(&environment));
    let change = json!({"metadata": {"a": "", "e": "f"}, "description": null,
        "config": {"type": "cloud", "networking": {"type": "limited", "allow_mcp_servers": true}}});
    let changed = s.post(&path, change).await.ok();
    assert_eq!(changed["metadata"], json!({"c": "d", "e": "f"}));
    assert_eq!(changed["description"], Value::Null);
    let networking = &changed["config"]["networking"];
    assert_eq!(networking["allowed_hosts"], json!(["api.example.com"]));
    assert_eq!(networking["allow_mcp_servers"], true);
    let other = s
        .post(&path, json!({"config": {"type": "self_hosted"}}))
        .await;
    other.invalid();
    assert_eq!(other.code(), "invalid_config_type_change");
    let bag = json!({"metadata": {"k": "v".repeat(513)}});
    let bad = s.post(&path, bag).await;
    bad.invalid();
    assert_eq!(bad.code(), "invalid_metadata");
    assert_eq!(s.get(&path).await.ok(), changed);
}

#[tokio::test]
async fn an_archived_environment_is_read_only_and_starts_nothing() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let path = format!("/v1/environments/{environment}");
    let archived = s.post(&format!("{path}/archive"), json!({})).await.ok();
    let again = s.post(&format!("{path}/archive"), json!({})).await.ok();
    assert_eq!(archived, again);
    let update = s.post(&path, json!({"description": "x"})).await;
    update.invalid();
    assert_eq!(update.code(), "environment_archived");
    let body = json!({"agent": agent, "environment_id": environment});
    let refused = s.post("/v1/sessions", body).await.invalid();
    assert!(refused.contains("archived"), "{refused}");
    let gone = s.delete(&path).await.ok();
    assert_eq!(
        gone,
        json!({"id": environment, "type": "environment_deleted"})
    );
    s.get(&path).await.error(404, "not_found_error");
    s.delete(&path).await.error(404, "not_found_error");
}

#[tokio::test]
async fn an_environment_in_use_is_not_deleted() {
    let s = Server::start().await;
    let session = s.session().await;
    let row = s.get(&format!("/v1/sessions/{session}")).await.ok();
    let path = format!(
        "/v1/environments/{}",
        row["environment_id"].as_str().unwrap()
    );
    let refused = s.delete(&path).await;
    assert!(
        refused.status == 400 || refused.status == 409,
        "{}",
        refused.body
    );
    s.delete(&format!("/v1/sessions/{session}")).await.ok();
    s.delete(&path).await.ok();
}
