//! Tunnels (contract 60 §1), without gateways: what they do is tested in `crates/tunnel` and with
//! the program.

use std::time::Duration;

use freehold_base::IdSource;
use freehold_tunnel::gateway::setup;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Server, id, ids, read};

/// A certificate authority, PEM.
fn authority(name: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    setup::new_authority(dir.path(), name, IdSource::system().clock().now()).unwrap()
}

async fn tunnel(s: &Server) -> Value {
    s.post("/v1/tunnels", json!({"display_name": "office"}))
        .await
        .ok()
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().unwrap().keys().map(|k| &**k).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn a_tunnel_is_made_listed_and_archived() {
    let s = Server::start().await;
    let made = tunnel(&s).await;
    assert_eq!(
        keys(&made),
        [
            "archived_at",
            "created_at",
            "display_name",
            "domain",
            "id",
            "type"
        ]
    );
    assert!(id(&made).starts_with("tnl_"));
    assert_eq!(
        (&made["type"], &made["display_name"]),
        (&json!("tunnel"), &json!("office"))
    );
    let domain = made["domain"].as_str().unwrap();
    assert!(domain.ends_with(".tunnel.localhost"), "{domain}");
    let path = format!("/v1/tunnels/{}", id(&made));
    assert_eq!(s.get(&path).await.ok(), made);
    let connections = s.get(&format!("{path}/connections")).await.ok();
    assert_eq!(connections, json!({"data": [], "next_page": null}));

    // A name is not needed, nor is a body.
    let second = s.post_raw("/v1/tunnels", "").await.ok();
    assert_eq!(second["display_name"], Value::Null);
    let first_page = s.get("/v1/tunnels?limit=1").await.ok();
    assert_eq!(ids(&first_page), [id(&second)]);
    let next = first_page["next_page"].as_str().unwrap();
    let next = s
        .get(&format!("/v1/tunnels?limit=1&page={next}"))
        .await
        .ok();
    assert_eq!(next, json!({"data": [made], "next_page": null}));

    let archive = format!("{path}/archive");
    let archived = s.post_raw(&archive, "").await.ok();
    assert!(archived["archived_at"].is_string());
    assert_eq!(s.post(&archive, json!({})).await.ok(), archived);
    assert_eq!(ids(&s.get("/v1/tunnels").await.ok()), [id(&second)]);
    let all = s.get("/v1/tunnels?include_archived=true").await.ok();
    assert_eq!(ids(&all), [id(&second), id(&made)]);
    for refused in [
        s.post_raw(&format!("{path}/reveal_token"), "").await,
        s.post_raw(&format!("{path}/rotate_token"), "").await,
        s.post(
            &format!("{path}/certificates"),
            json!({"ca_certificate_pem": authority("a")}),
        )
        .await,
    ] {
        refused.invalid();
        assert_eq!(refused.code(), "tunnel_archived");
    }
}

#[tokio::test]
async fn a_token_is_revealed_and_rotated() {
    let s = Server::start().await;
    let made = tunnel(&s).await;
    let path = format!("/v1/tunnels/{}", id(&made));
    let reveal_path = format!("{path}/reveal_token");
    let reveal = || s.post_raw(&reveal_path, "");
    let token = reveal().await.ok();
    assert_eq!(keys(&token), ["id", "tunnel_token", "type"]);
    assert!(id(&token).starts_with("ttok_"));
    assert_eq!(token["type"], "tunnel_token");
    assert_eq!(reveal().await.ok(), token);
    let rotate = format!("{path}/rotate_token");
    let rotated = s.post(&rotate, json!({"reason": "leaked"})).await.ok();
    assert_ne!(rotated["tunnel_token"], token["tunnel_token"]);
    assert_ne!(rotated["id"], token["id"]);
    assert_eq!(reveal().await.ok(), rotated);
    s.post_raw(&rotate, "").await.ok();
    s.post(&rotate, json!({"reason": null})).await.ok();
    s.post(&rotate, json!({"reason": 1})).await.invalid();
    s.get(&format!("{path}/reveal_token"))
        .await
        .error(405, "invalid_request_error");
    // Nothing but these two answers has the token in it.
    let token = reveal().await.ok()["tunnel_token"].to_string();
    let shown = s.get(&path).await.ok().to_string();
    let listed = s.get("/v1/tunnels").await.ok().to_string();
    let token = token.trim_matches('"');
    assert!(token.starts_with("fht_") && !shown.contains(token) && !listed.contains(token));
}

#[tokio::test]
async fn certificates_are_registered_and_archived() {
    let s = Server::start().await;
    let made = tunnel(&s).await;
    let path = format!("/v1/tunnels/{}/certificates", id(&made));
    let add = |pem: String| s.post(&path, json!({"ca_certificate_pem": pem}));
    let (one, two) = (authority("one"), authority("two"));
    let first = add(one.clone()).await.ok();
    assert_eq!(
        keys(&first),
        [
            "archived_at",
            "created_at",
            "expires_at",
            "fingerprint",
            "id",
            "tunnel_id",
            "type"
        ]
    );
    assert_eq!(first["type"], "tunnel_certificate");
    assert_eq!(first["tunnel_id"], made["id"]);
    let fingerprint = first["fingerprint"].as_str().unwrap();
    assert_eq!(fingerprint.len(), 64);
    let one_path = format!("{path}/{}", id(&first));
    assert_eq!(s.get(&one_path).await.ok(), first);
    assert!(add(one.clone()).await.invalid().contains("already"));
    let second = add(two).await.ok();
    let refused = add(authority("three")).await.invalid();
    assert!(refused.contains("2 active certificates"), "{refused}");
    let page = s.get(&format!("{path}?limit=1")).await.ok();
    assert_eq!(ids(&page), [id(&second)]);
    let next = page["next_page"].as_str().unwrap();
    let page = s.get(&format!("{path}?limit=1&page={next}")).await.ok();
    assert_eq!(page, json!({"data": [first], "next_page": null}));
    let archive = format!("{one_path}/archive");
    let archived = s.post_raw(&archive, "").await.ok();
    assert!(archived["archived_at"].is_string());
    assert_eq!(s.post_raw(&archive, "").await.ok(), archived);
    assert_eq!(ids(&s.get(&path).await.ok()), [id(&second)]);
    add(one).await.ok();
    let all = s.get(&format!("{path}?include_archived=true")).await.ok();
    assert_eq!(all["data"].as_array().unwrap().len(), 3);
    // The last may go, too; and what a tunnel had goes with it.
    let archive = format!("/v1/tunnels/{}/archive", id(&made));
    s.post_raw(&archive, "").await.ok();
    assert_eq!(s.get(&path).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn bad_input_is_refused_with_the_reason() {
    let s = Server::start().await;
    let made = tunnel(&s).await;
    let path = format!("/v1/tunnels/{}", id(&made));
    let certificates = format!("{path}/certificates");
    let dir = tempfile::tempdir().unwrap();
    let now = IdSource::system().clock().now();
    let ca = setup::new_authority(dir.path(), "a", now).unwrap();
    let day = Duration::from_secs(86_400);
    setup::new_certificate(dir.path(), "a.example", now, day).unwrap();
    let file = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    for (pem, part) in [
        (String::new(), "ca_certificate_pem"),
        ("x".to_owned(), "one X.509 certificate"),
        (format!("{ca}{ca}"), "exactly one"),
        (file(setup::CA_KEY), "private key"),
        (format!("{ca}{}", file(setup::CA_KEY)), "private key"),
        (file(setup::CERT), "certificate authority"),
        (format!("{ca}{}", " ".repeat(8192)), "8192"),
    ] {
        let said = s
            .post(&certificates, json!({"ca_certificate_pem": pem}))
            .await
            .invalid();
        assert!(
            said.starts_with("ca_certificate_pem") && said.contains(part),
            "{said}"
        );
    }
    for (path, body) in [
        (&*certificates, json!({})),
        (&certificates, json!({"ca_certificate_pem": null})),
        (&certificates, json!({"ca_certificate_pem": ca, "x": 1})),
        ("/v1/tunnels", json!({"display_name": ""})),
        ("/v1/tunnels", json!({"display_name": "x".repeat(256)})),
        ("/v1/tunnels", json!({"domain": "mine.example"})),
        ("/v1/tunnels", json!([])),
    ] {
        s.post(path, body).await.invalid();
    }
    for query in ["limit=0", "limit=1001", "page=x", "include_archived=2"] {
        s.get(&format!("/v1/tunnels?{query}")).await.invalid();
        s.get(&format!("{certificates}?{query}")).await.invalid();
    }
    // A cursor of one tunnel's certificates is none of another's.
    let other = id(&tunnel(&s).await);
    for _ in 0..2 {
        let body = json!({"ca_certificate_pem": authority("x")});
        s.post(&certificates, body).await.ok();
    }
    let page = s.get(&format!("{certificates}?limit=1")).await.ok();
    let page = page["next_page"].as_str().unwrap();
    let foreign = format!("/v1/tunnels/{other}/certificates?page={page}");
    s.get(&foreign).await.invalid();
    for missing in ["tnl_none", "nonsense", "vlt_1"] {
        let path = format!("/v1/tunnels/{missing}");
        s.get(&path).await.error(404, "not_found_error");
        for action in ["archive", "reveal_token", "rotate_token"] {
            let path = format!("{path}/{action}");
            s.post_raw(&path, "").await.error(404, "not_found_error");
        }
        for list in ["certificates", "certificates/tcrt_1", "connections"] {
            let path = format!("{path}/{list}");
            s.get(&path).await.error(404, "not_found_error");
        }
    }
}

#[tokio::test]
async fn the_eleventh_tunnel_is_refused() {
    let s = Server::start().await;
    for _ in 0..10 {
        tunnel(&s).await;
    }
    let said = s.post("/v1/tunnels", json!({})).await.invalid();
    assert!(said.contains("10 active tunnels"), "{said}");
}

#[tokio::test]
async fn only_admin_keys_and_keys_for_tunnels_manage_them() {
    let s = Server::start().await;
    let make = |body: Value| s.post("/v1/freehold/keys", body);
    let made = make(json!({"name": "t", "scope": "tunnels"})).await.ok();
    assert_eq!(
        (&made["scope"], &made["admin"]),
        (&json!("tunnels"), &json!(false))
    );
    let scoped = made["key"].as_str().unwrap();
    let plain = make(json!({"name": "p"})).await.ok();
    assert_eq!(plain["scope"], Value::Null);
    let plain = plain["key"].as_str().unwrap();
    make(json!({"name": "x", "scope": "files"})).await.invalid();
    make(json!({"name": "x", "scope": "tunnels", "admin": true}))
        .await
        .invalid();

    let at = id(&tunnel(&s).await);
    let at = format!("/v1/tunnels/{at}");
    let calls = [
        (Method::POST, "/v1/tunnels".to_owned()),
        (Method::GET, "/v1/tunnels".to_owned()),
        (Method::GET, at.clone()),
        (Method::GET, format!("{at}/connections")),
        (Method::GET, format!("{at}/certificates")),
        (Method::POST, format!("{at}/reveal_token")),
        (Method::POST, format!("{at}/rotate_token")),
        (Method::POST, format!("{at}/archive")),
    ];
    for (method, path) in calls {
        let refused = read(s.request_as(plain, method.clone(), &path)).await;
        let said = refused.error(403, "permission_error");
        assert!(
            said.contains("freehold keys create --scope tunnels"),
            "{said}"
        );
        read(s.request_as(scoped, method, &path)).await.ok();
    }

    // The paths of the router itself, so that none is forgotten.
    let router = include_str!("../../src/routes/mod.rs");
    let paths = router.split('"').filter(|text| text.starts_with("/v1/"));
    let others: Vec<&str> = paths.filter(|p| !p.starts_with("/v1/tunnels")).collect();
    assert!(others.len() > 50);
    for path in others {
        let named = path.split('/').map(|part| match part.starts_with('{') {
            true => "x_1",
            false => part,
        });
        let named = named.collect::<Vec<_>>().join("/");
        for method in [Method::GET, Method::POST, Method::PATCH, Method::DELETE] {
            let request = s.request_as(scoped, method.clone(), &named);
            let body = json!({"model": "rehearsal", "max_tokens": 9, "messages": []});
            let status = read(request.json(&body)).await.status;
            assert!(matches!(status, 403 | 405), "{method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn another_workspace_sees_no_tunnel() {
    let s = Server::start().await;
    let made = tunnel(&s).await;
    let path = format!("/v1/tunnels/{}", id(&made));
    let body = json!({"ca_certificate_pem": authority("a")});
    let certificates = format!("{path}/certificates");
    let certificate = id(&s.post(&certificates, body.clone()).await.ok());
    let (workspace, _) = s.other_workspace().await;
    let key = json!({"name": "t", "scope": "tunnels", "workspace_id": workspace});
    let key = s.post("/v1/freehold/keys", key).await.ok();
    let key = key["key"].as_str().unwrap();
    let listed = read(s.request_as(key, Method::GET, "/v1/tunnels"))
        .await
        .ok();
    assert_eq!(listed["data"], json!([]));
    for (method, rest) in [
        (Method::GET, String::new()),
        (Method::POST, "/archive".to_owned()),
        (Method::POST, "/reveal_token".to_owned()),
        (Method::POST, "/rotate_token".to_owned()),
        (Method::GET, "/connections".to_owned()),
        (Method::GET, "/certificates".to_owned()),
        (Method::POST, "/certificates".to_owned()),
        (Method::GET, format!("/certificates/{certificate}")),
        (Method::POST, format!("/certificates/{certificate}/archive")),
    ] {
        let mut request = s.request_as(key, method, &format!("{path}{rest}"));
        if rest == "/certificates" {
            request = request.json(&body);
        }
        read(request).await.error(404, "not_found_error");
    }
    assert_eq!(s.get(&path).await.ok(), made, "untouched");
    assert_eq!(ids(&s.get(&certificates).await.ok()), [certificate]);
}
