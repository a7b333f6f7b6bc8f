//! Memory stores (contract 74).

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Server, id, ids, message, read};

/// A store of this name.
async fn store(s: &Server, name: &str) -> String {
    let body = json!({"name": name, "description": "what we know"});
    id(&s.post("/v1/memory_stores", body).await.ok())
}

async fn memory(s: &Server, store: &str, path: &str, content: &str) -> Value {
    let body = json!({"path": path, "content": content});
    let at = format!("/v1/memory_stores/{store}/memories");
    s.post(&at, body).await.ok()
}

fn at(store: &str, memory: &Value) -> String {
    format!("/v1/memory_stores/{store}/memories/{}", id(memory))
}

#[tokio::test]
async fn stores_are_made_changed_archived_and_deleted() {
    let s = Server::start().await;
    let made = s
        .post("/v1/memory_stores", json!({"name": "Team Notes"}))
        .await
        .ok();
    assert_eq!(
        (&made["type"], &made["description"]),
        (&json!("memory_store"), &json!(""))
    );
    assert_eq!(
        (&made["metadata"], &made["archived_at"]),
        (&json!({}), &Value::Null)
    );
    let path = format!("/v1/memory_stores/{}", id(&made));
    assert_eq!(s.get(&path).await.ok(), made);
    let change = json!({"name": "Notes", "description": "d", "metadata": {"a": "b"}});
    let changed = s.post(&path, change.clone()).await.ok();
    assert_eq!(
        (&changed["name"], &changed["metadata"]["a"]),
        (&json!("Notes"), &json!("b"))
    );
    assert!(changed["updated_at"].as_str() > made["updated_at"].as_str());
    assert_eq!(s.post(&path, change).await.ok(), changed, "no change");
    memory(&s, &id(&made), "/a", "x").await;
    assert_eq!(s.get(&path).await.ok(), changed, "memories do not count");
    let cleared = s
        .post(&path, json!({"description": "", "metadata": {"a": null}}))
        .await
        .ok();
    assert_eq!(
        (&cleared["description"], &cleared["metadata"]),
        (&json!(""), &json!({}))
    );

    let other = store(&s, "other").await;
    let archived = s.post_raw(&format!("{path}/archive"), "").await.ok();
    assert_eq!(
        s.post_raw(&format!("{path}/archive"), "").await.ok(),
        archived
    );
    s.post(&path, json!({"name": "n"})).await.invalid();
    assert_eq!(
        ids(&s.get("/v1/memory_stores").await.ok()),
        [other.as_str()]
    );
    let all = s
        .get("/v1/memory_stores?include_archived=true&limit=1")
        .await
        .ok();
    assert_eq!(ids(&all), [other]);
    let next = all["next_page"].as_str().unwrap();
    let page = format!("/v1/memory_stores?include_archived=true&page={next}");
    assert_eq!(ids(&s.get(&page).await.ok()), [id(&made)]);
    let late = "/v1/memory_stores?created_at[gte]=2999-01-01T00:00:00Z";
    assert_eq!(ids(&s.get(late).await.ok()), [""; 0]);

    let gone = s.delete(&path).await.ok();
    assert_eq!(
        gone,
        json!({"id": id(&made), "type": "memory_store_deleted"})
    );
    for path in [
        path.clone(),
        format!("{path}/memories"),
        format!("{path}/memory_versions"),
    ] {
        s.get(&path).await.error(404, "not_found_error");
    }
    s.delete(&path).await.error(404, "not_found_error");
    for bad in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "n", "description": "d".repeat(1025)}),
    ] {
        s.post("/v1/memory_stores", bad).await.invalid();
    }
}

