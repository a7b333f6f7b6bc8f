//! Credentials of vaults (contract 64 §2, §3 and §5).

use serde_json::{Value, json};

use crate::harness::{Answer, Server, id, ids};

const SECRETS: [&str; 6] = [
    "secret-access",
    "secret-refresh",
    "secret-client",
    "secret-token",
    "secret-value",
    "secret-rotated",
];

async fn vault(s: &Server) -> String {
    let made = s.post("/v1/vaults", json!({"display_name": "v"})).await;
    format!("/v1/vaults/{}/credentials", id(&made.ok()))
}

fn oauth() -> Value {
    json!({"type": "mcp_oauth", "mcp_server_url": "https://mcp.example.com/mcp",
        "access_token": "secret-access", "expires_at": "2100-01-01T00:00:00Z",
        "refresh": {"token_endpoint": "https://id.example.com/token", "client_id": "abc",
            "refresh_token": "secret-refresh",
            "token_endpoint_auth": {"type": "client_secret_post", "client_secret": "secret-client"}}})
}

fn bearer() -> Value {
    json!({"type": "static_bearer", "mcp_server_url": "https://mcp2.example.com/",
        "token": "secret-token"})
}

fn variable(name: &str) -> Value {
    json!({"type": "environment_variable", "secret_name": name, "secret_value": "secret-value",
        "networking": {"type": "limited", "allowed_hosts": ["api.acme.test"]}})
}

async fn create(s: &Server, path: &str, auth: Value) -> Answer {
    s.post(path, json!({ "auth": auth })).await
}

