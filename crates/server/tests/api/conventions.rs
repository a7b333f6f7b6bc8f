//! Contract 00.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{ADMIN_KEY, Server, id, read};

#[tokio::test]
async fn both_key_headers_and_every_known_version_work() {
    let s = Server::start().await;
    let get = || s.bare(Method::GET, "/v1/agents");
    for version in ["2023-01-01", "2023-06-01", "2026-10-21"] {
        let by_key = get()
            .header("x-api-key", ADMIN_KEY)
            .header("anthropic-version", version);
        read(by_key).await.ok();
        let by_bearer = get()
            .bearer_auth(ADMIN_KEY)
            .header("anthropic-version", version);
        read(by_bearer).await.ok();
    }
    let both = get().bearer_auth(ADMIN_KEY).header("x-api-key", ADMIN_KEY);
    read(both.header("anthropic-version", "2023-06-01"))
        .await
        .ok();
}

#[tokio::test]
async fn bad_credentials_are_401_without_a_workspace() {
    let s = Server::start().await;
    let get = || {
        s.bare(Method::GET, "/v1/agents")
            .header("anthropic-version", "2023-06-01")
    };
    for request in [
        get(),
        get().header("x-api-key", "wrong"),
        get().header("x-api-key", ""),
        get().bearer_auth("sk-fh-0000"),
        get().header("authorization", "Basic YTpi"),
        get().bearer_auth(ADMIN_KEY).header("x-api-key", "another"),
        get().header("x-api-key", "x".repeat(10_000)),
    ] {
        let answer = read(request).await;
        answer.error(401, "authentication_error");
        assert_eq!(answer.header("anthropic-workspace-id"), "");
        assert_eq!(answer.header("anthropic-organization-id"), "org_test");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("sk-fh"));
    }
}

#[tokio::test]
async fn the_version_header_is_required_and_must_be_known() {
    let s = Server::start().await;
    let get = || s.bare(Method::GET, "/v1/agents").bearer_auth(ADMIN_KEY);
    let missing = read(get()).await.invalid();
    assert!(missing.contains("anthropic-version"), "{missing}");
    let unknown = read(get().header("anthropic-version", "1999-01-01"))
        .await
        .invalid();
    assert!(unknown.contains("anthropic-version"), "{unknown}");
}

#[tokio::test]
async fn betas_the_beta_query_and_telemetry_are_tolerated() {
    let s = Server::start().await;
    let request = s
        .request(Method::GET, "/v1/agents?beta=true")
        .header(
            "anthropic-beta",
            "no-such-beta-2031-01-01, managed-agents-2026-04-01",
        )
        .header("x-stainless-timeout", "NOT_GIVEN")
        .header("accept", "text/html");
    read(request).await.ok();
}

#[tokio::test]
async fn every_response_names_request_organization_and_workspace() {
    let s = Server::start().await;
    let good = s.get("/v1/agents").await;
    let bad = s.get("/v1/agents/agent_none").await;
    for answer in [&good, &bad] {
        assert!(answer.header("request-id").starts_with("req_"));
        assert_eq!(answer.header("anthropic-organization-id"), "org_test");
        assert!(
            answer
                .header("anthropic-workspace-id")
                .starts_with("wrkspc_")
        );
    }
    assert_ne!(good.header("request-id"), bad.header("request-id"));
}

#[tokio::test]
async fn a_workspace_header_must_match_the_key() {
    let s = Server::start().await;
    let own = s
        .get("/v1/agents")
        .await
        .header("anthropic-workspace-id")
        .to_owned();
    let get = |w: &str| {
        s.request(Method::GET, "/v1/agents")
            .header("anthropic-workspace-id", w)
    };
    read(get(&own)).await.ok();
    read(get("wrkspc_other"))
        .await
        .error(403, "permission_error");
}

#[tokio::test]
async fn unknown_routes_and_methods_have_envelopes() {
    let s = Server::start().await;
    for path in [
        "/",
        "/v1",
        "/v1/nothing",
        "/v1/agents/a/b/c/d",
        "/v2/agents",
        "/v1/agents/",
    ] {
        s.get(path).await.error(404, "not_found_error");
    }
    let answer = read(s.request(Method::PUT, "/v1/agents")).await;
    answer.error(405, "invalid_request_error");
    assert!(
        answer.header("allow").contains("POST"),
        "{:?}",
        answer.headers
    );
    read(s.request(Method::DELETE, "/v1/agents/agent_1"))
        .await
        .error(405, "invalid_request_error");
}