#[tokio::test]
async fn memories_show_content_only_where_it_was_asked_for() {
    let s = Server::start().await;
    let store = store(&s, "n").await;
    let list = format!("/v1/memory_stores/{store}/memories");
    let made = memory(&s, &store, "/style.md", "tabs\0\r\n").await;
    assert_eq!(
        (&made["content"], &made["content_size_bytes"]),
        (&Value::Null, &json!(7))
    );
    let sha = made["content_sha256"].as_str().unwrap();
    assert_eq!(sha.len(), 64);
    let at = at(&store, &made);
    let full = s.get(&at).await.ok();
    assert_eq!(full["content"], "tabs\0\r\n", "byte for byte");
    assert_eq!(s.get(&format!("{at}?view=basic")).await.ok(), made);
    let edited = s
        .post(&format!("{at}?view=full"), json!({"content": ""}))
        .await
        .ok();
    assert_eq!(
        (&edited["content"], &edited["content_size_bytes"]),
        (&json!(""), &json!(0))
    );
    assert_eq!(edited["id"], made["id"]);
    assert_ne!(edited["memory_version_id"], made["memory_version_id"]);
    let body = json!({"path": "/empty", "content": null});
    let empty = s.post(&format!("{list}?view=full"), body).await.ok();
    assert_eq!(empty["content"], "");
    let page = s.get(&format!("{list}?view=full")).await.ok();
    assert_eq!(page["data"][0]["content"], "");
    let patched = read(
        s.request(Method::PATCH, &at)
            .json(&json!({"path": "/moved.md"})),
    )
    .await
    .ok();
    assert_eq!(
        (&patched["path"], &patched["id"]),
        (&json!("/moved.md"), &made["id"])
    );
    let gone = s.delete(&at).await.ok();
    assert_eq!(gone, json!({"id": id(&made), "type": "memory_deleted"}));
    s.get(&at).await.error(404, "not_found_error");
    s.delete(&at).await.error(404, "not_found_error");
    for bad in [
        json!({"path": "a", "content": ""}),
        json!({"path": "/a", "content": "x".repeat(102_401)}),
        json!({"path": "/a"}),
    ] {
        s.post(&list, bad).await.invalid();
    }
    s.get(&format!("{list}?view=none")).await.invalid();
}

#[track_caller]
fn taken(answer: &Answer, by: &Value, path: &str) {
    answer.error(409, "memory_path_conflict_error");
    assert_eq!(answer.header("x-should-retry"), "false");
    let error = &answer.body["error"];
    assert_eq!(
        (&error["conflicting_memory_id"], &error["conflicting_path"]),
        (&by["id"], &json!(path))
    );
}

#[tokio::test]
async fn conflicts_say_what_is_in_the_way() {
    let s = Server::start().await;
    let store = store(&s, "n").await;
    let list = format!("/v1/memory_stores/{store}/memories");
    let todo = memory(&s, &store, "/notes/todo.md", "1").await;
    let other = memory(&s, &store, "/other", "1").await;
    for path in ["/notes/todo.md", "/notes", "/notes/todo.md/x"] {
        let made = s.post(&list, json!({"path": path, "content": "1"})).await;
        taken(&made, &todo, "/notes/todo.md");
        let moved = s.post(&at(&store, &other), json!({"path": path})).await;
        taken(&moved, &todo, "/notes/todo.md");
    }
    memory(&s, &store, "/notes-2", "").await;
}

#[tokio::test]
async fn preconditions_are_about_the_content() {
    let s = Server::start().await;
    let store = store(&s, "n").await;
    let first = memory(&s, &store, "/a", "1").await;
    let at = at(&store, &first);
    let when = |sha: &Value, mut body: Value| {
        body["precondition"] = json!({"type": "content_sha256", "content_sha256": sha});
        body
    };
    let old = &first["content_sha256"];
    let second = s.post(&at, when(old, json!({"content": "2"}))).await.ok();
    let again = s.post(&at, when(old, json!({"content": "2"}))).await.ok();
    assert_eq!(again, second, "the state that was asked for");
    for body in [
        json!({"content": "3"}),
        json!({"path": "/b"}),
        json!({"content": "2", "path": "/b"}),
    ] {
        let stale = s.post(&at, when(old, body)).await;
        stale.error(409, "memory_precondition_failed_error");
        assert_eq!(stale.header("x-should-retry"), "false");
    }
    let stale = s
        .delete(&format!(
            "{at}?expected_content_sha256={}",
            old.as_str().unwrap()
        ))
        .await;
    stale.error(409, "memory_precondition_failed_error");
    s.delete(&format!("{at}?expected_content_sha256=ABC"))
        .await
        .invalid();
    let now = second["content_sha256"].as_str().unwrap();
    s.delete(&format!("{at}?expected_content_sha256={now}"))
        .await
        .ok();
}