#[track_caller]
fn tells_nothing(answer: &Answer) {
    let text = answer.body.to_string();
    for secret in SECRETS {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn secrets_go_in_and_never_come_out() {
    let s = Server::start().await;
    let path = vault(&s).await;
    for auth in [oauth(), bearer(), variable("ACME_KEY")] {
        let made = create(&s, &path, auth.clone()).await;
        tells_nothing(&made);
        let made = made.ok();
        assert_eq!(made["type"], "vault_credential");
        assert_eq!(made["auth"]["type"], auth["type"]);
        assert_eq!(made["display_name"], Value::Null);
        assert_eq!(made["metadata"], json!({}));
        let one = format!("{path}/{}", id(&made));
        let shown = s.get(&one).await;
        tells_nothing(&shown);
        assert_eq!(shown.ok(), made);
        let field = match auth["type"].as_str().unwrap() {
            "mcp_oauth" => "access_token",
            "static_bearer" => "token",
            _ => "secret_value",
        };
        let change = json!({"display_name": "n", "metadata": {"a": "b"},
            "auth": {"type": auth["type"], field: "secret-rotated"}});
        let changed = s.post(&one, change).await;
        tells_nothing(&changed);
        let changed = changed.ok();
        assert_eq!(
            (&changed["display_name"], &changed["auth"]),
            (&json!("n"), &made["auth"])
        );
        assert!(
            changed["updated_at"].as_str() > made["updated_at"].as_str(),
            "a rotation is a change"
        );
    }
    let list = s.get(&path).await;
    tells_nothing(&list);
    assert_eq!(ids(&list.ok()).len(), 3);
}

/// Refusals name the place and repeat no secret.
#[tokio::test]
async fn refusals_tell_no_secret() {
    let s = Server::start().await;
    let path = vault(&s).await;
    let mut both = variable("A");
    both["injection_location"] = json!({"header": false, "body": false});
    let mut null = variable("A");
    null["injection_location"] = Value::Null;
    let mut host = variable("A");
    host["networking"]["allowed_hosts"] = json!(["https://secret-value"]);
    let mut past = oauth();
    past["expires_at"] = json!("2020-01-01T00:00:00Z");
    let mut odd = bearer();
    odd["mcp_server_url"] = json!("secret-token");
    let mut name = variable("A");
    name["secret_name"] = json!("secret-value");
    for (auth, place) in [
        (both, "auth.injection_location: "),
        (null, "auth.injection_location: "),
        (host, "auth.networking.allowed_hosts.0: "),
        (past, "auth.expires_at: "),
        (odd, "auth.mcp_server_url: "),
        (name, "auth.secret_name: "),
    ] {
        let refused = create(&s, &path, auth).await;
        tells_nothing(&refused);
        let message = refused.invalid();
        assert!(message.starts_with(place), "{message}");
    }
    let broken = s
        .post_raw(
            &path,
            r#"{"auth": {"type": "static_bearer", "token": "secret-token" "x"}}"#,
        )
        .await;
    tells_nothing(&broken);
    broken.invalid();
    assert_eq!(ids(&s.get(&path).await.ok()), [""; 0]);
}

#[tokio::test]
async fn a_target_is_unique_among_the_active() {
    let s = Server::start().await;
    let (path, other) = (vault(&s).await, vault(&s).await);
    let first = id(&create(&s, &path, variable("A")).await.ok());
    create(&s, &path, oauth()).await.ok();
    let mut same = bearer();
    same["mcp_server_url"] = json!("HTTPS://MCP.example.com:443/mcp/");
    for (auth, place) in [
        (variable("A"), "auth.secret_name: "),
        (same, "auth.mcp_server_url: "),
    ] {
        let twice = create(&s, &path, auth).await;
        let message = twice.error(409, "conflict_error");
        assert!(message.starts_with(place), "{message}");
        assert_eq!(twice.header("x-should-retry"), "false");
    }
    create(&s, &other, variable("A")).await.ok();
    s.post(&format!("{path}/{first}/archive"), json!({}))
        .await
        .ok();
    let second = id(&create(&s, &path, variable("A")).await.ok());
    let all = s
        .get(&format!("{path}?include_archived=true&limit=2"))
        .await
        .ok();
    assert_eq!(ids(&all)[0], second);
    let next = all["next_page"].as_str().unwrap();
    let rest = format!("{path}?include_archived=true&page={next}");
    assert_eq!(ids(&s.get(&rest).await.ok()), [first]);
    // A cursor belongs to its vault.
    let foreign = format!("{other}?include_archived=true&page={next}");
    s.get(&foreign).await.invalid();
}

#[tokio::test]
async fn a_vault_holds_twenty() {
    let s = Server::start().await;
    let path = vault(&s).await;
    for n in 0..20 {
        create(&s, &path, variable(&format!("V{n}"))).await.ok();
    }
    let refused = create(&s, &path, variable("MORE")).await.invalid();
    assert!(refused.contains("20 active credentials"), "{refused}");
    let one = ids(&s.get(&path).await.ok())[0].clone();
    s.delete(&format!("{path}/{one}")).await.ok();
    create(&s, &path, variable("MORE")).await.ok();
}

#[tokio::test]
async fn an_archived_credential_is_listed_and_stays_as_it_is() {
    let s = Server::start().await;
    let path = vault(&s).await;
    let made = create(&s, &path, variable("A")).await.ok();
    let one = format!("{path}/{}", id(&made));
    let archived = s.post(&format!("{one}/archive"), json!({})).await.ok();
    assert!(archived["archived_at"].is_string());
    let again = s.post(&format!("{one}/archive"), json!({})).await.ok();
    assert_eq!(again, archived);
    assert_eq!(s.get(&one).await.ok(), archived);
    assert_eq!(ids(&s.get(&path).await.ok()), [""; 0]);
    let all = s.get(&format!("{path}?include_archived=true")).await.ok();
    assert_eq!(ids(&all), [id(&made)]);
    let refused = s.post(&one, json!({"display_name": "x"})).await;
    refused.invalid();
    assert_eq!(refused.code(), "credential_archived");
    let gone = s.delete(&one).await.ok();
    assert_eq!(
        gone,
        json!({"id": id(&made), "type": "vault_credential_deleted"})
    );
    s.get(&one).await.error(404, "not_found_error");
    s.delete(&one).await.error(404, "not_found_error");
}

#[tokio::test]
async fn a_vault_takes_its_credentials_along() {
    let s = Server::start().await;
    let path = vault(&s).await;
    let made = id(&create(&s, &path, variable("A")).await.ok());
    let vault = path.strip_suffix("/credentials").unwrap().to_owned();
    s.post(&format!("{vault}/archive"), json!({})).await.ok();
    let shown = s.get(&format!("{path}/{made}")).await.ok();
    assert!(shown["archived_at"].is_string());
    let refused = create(&s, &path, variable("B")).await;
    refused.invalid();
    assert_eq!(refused.code(), "vault_archived");
    s.delete(&vault).await.ok();
    s.get(&format!("{path}/{made}"))
        .await
        .error(404, "not_found_error");
    s.get(&path).await.error(404, "not_found_error");
    create(&s, &path, variable("B"))
        .await
        .error(404, "not_found_error");
}

#[tokio::test]
async fn types_and_fixed_fields_stay() {
    let s = Server::start().await;
    let path = vault(&s).await;
    let made = create(&s, &path, variable("A")).await.ok();
    let one = format!("{path}/{}", id(&made));
    for auth in [
        json!({"type": "static_bearer", "token": "secret-token"}),
        json!({"type": "environment_variable", "secret_name": "B"}),
        json!({"type": "environment_variable", "injection_location": {"header": null}}),
        json!({"secret_value": "secret-value"}),
    ] {
        let refused = s.post(&one, json!({ "auth": auth })).await;
        tells_nothing(&refused);
        refused.invalid();
    }
    assert_eq!(s.get(&one).await.ok(), made);
    let elsewhere = format!("{}/{}", vault(&s).await, id(&made));
    s.get(&elsewhere).await.error(404, "not_found_error");
    s.post(&elsewhere, json!({}))
        .await
        .error(404, "not_found_error");
}

#[tokio::test]
async fn only_active_oauth_credentials_are_validated() {
    let s = Server::start().await;
    let path = vault(&s).await;
    let validate = async |id: &str| {
        let path = format!("{path}/{id}/mcp_oauth_validate");
        s.post_raw(&path, "").await
    };
    let variable = id(&create(&s, &path, variable("A")).await.ok());
    let refused = validate(&variable).await.invalid();
    assert!(refused.contains("only mcp_oauth"), "{refused}");
    let oauth = id(&create(&s, &path, oauth()).await.ok());
    s.post(&format!("{path}/{oauth}/archive"), json!({}))
        .await
        .ok();
    let refused = validate(&oauth).await.invalid();
    assert!(refused.contains("archived"), "{refused}");
    validate("vcrd_unknown").await.error(404, "not_found_error");
}
