//! Vaults (contract 64 §1), and sessions that use them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Server, id, ids, read, types};

async fn vault(s: &Server, name: &str) -> String {
    id(&s
        .post("/v1/vaults", json!({"display_name": name}))
        .await
        .ok())
}

async fn variable(s: &Server, vault: &str, name: &str, value: &str, hosts: Value) -> String {
    let networking = match hosts {
        Value::Null => json!({"type": "unrestricted"}),
        hosts => json!({"type": "limited", "allowed_hosts": hosts}),
    };
    let body = json!({"auth": {"type": "environment_variable", "secret_name": name,
        "secret_value": value, "networking": networking}});
    let path = format!("/v1/vaults/{vault}/credentials");
    id(&s.post(&path, body).await.ok())
}

#[tokio::test]
async fn a_vault_is_made_changed_archived_and_deleted() {
    let s = Server::start().await;
    let body = json!({"display_name": "Dana", "metadata": {"uid": "77"}});
    let made = s.post("/v1/vaults", body).await.ok();
    let path = format!("/v1/vaults/{}", id(&made));
    assert!(id(&made).starts_with("vlt_"));
    let mut keys: Vec<_> = made.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "archived_at",
            "created_at",
            "display_name",
            "id",
            "metadata",
            "type",
            "updated_at"
        ]
    );
    assert_eq!(made["type"], "vault");
    assert_eq!(s.get(&path).await.ok(), made);
    let change = json!({"display_name": null, "metadata": {"uid": null, "a": "b"}});
    let changed = s.post(&path, change.clone()).await.ok();
    assert_eq!(changed["display_name"], "Dana");
    assert_eq!(changed["metadata"], json!({"a": "b"}));
    assert_eq!(s.post(&path, change).await.ok(), changed, "nothing changes");
    let archive = format!("{path}/archive");
    let archived = s.post(&archive, json!({})).await.ok();
    assert!(archived["archived_at"].is_string());
    assert_eq!(s.post(&archive, json!({})).await.ok(), archived);
    let refused = s.post(&path, json!({"display_name": "x"})).await;
    refused.invalid();
    assert_eq!(refused.code(), "vault_archived");
    let gone = s.delete(&path).await.ok();
    assert_eq!(gone, json!({"id": id(&made), "type": "vault_deleted"}));
    s.get(&path).await.error(404, "not_found_error");
    s.delete(&path).await.error(404, "not_found_error");
    s.post(&archive, json!({}))
        .await
        .error(404, "not_found_error");
    s.post("/v1/vaults", json!({})).await.invalid();
}

#[tokio::test]
async fn vaults_are_listed_newest_first_and_by_page() {
    let s = Server::start().await;
    let (a, b, c) = (
        vault(&s, "a").await,
        vault(&s, "b").await,
        vault(&s, "c").await,
    );
    s.post(&format!("/v1/vaults/{b}/archive"), json!({}))
        .await
        .ok();
    let open = s.get("/v1/vaults").await.ok();
    assert_eq!(ids(&open), [c.as_str(), &a]);
    assert_eq!(open["next_page"], Value::Null);
    let first = s.get("/v1/vaults?include_archived=true&limit=2").await.ok();
    assert_eq!(ids(&first), [c.as_str(), &b]);
    let next = first["next_page"].as_str().unwrap();
    let path = format!("/v1/vaults?include_archived=true&page={next}");
    assert_eq!(ids(&s.get(&path).await.ok()), [a]);
    s.get("/v1/vaults?limit=101").await.invalid();
}