#[tokio::test]
async fn lists_go_by_path_and_fold() {
    let s = Server::start().await;
    let store = store(&s, "n").await;
    for path in ["/b/2", "/a", "/b/1/x", "/c"] {
        memory(&s, &store, path, "x").await;
    }
    let list = format!("/v1/memory_stores/{store}/memories");
    let paths = async |query: &str| {
        let mut all = Vec::new();
        let mut page = String::new();
        loop {
            let answer = s.get(&format!("{list}?{query}{page}")).await.ok();
            let data = answer["data"].as_array().unwrap().clone();
            all.extend(data.iter().map(|m| m["path"].as_str().unwrap().to_owned()));
            match answer["next_page"].as_str() {
                Some(next) => page = format!("&page={next}"),
                None => return all,
            }
        }
    };
    for limit in [1, 2, 100] {
        assert_eq!(
            paths(&format!("limit={limit}")).await,
            ["/a", "/b/1/x", "/b/2", "/c"]
        );
        assert_eq!(
            paths(&format!("limit={limit}&depth=1")).await,
            ["/a", "/b/", "/c"]
        );
    }
    assert_eq!(paths("path_prefix=/b/&depth=1").await, ["/b/1/", "/b/2"]);
    let folded = s.get(&format!("{list}?depth=1")).await.ok();
    assert_eq!(
        folded["data"][1],
        json!({"type": "memory_prefix", "path": "/b/"})
    );
    for bad in ["depth=2", "path_prefix=/b", "limit=101", "page=page_x"] {
        s.get(&format!("{list}?{bad}")).await.invalid();
    }
    for n in 0..20 {
        memory(&s, &store, &format!("/many/{n}"), "x").await;
    }
    let full = s.get(&format!("{list}?view=full&limit=100")).await.ok();
    assert_eq!(
        full["data"].as_array().unwrap().len(),
        20,
        "whatever the limit"
    );
}

#[tokio::test]
async fn versions_record_and_can_be_redacted() {
    let s = Server::start().await;
    let store = store(&s, "n").await;
    let versions = format!("/v1/memory_stores/{store}/memory_versions");
    let made = memory(&s, &store, "/a", "secret").await;
    s.post(&at(&store, &made), json!({"content": "2"}))
        .await
        .ok();
    s.delete(&at(&store, &made)).await.ok();
    let all = s.get(&versions).await.ok();
    let of = |n: usize| all["data"][n].clone();
    assert_eq!(
        [
            &of(0)["operation"],
            &of(1)["operation"],
            &of(2)["operation"]
        ],
        ["deleted", "modified", "created"]
    );
    assert_eq!(
        (&of(0)["path"], &of(0)["content_sha256"]),
        (&json!("/a"), &Value::Null)
    );
    assert_eq!(of(2)["created_by"]["type"], "api_actor");
    assert!(
        of(2)["created_by"]["api_key_id"]
            .as_str()
            .unwrap()
            .starts_with("apikey_")
    );
    assert_eq!(
        (&of(2)["content"], &of(2)["id"]),
        (&Value::Null, &made["memory_version_id"])
    );
    let first = format!("{versions}/{}", id(&of(2)));
    assert_eq!(s.get(&first).await.ok()["content"], "secret");
    for (query, count) in [
        ("operation=created".to_owned(), 1),
        (format!("memory_id={}", id(&made)), 3),
        (
            format!(
                "api_key_id={}",
                of(2)["created_by"]["api_key_id"].as_str().unwrap()
            ),
            3,
        ),
        ("service_account_id=svac_1".to_owned(), 0),
        ("session_id=sesn_1".to_owned(), 0),
        ("view=full&limit=2".to_owned(), 2),
    ] {
        let found = s.get(&format!("{versions}?{query}")).await.ok();
        assert_eq!(found["data"].as_array().unwrap().len(), count, "{query}");
    }
    let redacted = s.post_raw(&format!("{first}/redact"), "").await.ok();
    for key in ["path", "content", "content_sha256", "content_size_bytes"] {
        assert_eq!(redacted[key], Value::Null, "{key}");
    }
    assert_eq!(redacted["redacted_by"], of(2)["created_by"]);
    assert_eq!(redacted["created_at"], of(2)["created_at"]);
    assert_eq!(s.get(&first).await.ok(), redacted);
    let live = memory(&s, &store, "/b", "x").await;
    let head = format!(
        "{versions}/{}/redact",
        live["memory_version_id"].as_str().unwrap()
    );
    s.post_raw(&head, "").await.invalid();
    s.post_raw(&format!("{versions}/memver_1/redact"), "")
        .await
        .error(404, "not_found_error");
}