#[tokio::test]
async fn health_needs_no_key() {
    let s = Server::start().await;
    read(s.bare(Method::GET, "/healthz")).await.ok();
    read(s.bare(Method::GET, "/readyz")).await.ok();
}

#[tokio::test]
async fn malformed_bodies_are_400_and_change_nothing() {
    let s = Server::start().await;
    let bodies: [&[u8]; 12] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"\"x\"",
        b"{\"name\": }",
        b"{\"name\":\"a\"} trailing",
        b"{\"name\":\"\xff\xfe\",\"model\":\"rehearsal\"}",
        b"{\"name\":\"a\",\"model\":\"rehearsal\",\"surprise\":1}",
        b"{\"name\":7,\"model\":\"rehearsal\"}",
        b"{\"name\":\"a\",\"name\":\"b\",\"model\":\"rehearsal\"}",
    ];
    for body in bodies {
        s.post_raw("/v1/agents", body.to_vec()).await.invalid();
        s.post_raw("/v1/environments", body.to_vec())
            .await
            .invalid();
        s.post_raw("/v1/sessions", body.to_vec()).await.invalid();
        s.post_raw("/v1/messages", body.to_vec()).await.invalid();
        s.post_raw("/v1/messages/count_tokens", body.to_vec())
            .await
            .invalid();
        s.post_raw("/v1/freehold/keys", body.to_vec())
            .await
            .invalid();
    }
    let deep = "[".repeat(200_000);
    s.post_raw("/v1/agents", deep).await.invalid();
    for path in ["/v1/agents", "/v1/environments", "/v1/sessions"] {
        assert_eq!(s.get(path).await.ok()["data"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn the_message_names_the_place() {
    let s = Server::start().await;
    let body = json!({"name": "a", "model": "rehearsal", "tools": [{"type": "custom", "name": 1}]});
    let message = s.post("/v1/agents", body).await.invalid();
    assert!(message.contains("tools.0"), "{message}");
}

#[tokio::test]
async fn bodies_above_32_mb_are_413_declared_or_not() {
    let s = Server::start().await;
    let big = vec![b' '; 32 * 1024 * 1024 + 1];
    s.post_raw("/v1/agents", big.clone())
        .await
        .error(413, "request_too_large");
    let chunks = big
        .chunks(1024 * 1024)
        .map(|c| Ok::<_, std::io::Error>(c.to_vec()));
    let streamed =
        reqwest::Body::wrap_stream(futures_util::stream::iter(chunks.collect::<Vec<_>>()));
    s.post_raw("/v1/agents", streamed)
        .await
        .error(413, "request_too_large");
}

#[tokio::test]
async fn charsets_and_encodings_have_their_codes() {
    let s = Server::start().await;
    let post = |kind: &str| {
        let body = json!({"name": "caf\u{e9}", "model": "rehearsal"}).to_string();
        s.request(Method::POST, "/v1/agents")
            .header("content-type", kind)
            .body(body)
    };
    let answer = read(post("application/json; charset=utf-16")).await;
    answer.invalid();
    assert_eq!(answer.code(), "unsupported_charset");
    let answer = read(post("application/json").header("content-encoding", "br")).await;
    answer.invalid();
    assert_eq!(answer.code(), "request_body_encoding_unsupported");
    read(post("text/plain")).await.ok();
    let latin = b"{\"name\":\"caf\xe9\",\"model\":\"rehearsal\"}".to_vec();
    let request = s.request(Method::POST, "/v1/agents").body(latin);
    let made = read(request.header("content-type", "application/json; charset=ISO-8859-1")).await;
    assert_eq!(made.ok()["name"], "caf\u{e9}");
}

#[tokio::test]
async fn bodiless_posts_take_any_content_type() {
    let s = Server::start().await;
    let archive = |agent: &str| s.request(Method::POST, &format!("/v1/agents/{agent}/archive"));
    let with_type = archive(&s.agent().await).header("content-type", "application/json");
    let archived = read(with_type.header("content-length", "0")).await.ok();
    assert_ne!(archived["archived_at"], Value::Null);
    read(archive(&s.agent().await)).await.ok();
    read(archive(&s.agent().await).body("{}")).await.ok();
}

#[tokio::test]
async fn odd_ids_in_paths_are_404() {
    let s = Server::start().await;
    for id in [
        "agent_",
        "agent_none",
        "sesn_1",
        "..",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%00",
        "%ff%fe",
        "agent_%F0%9F%92%A9",
        &"a".repeat(5_000),
        "agent_1%27%20OR%20%271%27%3D%271",
    ] {
        for path in ["agents", "environments", "sessions", "files"] {
            let answer = s.get(&format!("/v1/{path}/{id}")).await;
            let client_error = answer.status == 404 || answer.status == 400;
            assert!(
                client_error,
                "{path}/{id}: {} {}",
                answer.status, answer.body
            );
            assert_eq!(answer.body["type"], "error");
            assert!(answer.bytes.len() < 1_000);
        }
    }
}

#[tokio::test]
async fn bad_queries_are_400_naming_the_parameter() {
    let s = Server::start().await;
    let session = s.session().await;
    let events = format!("/v1/sessions/{session}/events");
    for (path, query, named) in [
        ("/v1/agents", "limit=0", "limit"),
        ("/v1/agents", "limit=101", "limit"),
        ("/v1/agents", "limit=x", "limit"),
        ("/v1/agents", "limit=-1", "limit"),
        ("/v1/agents", "page=nonsense", "page"),
        ("/v1/agents", "page=page_!!!", "page"),
        ("/v1/agents", "include_archived=maybe", "include_archived"),
        ("/v1/agents", "created_at[gte]=yesterday", "created_at"),
        ("/v1/environments", "page=page_AAAA", "page"),
        ("/v1/sessions", "order=sideways", "order"),
        ("/v1/sessions", "statuses[]=asleep", "statuses"),
        ("/v1/files", "limit=1001", "limit"),
        (&events, "types[]=user.massage", "types"),
        (&events, "order=up", "order"),
        (&events, "limit=1001", "limit"),
    ] {
        let message = s.get(&format!("{path}?{query}")).await.invalid();
        assert!(message.contains(named), "{path}?{query}: {message}");
    }
}

#[tokio::test]
async fn other_workspaces_resources_do_not_exist() {
    let s = Server::start().await;
    let (_, other) = s.other_workspace().await;
    let agent = s.agent().await;
    let session = s.session().await;
    let form = reqwest::multipart::Form::new().part(
        "file",
        reqwest::multipart::Part::bytes(b"x".to_vec()).file_name("x.txt"),
    );
    let file = id(&read(s.request(Method::POST, "/v1/files").multipart(form))
        .await
        .ok());
    let environment = id(&s.get("/v1/environments").await.ok()["data"][0]);
    let paths = [
        (Method::GET, format!("/v1/agents/{agent}")),
        (Method::GET, format!("/v1/agents/{agent}/versions")),
        (Method::POST, format!("/v1/agents/{agent}/archive")),
        (Method::GET, format!("/v1/environments/{environment}")),
        (Method::DELETE, format!("/v1/environments/{environment}")),
        (
            Method::POST,
            format!("/v1/environments/{environment}/archive"),
        ),
        (Method::GET, format!("/v1/sessions/{session}")),
        (Method::DELETE, format!("/v1/sessions/{session}")),
        (Method::POST, format!("/v1/sessions/{session}/archive")),
        (Method::GET, format!("/v1/sessions/{session}/events")),
        (Method::GET, format!("/v1/sessions/{session}/events/stream")),
        (Method::GET, format!("/v1/sessions/{session}/threads")),
        (Method::GET, format!("/v1/sessions/{session}/resources")),
        (Method::GET, format!("/v1/files/{file}")),
        (Method::GET, format!("/v1/files/{file}/content")),
        (Method::DELETE, format!("/v1/files/{file}")),
    ];
    for (method, path) in paths {
        let foreign = read(s.request_as(&other, method.clone(), &path)).await;
        foreign.error(404, "not_found_error");
    }
    let body = json!({"events": [crate::harness::message("say: hi")]});
    let path = format!("/v1/sessions/{session}/events");
    let foreign = read(s.request_as(&other, Method::POST, &path).json(&body)).await;
    foreign.error(404, "not_found_error");
    let body = json!({"agent": agent, "environment_id": environment});
    let foreign = read(
        s.request_as(&other, Method::POST, "/v1/sessions")
            .json(&body),
    )
    .await;
    assert!(
        foreign.status == 404 || foreign.status == 400,
        "{}",
        foreign.body
    );
    for path in [
        "/v1/agents",
        "/v1/environments",
        "/v1/sessions",
        "/v1/files",
    ] {
        let listed = read(s.request_as(&other, Method::GET, path)).await.ok();
        assert_eq!(listed["data"], json!([]), "{path}");
    }
    s.get(&format!("/v1/agents/{agent}")).await.ok();
}

#[tokio::test]
async fn a_stopping_server_finishes_and_closes_idle_connections() {
    let s = Server::start().await;
    s.get("/v1/agents").await.ok();
    s.stop().await;
}
