//! Servers that point elsewhere, and users who name what is within: nothing is asked there, and no
//! credential leaves for another place than its own.

mod common;

use common::{Got, LONG, Memory, Say, Server, http, rig};
use freehold_base::{IdSource, Secret};
use freehold_mcp::oauth::{self, ClientAuth, Refresh, RefreshError};
use freehold_mcp::{Destination, HttpError, McpError, Probe};
use serde_json::{Value, json as value};

const HERE: &str = "https://wiki.k3v9x2p7.tunnel.internal/mcp";

/// Where a redirect may lead: the same place by another path or without TLS, another tunnel, another
/// host, and within.
const ELSEWHERE: [&str; 9] = [
    "https://wiki.k3v9x2p7.tunnel.internal/mcp/",
    "http://wiki.k3v9x2p7.tunnel.internal/mcp",
    "https://wiki.k3v9x2p7.tunnel.internal:8443/mcp",
    "https://wiki.other234.tunnel.internal/mcp",
    "https://evil.example/mcp",
    "//evil.example/mcp",
    "/mcp/",
    "http://169.254.169.254/latest/meta-data/",
    "javascript:alert(1)",
];

fn redirect(status: u16, to: &str) -> Say {
    http(status, &format!("Location: {to}\r\n"), b"")
}

/// A server that redirects one method; `discover` says whether it is of the newest era.
fn redirecting(
    method: &'static str,
    modern: bool,
    status: u16,
    to: &'static str,
) -> std::sync::Arc<Memory> {
    Memory::new(move |got| match got.method() {
        now if now == method => redirect(status, to),
        "server/discover" if !modern => got.error(404, -32601, "no"),
        "initialize" => got.result(value!({"protocolVersion": "2025-11-25"})),
        "notifications/initialized" => http(202, "", b""),
        _ => common::modern(got).unwrap(),
    })
}

#[tokio::test]
async fn no_redirect_is_followed_at_any_step() {
    let here = |to: &Destination| to.tls && to.port == 443 && HERE.contains(&to.host);
    for status in [300, 301, 302, 303, 307, 308] {
        for to in ELSEWHERE {
            for (method, modern) in [
                ("server/discover", true),
                ("initialize", false),
                ("tools/list", true),
                ("tools/list", false),
                ("tools/call", true),
                ("tools/call", false),
            ] {
                let server = redirecting(method, modern, status, to);
                let rig = server.rig(HERE);
                let error = match method {
                    "tools/call" => rig.call().await.unwrap_err(),
                    _ => rig.connector.list(&rig.endpoint).await.unwrap_err(),
                };
                let text = match (method, error) {
                    ("tools/call", McpError::Unanswered(text)) => text,
                    (_, McpError::Connection(text)) => text,
                    (_, other) => panic!("{method} {other:?}"),
                };
                assert!(text.contains(&format!("redirect ({status})")), "{text}");
                let times = server.methods().iter().filter(|m| *m == method).count();
                assert_eq!(times, 1, "{method} {to}");
                assert!(server.dialled.lock().unwrap().iter().all(here), "{to}");
                let seen = server.seen.lock().unwrap();
                assert!(
                    seen.iter().all(|got| got.line.starts_with("POST /mcp ")),
                    "{to}"
                );
            }
        }
    }
}

/// Nor where a stream that broke off is resumed, or the oldest transport's is opened.
#[tokio::test]
async fn no_redirect_of_a_stream_is_followed() {
    let broken = Memory::new(|got| match got.method() {
        "" => redirect(307, "https://evil.example/mcp"),
        "tools/call" => Say::Close(format!("{}id: e1\nretry: 1\ndata:\n\n", common::STREAM).into()),
        _ => common::modern(got).unwrap(),
    });
    let error = broken.rig(HERE).call().await.unwrap_err();
    assert!(matches!(error, McpError::Unanswered(_)), "{error:?}");
    let oldest = Memory::new(|got| match got.method() {
        "" => redirect(307, "https://evil.example/sse"),
        _ => http(405, "", b""),
    });
    let rig = oldest.rig(HERE);
    let error = rig.connector.list(&rig.endpoint).await.unwrap_err();
    assert!(matches!(error, McpError::Connection(_)), "{error:?}");
    for server in [broken, oldest] {
        let seen = server.seen.lock().unwrap();
        let streams = seen
            .iter()
            .filter(|got| got.line.starts_with("GET /mcp "))
            .count();
        assert_eq!(streams, 1);
        let dialled = server.dialled.lock().unwrap();
        assert!(
            dialled
                .iter()
                .all(|to| to.tls && to.port == 443 && HERE.contains(&to.host))
        );
    }
}