#[tokio::test]
async fn an_archived_store_is_for_reading_and_deleting() {
    let s = Server::start().await;
    let store = store(&s, "n").await;
    let made = memory(&s, &store, "/a", "1").await;
    s.post(&at(&store, &made), json!({"content": "2"}))
        .await
        .ok();
    s.post_raw(&format!("/v1/memory_stores/{store}/archive"), "")
        .await
        .ok();
    let list = format!("/v1/memory_stores/{store}/memories");
    s.post(&list, json!({"path": "/b", "content": ""}))
        .await
        .invalid();
    s.post(&at(&store, &made), json!({"content": "3"}))
        .await
        .invalid();
    s.get(&list).await.ok();
    let first = made["memory_version_id"].as_str().unwrap();
    s.post_raw(
        &format!("/v1/memory_stores/{store}/memory_versions/{first}/redact"),
        "",
    )
    .await
    .ok();
    s.delete(&at(&store, &made)).await.ok();
}

#[tokio::test]
async fn the_two_betas_exclude_each_other() {
    let s = Server::start().await;
    let with = async |beta: &[&str]| {
        let mut request = s.request(Method::GET, "/v1/memory_stores");
        for beta in beta {
            request = request.header("anthropic-beta", *beta);
        }
        read(request).await
    };
    for good in [
        &[][..],
        &["agent-memory-2026-07-22"],
        &["managed-agents-2026-04-01"],
        &["x, agent-memory-2026-07-22"],
    ] {
        with(good).await.ok();
    }
    for bad in [
        &["managed-agents-2026-04-01,agent-memory-2026-07-22"][..],
        &["managed-agents-2026-04-01", "agent-memory-2026-07-22"],
    ] {
        with(bad).await.invalid();
    }
}

#[tokio::test]
async fn another_workspace_finds_nothing() {
    let s = Server::start().await;
    let store = store(&s, "n").await;
    let made = memory(&s, &store, "/a", "1").await;
    let (_, key) = s.other_workspace().await;
    let base = format!("/v1/memory_stores/{store}");
    for (method, path) in [
        (Method::GET, base.clone()),
        (Method::DELETE, base.clone()),
        (Method::POST, format!("{base}/archive")),
        (Method::GET, format!("{base}/memories")),
        (Method::GET, at(&store, &made)),
        (Method::DELETE, at(&store, &made)),
        (Method::GET, format!("{base}/memory_versions")),
    ] {
        let answer = read(s.request_as(&key, method, &path)).await;
        answer.error(404, "not_found_error");
    }
    s.get(&at(&store, &made)).await.ok();
}