#[tokio::test]
async fn another_workspace_sees_no_vault() {
    let s = Server::start().await;
    let v = vault(&s, "a").await;
    let c = variable(&s, &v, "A", "x", Value::Null).await;
    let (_, key) = s.other_workspace().await;
    for (method, path) in [
        (Method::GET, format!("/v1/vaults/{v}")),
        (Method::POST, format!("/v1/vaults/{v}/archive")),
        (Method::DELETE, format!("/v1/vaults/{v}")),
        (Method::GET, format!("/v1/vaults/{v}/credentials")),
        (Method::GET, format!("/v1/vaults/{v}/credentials/{c}")),
        (
            Method::POST,
            format!("/v1/vaults/{v}/credentials/{c}/archive"),
        ),
        (Method::DELETE, format!("/v1/vaults/{v}/credentials/{c}")),
    ] {
        let answer = read(s.request_as(&key, method, &path)).await;
        answer.error(404, "not_found_error");
    }
    let mine = read(s.request_as(&key, Method::GET, "/v1/vaults")).await;
    assert_eq!(ids(&mine.ok()), [""; 0]);
    s.get(&format!("/v1/vaults/{v}/credentials/{c}")).await.ok();
}

#[tokio::test]
async fn a_session_needs_vaults_that_are_there() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let (a, b, old) = (
        vault(&s, "a").await,
        vault(&s, "b").await,
        vault(&s, "old").await,
    );
    s.post(&format!("/v1/vaults/{old}/archive"), json!({}))
        .await
        .ok();
    let create = async |vaults: Value| {
        let body = json!({"agent": agent, "environment_id": environment, "vault_ids": vaults});
        s.post("/v1/sessions", body).await
    };
    let made = create(json!([a, b])).await.ok();
    assert_eq!(made["vault_ids"], json!([a, b]));
    let path = format!("/v1/sessions/{}", id(&made));
    create(json!([a, "vlt_unknown"]))
        .await
        .error(404, "not_found_error");
    let refused = create(json!([old])).await;
    refused.invalid();
    assert_eq!(refused.code(), "vault_archived");
    create(json!(["env_1"])).await.invalid();
    create(json!(vec![&a; 51])).await.invalid();

    let changed = s.post(&path, json!({"vault_ids": [b]})).await.ok();
    assert_eq!(changed["vault_ids"], json!([b]));
    let event = json!({"vault_ids": [b], "title": "t"});
    s.post(&path, event).await.ok();
    s.post(&path, json!({"vault_ids": [old]})).await.invalid();
    s.post(&path, json!({"vault_ids": ["vlt_unknown"]}))
        .await
        .error(404, "not_found_error");
    assert_eq!(s.get(&path).await.ok()["vault_ids"], json!([b]));
    assert_eq!(
        types(&s.history(&id(&made)).await),
        ["session.updated", "session.updated"]
    );
    // The session keeps what it was made with, whatever becomes of the vault.
    s.delete(&format!("/v1/vaults/{b}")).await.ok();
    assert_eq!(s.get(&path).await.ok()["vault_ids"], json!([b]));
}

#[tokio::test]
async fn vaults_of_a_running_session_stay() {
    let s = Server::start().await;
    let v = vault(&s, "a").await;
    let session = s.session().await;
    s.executor
        .hang
        .store(true, std::sync::atomic::Ordering::SeqCst);
    s.say(&session, "bash: sleep").await;
    // An interrupt goes ahead of a message that nobody has looked at yet.
    s.reached(&session, "agent.tool_use").await;
    let path = format!("/v1/sessions/{session}");
    let refused = s.post(&path, json!({"vault_ids": [v]})).await.invalid();
    assert!(
        refused.starts_with("vault_ids: can be changed only while"),
        "{refused}"
    );
    s.send(&session, json!([{"type": "user.interrupt"}]))
        .await
        .ok();
    s.settled(&session).await;
    s.post(&path, json!({"vault_ids": [v]})).await.ok();
}

