//! Keys, workspaces and status: our own endpoints, for admin keys.

use reqwest::Method;
use serde_json::{Value, json};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{ADMIN_KEY, PATIENCE, Server, id, read};

#[tokio::test]
async fn a_key_is_shown_once_and_revoked_at_once() {
    let s = Server::start().await;
    let made = s
        .post("/v1/freehold/keys", json!({"name": "ci"}))
        .await
        .ok();
    let key = made["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("sk-fh-"));
    assert_eq!(made["admin"], false);
    let get = || s.request_as(&key, Method::GET, "/v1/agents");
    read(get()).await.ok();
    let listed = s.get("/v1/freehold/keys").await.ok();
    assert!(!listed.to_string().contains(&key));
    assert!(!listed.to_string().contains(ADMIN_KEY));
    assert!(
        listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|k| k.get("hash").is_none())
    );
    let row = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|k| k["id"] == made["id"])
        .unwrap();
    assert_eq!(row["last4"], key[key.len() - 4..]);
    let revoke = format!("/v1/freehold/keys/{}/revoke", id(&made));
    let revoked = s.post_raw(&revoke, "").await.ok();
    assert!(revoked["revoked_at"].is_string());
    read(get()).await.error(401, "authentication_error");
    let again = s.post_raw(&revoke, "").await.ok();
    assert_eq!(again["revoked_at"], revoked["revoked_at"]);
    s.post_raw("/v1/freehold/keys/apikey_none/revoke", "")
        .await
        .error(404, "not_found_error");
}

/// Handlers of clients that went away were dropped between the commit and what follows it: the key
/// was revoked in the store and still let in from memory.
#[tokio::test]
async fn a_key_is_revoked_even_if_nobody_waits_for_the_answer() {
    let s = Server::start().await;
    for _ in 0..10 {
        let made = s.post("/v1/freehold/keys", json!({"name": "k"})).await;
        let made = made.ok();
        let key = made["key"].as_str().unwrap();
        let get = || s.request_as(key, Method::GET, "/v1/agents");
        read(get()).await.ok();
        let path = format!("/v1/freehold/keys/{}/revoke", id(&made));
        let mut client = TcpStream::connect(&s.url["http://".len()..]).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {ADMIN_KEY}\r\ncontent-length: 0\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        drop(client);
        let stopped = async {
            loop {
                let keys = s.get("/v1/freehold/keys").await.ok();
                let keys = keys["data"].as_array().unwrap().clone();
                let row = keys.iter().find(|k| k["id"] == made["id"]).unwrap();
                if row["revoked_at"].is_string() && get().send().await.unwrap().status() == 401 {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, stopped)
            .await
            .expect("a revoked key still works");
    }
}

#[tokio::test]
async fn ordinary_keys_administer_nothing() {
    let s = Server::start().await;
    let made = s
        .post("/v1/freehold/keys", json!({"name": "ci"}))
        .await
        .ok();
    let key = made["key"].as_str().unwrap();
    for (method, path) in [
        (Method::GET, "/v1/freehold/keys".to_owned()),
        (Method::POST, "/v1/freehold/keys".to_owned()),
        (
            Method::POST,
            format!("/v1/freehold/keys/{}/revoke", id(&made)),
        ),
        (Method::GET, "/v1/freehold/workspaces".to_owned()),
        (Method::POST, "/v1/freehold/workspaces".to_owned()),
        (Method::GET, "/v1/freehold/status".to_owned()),
    ] {
        let request = s
            .request_as(key, method, &path)
            .json(&json!({"name": "x", "admin": true}));
        read(request).await.error(403, "permission_error");
    }
}

#[tokio::test]
async fn an_archived_workspace_shuts_its_keys_out() {
    let s = Server::start().await;
    let (workspace, key) = s.other_workspace().await;
    let get = || s.request_as(&key, Method::GET, "/v1/agents");
    assert_eq!(
        read(get()).await.header("anthropic-workspace-id"),
        workspace
    );
    let path = format!("/v1/freehold/workspaces/{workspace}/archive");
    assert!(s.post_raw(&path, "").await.ok()["archived_at"].is_string());
    read(get()).await.error(401, "authentication_error");
    let body = json!({"name": "k", "workspace_id": workspace});
    s.post("/v1/freehold/keys", body).await.invalid();
    let listed = s.get("/v1/freehold/workspaces").await.ok();
    let default = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|w| w["default"] == true)
        .unwrap();
    let path = format!("/v1/freehold/workspaces/{}/archive", id(default));
    s.post_raw(&path, "").await.invalid();
}

#[tokio::test]
async fn bad_admin_requests_are_400() {
    let s = Server::start().await;
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "x".repeat(257)}),
        json!({"name": "x", "admin": "yes"}),
        json!({"name": "x", "surprise": 1}),
        json!({"name": "x", "workspace_id": "nonsense"}),
    ] {
        s.post("/v1/freehold/keys", body).await.invalid();
    }
    let body = json!({"name": "x", "workspace_id": "wrkspc_none"});
    let unknown = s.post("/v1/freehold/keys", body).await;
    assert!(
        unknown.status == 400 || unknown.status == 404,
        "{}",
        unknown.body
    );
    s.post("/v1/freehold/workspaces", json!({"name": ""}))
        .await
        .invalid();
}

#[tokio::test]
async fn status_tells_what_runs_here() {
    let s = Server::start().await;
    s.session().await;
    let status = s.get("/v1/freehold/status").await.ok();
    assert_eq!(status["version"], "test");
    assert_eq!(status["sessions"]["idle"], 1);
    assert_eq!(status["sandbox"]["refusal"], Value::Null);
    assert!(status["tools"]["web_search"]["unavailable"].is_string());
    assert_eq!(status["tools"]["bash"]["unavailable"], Value::Null);
}

#[tokio::test]
async fn our_own_endpoints_need_no_version_header() {
    let s = Server::start().await;
    read(
        s.bare(Method::GET, "/v1/freehold/status")
            .bearer_auth(ADMIN_KEY),
    )
    .await
    .ok();
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_that_tells_nothing() {
    let s = Server::start().await;
    s.executor
        .panics
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let message = s.get("/v1/freehold/status").await.error(500, "api_error");
    assert!(!message.contains("secret"), "{message}");
    s.executor
        .panics
        .store(false, std::sync::atomic::Ordering::SeqCst);
    s.get("/v1/freehold/status").await.ok();
}