fn attach(store: &str) -> Value {
    json!({"type": "memory_store", "memory_store_id": store})
}

#[tokio::test]
async fn stores_are_attached_when_a_session_is_made() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let (one, two) = (store(&s, "Team Notes").await, store(&s, "team notes").await);
    let create = async |agent: &str, resources: Value| {
        let body = json!({"agent": agent, "environment_id": environment, "resources": resources});
        s.post("/v1/sessions", body).await
    };
    let mut second = attach(&two);
    second["access"] = json!("read_only");
    second["instructions"] = json!("look here first");
    let made = create(&agent, json!([attach(&one), second])).await.ok();
    assert_eq!(
        made["resources"],
        json!([
            {"type": "memory_store", "memory_store_id": one, "access": "read_write", "instructions": null,
             "name": "Team Notes", "description": "what we know", "mount_path": "/mnt/memory/team-notes"},
            {"type": "memory_store", "memory_store_id": two, "access": "read_only",
             "instructions": "look here first", "name": "team notes", "description": "what we know",
             "mount_path": "/mnt/memory/team-notes-2"},
        ])
    );
    let session = format!("/v1/sessions/{}", id(&made));
    s.post(
        &format!("/v1/memory_stores/{one}"),
        json!({"name": "renamed"}),
    )
    .await
    .ok();
    assert_eq!(
        s.get(&session).await.ok()["resources"],
        made["resources"],
        "as it was then"
    );
    let listed = s.get(&format!("{session}/resources")).await.ok();
    assert_eq!(listed["data"], made["resources"]);
    s.post(&format!("{session}/resources"), attach(&one))
        .await
        .invalid();
    let found = s
        .get(&format!("/v1/sessions?memory_store_id={one}"))
        .await
        .ok();
    assert_eq!(ids(&found), [id(&made)]);

    let archived = store(&s, "old").await;
    s.post_raw(&format!("/v1/memory_stores/{archived}/archive"), "")
        .await
        .ok();
    create(&agent, json!([attach(&archived)])).await.invalid();
    create(&agent, json!([attach("memstore_1")]))
        .await
        .error(404, "not_found_error");
    create(&agent, json!([attach(&one), attach(&one)]))
        .await
        .invalid();
    let mut nine = Vec::new();
    for n in 0..9 {
        nine.push(attach(&store(&s, &n.to_string()).await));
    }
    create(&agent, json!(nine)).await.invalid();
    create(&agent, json!(nine[1..])).await.ok();
    // Without a tool that reaches them they would be of no use.
    let config = json!([{"name": "web_fetch", "enabled": true}]);
    let web = json!([{"type": "agent_toolset_20260401", "default_config": {"enabled": false}, "configs": config}]);
    for tools in [json!([]), web] {
        let agent = s.agent_with(tools).await;
        create(&agent, json!([attach(&one)])).await.invalid();
    }
    // A store that goes takes nothing else with it.
    s.delete(&format!("/v1/memory_stores/{one}")).await.ok();
    assert_eq!(s.get(&session).await.ok()["resources"], made["resources"]);
    s.delete(&session).await.ok();
}

#[tokio::test]
async fn tools_are_told_where_stores_are_and_when_a_round_ends() {
    let s = Server::start().await;
    let (agent, environment) = (s.agent().await, s.environment("cloud").await);
    let store = store(&s, "Team Notes").await;
    let body = json!({"agent": agent, "environment_id": environment, "resources": [attach(&store)],
        "initial_events": [message("bash: true")]});
    let session = id(&s.post("/v1/sessions", body).await.ok());
    s.settled(&session).await;
    let seen = s.executor.memory.lock().unwrap().clone();
    assert_eq!(seen, [format!("{store} /mnt/memory/team-notes")]);
    assert_eq!(
        s.executor.settled.load(std::sync::atomic::Ordering::SeqCst),
        1
    );
}