fn asked<'a>(
    workspace: &'a freehold_base::WorkspaceId,
    url: &'a str,
    grant: &'a Secret<String>,
) -> Refresh<'a> {
    Refresh {
        workspace,
        token_endpoint: url,
        client_id: "client",
        auth: ClientAuth::Basic(Secret::new("secret-of-the-client".into())),
        refresh_token: grant,
        scope: None,
        resource: None,
    }
}

#[tokio::test]
async fn a_token_endpoint_that_redirects_gets_no_second_request() {
    let (workspace, grant) = (IdSource::system().next(), Secret::new("grant".to_owned()));
    for status in [301, 302, 307, 308] {
        let server = Memory::new(move |_| redirect(status, "https://evil.example/token"));
        let rig = server.rig(HERE);
        let asked = asked(&workspace, "https://id.example.com/token", &grant);
        match oauth::refresh(rig.connector.http(), &asked).await {
            Err(RefreshError::Unreachable(HttpError::Redirect(found))) => assert_eq!(found, status),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.dialled.lock().unwrap().len(), 1);
        assert_eq!(server.seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_token_endpoint_within_is_not_asked() {
    let server = Server::start(|got| got.result(value!({}))).await;
    let rig = rig(&server, LONG);
    let (workspace, grant) = (IdSource::system().next(), Secret::new("grant".to_owned()));
    for url in [
        "http://169.254.169.254/token",
        "https://169.254.169.254/token",
        "https://10.0.0.1/token",
        "https://[::1]/token",
        "https://localhost/token",
        "https://id@93.184.216.34/token",
        "http://93.184.216.34/token",
        "https://93.184.216.34:25/token",
        "javascript:alert(1)",
        "file:///etc/passwd",
    ] {
        match oauth::refresh(rig.connector.http(), &asked(&workspace, url, &grant)).await {
            Err(RefreshError::Unreachable(HttpError::Connect(_) | HttpError::Url(_))) => {}
            other => panic!("{url}: {other:?}"),
        }
    }
    assert!(server.seen.lock().unwrap().is_empty());
}

/// The connector follows no discovery: it asks neither for metadata of the resource nor for that of an
/// authorization server, whoever names it, and so takes part in no flow that one could lead astray.
#[tokio::test]
async fn a_challenge_leads_nowhere() {
    let thief = Server::start(|got| got.result(value!({}))).await;
    let at = thief.url.trim_end_matches("/mcp").to_owned();
    let challenge = move |status: u16| {
        format!(
            "WWW-Authenticate: Bearer error=\"invalid_token\", \
             resource_metadata=\"{at}/.well-known/oauth-protected-resource\", \
             authorization_uri=\"javascript:alert({status})\"\r\nLink: <{at}/register>; rel=register\r\n\
             Refresh: 0; url={at}/\r\n"
        )
    };
    for status in [401, 403] {
        let head = challenge(status);
        let server = Server::start(move |_| http(status, &head, b"{}")).await;
        let address: std::net::SocketAddr =
            thief.url[7..].trim_end_matches("/mcp").parse().unwrap();
        // The thief's address may be dialled: it is not the policy that keeps us from it.
        let rig = common::rig_allowing(&server, &[address], LONG);
        let error = rig.connector.list(&rig.endpoint).await.unwrap_err();
        assert!(matches!(error, McpError::Authentication(_)), "{error:?}");
        assert!(matches!(rig.call().await, Err(McpError::Authentication(_))));
        let probe = rig.connector.probe(&rig.endpoint).await;
        assert!(matches!(probe, Probe::Failed { .. }));
        let lines = server.seen.lock().unwrap();
        assert!(
            lines.iter().all(|got| got.line == "POST /mcp HTTP/1.1"),
            "{lines:?}"
        );
    }
    assert!(thief.seen.lock().unwrap().is_empty());
}

/// Every kind of address that is not public, in every spelling, and what else a URL may hide.
#[tokio::test]
async fn addresses_within_and_odd_urls_are_refused() {
    let server = Server::start(|got| got.result(value!({}))).await;
    let mut rig = rig(&server, LONG);
    let port = server.url[7..].split([':', '/']).nth(1).unwrap().to_owned();
    let (within, plain, port_no) = ("not public", "http without TLS", "not one of web servers");
    let (user, scheme, invalid) = ("user name", "neither https nor http", "not valid");
    for (url, why) in [
        ("http://127.0.0.1:1/mcp", port_no),
        ("https://127.0.0.1/", within),
        ("https://127.8.9.10/", within),
        ("https://0.0.0.0/", within),
        ("https://10.1.2.3/", within),
        ("https://172.16.0.1/", within),
        ("https://172.31.255.255/", within),
        ("https://192.168.1.1/", within),
        ("https://169.254.169.254/latest/meta-data/", within),
        ("https://100.64.0.1/", within),
        ("https://100.127.255.255/", within),
        ("https://100.100.100.200/", within),
        ("https://192.0.0.192/", within),
        ("https://198.18.0.1/", within),
        ("https://224.0.0.1/", within),
        ("https://240.0.0.1/", within),
        ("https://255.255.255.255/", within),
        // Other spellings of the same.
        ("https://2130706433/", within),
        ("https://0x7f000001/", within),
        ("https://0177.0.0.1/", within),
        ("https://127.1/", within),
        ("https://127.0.0.1./", within),
        ("https://%31%32%37.0.0.1/", within),
        ("https://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", within),
        ("https://127\u{3002}0\u{3002}0\u{3002}1/", within),
        // IPv6, and IPv4 within it.
        ("https://[::]/", within),
        ("https://[::1]/", within),
        ("https://[fd00::1]/", within),
        ("https://[fd00:ec2::254]/", within),
        ("https://[fe80::1]/", within),
        ("https://[ff02::1]/", within),
        ("https://[::ffff:10.0.0.5]/", within),
        ("https://[::ffff:a9fe:a9fe]/", within),
        ("https://[::7f00:1]/", within),
        ("https://[64:ff9b::a00:1]/", within),
        ("https://[2002:7f00:1::]/", within),
        ("https://[fe80::1%25eth0]/", invalid),
        // Names.
        ("https://localhost/", within),
        ("https://localhost./", within),
        ("https://LOCALHOST/", within),
        // Ports, schemes, users.
        ("https://93.184.216.34:22/", port_no),
        ("https://93.184.216.34:25/", port_no),
        ("https://93.184.216.34:587/", port_no),
        ("http://93.184.216.34/", plain),
        ("https://93.184.216.34@127.0.0.1/", user),
        ("https://good.example:x@127.0.0.1/", user),
        ("https://good.example%2f@127.0.0.1/", user),
        ("file:///etc/passwd", scheme),
        ("gopher://127.0.0.1/", scheme),
        ("unix:///run/docker.sock", scheme),
        ("javascript:alert(1)", scheme),
        ("https:///", invalid),
        ("https://[::1/", invalid),
        ("https://127.0.0.1:99999/", invalid),
    ] {
        rig.endpoint.url = url.to_owned();
        match rig.connector.list(&rig.endpoint).await {
            Err(McpError::Connection(text)) => assert!(text.contains(why), "{url}: {text}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    // The server's own address is allowed on its own port, and by no other name or user.
    for url in [
        format!("http://user@127.0.0.1:{port}/mcp"),
        format!("http://127.0.0.2:{port}/mcp"),
    ] {
        rig.endpoint.url = url.clone();
        let error = rig.connector.list(&rig.endpoint).await.unwrap_err();
        assert!(matches!(error, McpError::Connection(_)), "{url}: {error}");
    }
    assert!(server.seen.lock().unwrap().is_empty());
}

/// Whatever a server says, requests go to its own URL with its own credential: the endpoint is what the
/// caller has, not what was learned.
#[tokio::test]
async fn a_credential_is_sent_with_its_own_endpoint_only() {
    let server = Memory::new(|got: &Got| match got.method() {
        "tools/call" => common::stream(&[value!({"jsonrpc": "2.0", "id": got.body["id"],
            "result": {"content": []}})]),
        _ => common::modern(got).unwrap(),
    });
    let mut rig = server.rig("https://a.example/mcp");
    rig.call().await.unwrap();
    let sent = |got: &Got| got.header("authorization").map(str::to_owned);
    let first: Vec<_> = server.seen.lock().unwrap().drain(..).collect();
    assert!(
        first
            .iter()
            .all(|got| sent(got).as_deref() == Some("Bearer bearer-of-secrets"))
    );
    // Nothing of it is left for the next, which has none, wherever that is.
    rig.endpoint.bearer = None;
    for url in [
        "https://a.example/mcp",
        "https://a.example/other",
        "https://b.example/mcp",
        "https://b.a.example/mcp",
        "https://a.example:8443/mcp",
        "http://a.example/mcp",
    ] {
        rig.endpoint.url = url.to_owned();
        rig.call().await.unwrap();
    }
    let seen: Vec<Value> = server
        .seen
        .lock()
        .unwrap()
        .iter()
        .map(|got| sent(got).into())
        .collect();
    assert!(
        seen.len() >= 6 && seen.iter().all(Value::is_null),
        "{seen:?}"
    );
}