/// What the tools of the last call saw: names, values and whether headers and bodies are on.
fn seen(s: &Server) -> Vec<(String, String)> {
    let seen = s.executor.credentials.lock().unwrap();
    let each = seen.iter();
    each.map(|c| (c.name.clone(), c.value.expose().clone()))
        .collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn every_round_of_tools_sees_the_credentials_of_the_moment() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let (a, b) = (vault(&s, "a").await, vault(&s, "b").await);
    let x = variable(&s, &a, "X", "one", Value::Null).await;
    variable(&s, &b, "X", "two", Value::Null).await;
    variable(&s, &b, "PEM", "line\nline", Value::Null).await;
    let body = json!({"agent": agent, "environment_id": environment, "vault_ids": [a, b]});
    let session = id(&s.post("/v1/sessions", body).await.ok());
    let turn = async || {
        s.say(&session, "bash: env").await;
        s.settled(&session).await
    };
    turn().await;
    assert_eq!(seen(&s), [pair("X", "one"), pair("PEM", "line\nline")]);
    let placeholder = {
        let seen = s.executor.credentials.lock().unwrap();
        assert!(seen[0].header && seen[0].body);
        assert!(!seen[1].header && seen[1].body, "it would break a header");
        assert_ne!(seen[0].placeholder, seen[1].placeholder);
        seen[0].placeholder.clone()
    };
    let path = format!("/v1/vaults/{a}/credentials/{x}");
    let rotated = json!({"auth": {"type": "environment_variable", "secret_value": "three",
        "injection_location": {"body": false}}});
    s.post(&path, rotated).await.ok();
    turn().await;
    assert_eq!(seen(&s)[0], pair("X", "three"));
    {
        let seen = s.executor.credentials.lock().unwrap();
        assert!(seen[0].header && !seen[0].body);
        assert_eq!(seen[0].placeholder, placeholder);
    }
    s.post(&format!("{path}/archive"), json!({})).await.ok();
    turn().await;
    assert_eq!(seen(&s)[0], pair("X", "two"));
    // A running shell holds the old placeholder, and it still works.
    let same = s.executor.credentials.lock().unwrap()[0]
        .placeholder
        .clone();
    assert_eq!(same, placeholder);
    s.delete(&format!("/v1/vaults/{b}")).await.ok();
    let history = turn().await;
    assert_eq!(seen(&s), []);
    let text = serde_json::to_string(&history).unwrap();
    for secret in ["one", "two", "three"] {
        assert!(!text.contains(secret), "{secret} is in the history");
    }
}

#[tokio::test]
async fn a_host_out_of_reach_is_reported_once() {
    let s = Server::start().await;
    let agent = s.agent().await;
    let config = json!({"type": "cloud", "networking": {"type": "limited",
        "allowed_hosts": ["api.acme.test"]}});
    let environment = json!({"name": "limited", "config": config});
    let environment = id(&s.post("/v1/environments", environment).await.ok());
    let v = vault(&s, "a").await;
    variable(&s, &v, "FINE", "x", json!(["api.acme.test"])).await;
    variable(&s, &v, "ANY", "x", Value::Null).await;
    let hosts = json!(["api.acme.test", "other.test"]);
    let bad = variable(&s, &v, "FAR", "x", hosts).await;
    let body = json!({"agent": agent, "environment_id": environment, "vault_ids": [v]});
    let session = id(&s.post("/v1/sessions", body).await.ok());
    for _ in 0..2 {
        s.say(&session, "bash: one\nbash: two").await;
        s.settled(&session).await;
    }
    let history = s.history(&session).await;
    let errors: Vec<_> = history
        .iter()
        .filter(|e| e["type"] == "session.error")
        .collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    let error = &errors[0]["error"];
    assert_eq!(error["type"], "credential_host_unreachable_error");
    assert_eq!(
        (&error["credential_id"], &error["vault_id"]),
        (&json!(bad), &json!(v))
    );
    assert_eq!(error["retry_status"], json!({"type": "retrying"}));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("other.test"), "{message}");
    // The session went on, and the tools ran.
    assert_eq!(types(&history).last(), Some(&"session.status_idle"));
    assert_eq!(seen(&s).len(), 3);
}