/// A self-hosted session's work item: its token, and the environment's key.
async fn work(s: &Server, resources: Value) -> (String, String, String) {
    let (agent, environment) = (s.agent().await, s.environment("self_hosted").await);
    let keys = format!("/v1/freehold/environments/{environment}/keys");
    let key = s.post(&keys, json!({"name": "k"})).await.ok();
    let key = key["key"].as_str().unwrap().to_owned();
    let body = json!({"agent": agent, "environment_id": environment, "resources": resources,
        "initial_events": [message("bash: true")]});
    let session = id(&s.post("/v1/sessions", body).await.ok());
    let poll = format!("/v1/environments/{environment}/work/poll?block_ms=999");
    let item = loop {
        let item = read(s.request_as(&key, Method::GET, &poll)).await.ok();
        if !item.is_null() {
            break item;
        }
    };
    let ack = format!("/v1/environments/{environment}/work/{}/ack", id(&item));
    let acked = read(s.request_as(&key, Method::POST, &ack)).await.ok();
    let secret = [&item, &acked]
        .into_iter()
        .find_map(|i| i["secret"].as_str())
        .unwrap();
    let secret = freehold_wire::work::WorkSecret::decode(secret).unwrap();
    (session, secret.sessions_token.expose().clone(), key)
}

#[tokio::test]
async fn a_session_token_opens_the_stores_of_its_session() {
    let s = Server::start().await;
    let (open, shown, other) = (
        store(&s, "open").await,
        store(&s, "shown").await,
        store(&s, "other").await,
    );
    let seen = memory(&s, &shown, "/a", "1").await;
    let mut read_only = attach(&shown);
    read_only["access"] = json!("read_only");
    let (session, token, key) = work(&s, json!([attach(&open), read_only])).await;
    let list = |store: &str| format!("/v1/memory_stores/{store}/memories");
    let body = json!({"path": "/new", "content": "by the agent"});

    let get = async |key: &str, path: &str| read(s.request_as(key, Method::GET, path)).await;
    let write = async |key: &str, path: &str, body: &Value| {
        read(s.request_as(key, Method::POST, path).json(body)).await
    };
    let made = write(&token, &list(&open), &body).await.ok();
    let version = made["memory_version_id"].as_str().unwrap();
    let version = s
        .get(&format!(
            "/v1/memory_stores/{open}/memory_versions/{version}"
        ))
        .await
        .ok();
    assert_eq!(
        version["created_by"],
        json!({"type": "session_actor", "session_id": session})
    );
    let by = format!("/v1/memory_stores/{open}/memory_versions?session_id={session}");
    assert_eq!(s.get(&by).await.ok()["data"].as_array().unwrap().len(), 1);

    get(&token, &list(&shown)).await.ok();
    assert_eq!(get(&token, &at(&shown, &seen)).await.ok()["content"], "1");
    write(&token, &list(&shown), &body)
        .await
        .error(403, "permission_error");
    write(&token, &at(&shown, &seen), &json!({"content": "2"}))
        .await
        .error(403, "permission_error");
    let deleted = read(s.request_as(&token, Method::DELETE, &at(&shown, &seen))).await;
    deleted.error(403, "permission_error");
    get(&token, &list(&other))
        .await
        .error(404, "not_found_error");
    write(&token, &list(&other), &body)
        .await
        .error(404, "not_found_error");
    // Stores as such, and the record of what was written, are not an agent's business.
    for (method, path) in [
        (Method::GET, "/v1/memory_stores".to_owned()),
        (Method::POST, format!("/v1/memory_stores/{open}/archive")),
        (Method::DELETE, format!("/v1/memory_stores/{open}")),
        (
            Method::POST,
            format!("/v1/memory_stores/{open}/memory_versions/memver_1/redact"),
        ),
    ] {
        read(s.request_as(&token, method, &path))
            .await
            .error(403, "permission_error");
    }
    let refused = get(&key, &list(&open)).await.error(403, "permission_error");
    assert!(refused.contains("session token"), "{refused}");
}
