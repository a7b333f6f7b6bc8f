//! `freehold tunnels`, with a gateway that connects to the server, and an MCP server behind it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{IdSource, Secret};
use freehold_client::{Client, Options};
use freehold_tunnel::gateway::upstream::SystemResolver;
use freehold_tunnel::gateway::{Gateway, Limits, Start, config, setup};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::server::{KEY, Server, freehold, stderr, stdout};

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    home: tempfile::TempDir,
    server: Server,
}

impl World {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("freehold.toml");
        let text = "[tunnels]\ndomain = 'tunnel.test'\nlisten = '127.0.0.1:0'\n";
        std::fs::write(&file, text).unwrap();
        let mut command = freehold(home.path());
        command.env("FREEHOLD_BOOTSTRAP_KEY", KEY);
        command.env("FREEHOLD_CONFIG", &file);
        let server = Server::spawn(&mut command);
        Self { home, server }
    }

    fn run(&self, args: &[&str]) -> String {
        let words = [&["tunnels"], args].concat();
        let ran = self.server.run(self.home.path(), &words);
        assert!(ran.status.success(), "{words:?}: {}", stderr(&ran));
        stdout(&ran).trim_end().to_owned()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[args, &["--json"]].concat())).unwrap()
    }

    /// What stands after `what` in the greeting.
    fn said(&self, what: &str) -> &str {
        let (_, after) = self.server.greeting.split_once(what).expect(what);
        after.split_whitespace().next().unwrap()
    }
}

#[test]
fn tunnels_are_administered() {
    let w = World::start();
    let made = w.run(&["create", "--name", "office"]);
    assert!(made.starts_with("tnl_"), "the id alone: {made}");
    let listed = w.run(&["list"]);
    assert!(listed.contains(&made) && listed.contains(".tunnel.test") && listed.contains("office"));
    assert!(w.run(&["show", &made]).contains("needs a certificate"));
    let token = w.run(&["token", "reveal", &made]);
    assert!(token.starts_with("fht_"), "the token alone: {token}");
    let rotated = w.run(&["token", "rotate", &made, "--reason", "test"]);
    assert!(rotated.starts_with("fht_") && rotated != token);
    assert_eq!(w.run(&["token", "reveal", &made]), rotated);

    let dir = w.home.path();
    setup::new_authority(dir, &made, IdSource::system().clock().now()).unwrap();
    let file = |name: &str| dir.join(name).display().to_string();
    let key = w.server.run(
        dir,
        &[
            "tunnels",
            "certificates",
            "add",
            &made,
            &file(setup::CA_KEY),
        ],
    );
    assert_eq!(key.status.code(), Some(2));
    assert!(stderr(&key).contains("was not sent"), "{}", stderr(&key));
    let added = w.run(&["certificates", "add", &made, &file(setup::CA_CERT)]);
    let added = added.strip_prefix("registered ").unwrap();
    assert!(w.run(&["certificates", "list", &made]).contains(added));
    assert!(w.run(&["show", &made]).contains("active"));
    w.run(&["certificates", "archive", &made, added]);
    assert_eq!(w.run(&["certificates", "list", &made]), "no certificates");
    let all = w.run(&["certificates", "list", &made, "--archived"]);
    assert!(all.contains(added) && all.contains("archived"));
    assert_eq!(w.run(&["archive", &made]), format!("archived {made}"));
    assert_eq!(w.run(&["list"]), "no tunnels");
    let gone = w.server.run(dir, &["tunnels", "show", "tnl_none"]);
    assert_eq!(gone.status.code(), Some(9), "{}", stderr(&gone));

    let scoped = w.server.run(dir, &["keys", "create", "--scope", "tunnels"]);
    let scoped = stdout(&scoped);
    assert!(scoped.starts_with("sk-fh-tunnels-"), "{scoped}");
    let with = |args: &[&str]| {
        let mut command = freehold(dir);
        command.env("FREEHOLD_URL", &w.server.url);
        command.env("FREEHOLD_API_KEY", scoped.trim());
        command.args(args).output().unwrap()
    };
    assert!(with(&["tunnels", "create"]).status.success());
    assert!(!with(&["sessions", "list"]).status.success());
}

/// A gateway in front of an upstream that refuses everything, as it hears of it.
async fn gateway(
    w: &World,
    tunnel: &Value,
    token: &str,
    stop: &CancellationToken,
) -> mpsc::UnboundedReceiver<String> {
    let ids = IdSource::system();
    let dir = w.home.path();
    let domain = tunnel["domain"].as_str().unwrap();
    let long = Duration::from_secs(90_000);
    setup::new_certificate(dir, domain, ids.clock().now(), long).unwrap();
    std::fs::write(dir.join("token"), token).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let (heard, hears) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = heard.send(String::from_utf8_lossy(&request).into_owned());
        }
    });
    let text = format!(
        "tunnel_domain: {domain}\ntls: {{cert_file: {d}/tls.crt, key_file: {d}/tls.key}}\n\
         routes: {{app: 'http://{upstream}'}}\nupstream: {{allowed_ips: [127.0.0.1]}}\n\
         edge: {{address: '{edge}', fingerprint: {sha256}, token_file: {d}/token}}\n",
        d = dir.display(),
        edge = w.said("gateways     connect to "),
        sha256 = w.said("certificate SHA-256 "),
    );
    let start = Start {
        config: config::parse(&text).unwrap(),
        file: None,
        token: None,
        resolver: Arc::new(SystemResolver),
        ids,
        limits: Limits::default(),
    };
    let gateway = Gateway::new(start).unwrap();
    let stop = stop.clone();
    tokio::spawn(async move { gateway.run(stop).await });
    hears
}

async fn connections(client: &Client, tunnel: &str) -> usize {
    let mut all = client.tunnel_connections(tunnel);
    all.take(100).await.unwrap().len()
}

/// A server with a tunnel whose gateway is connected.
struct Connected {
    w: World,
    tunnel: Value,
    token: String,
    client: Client,
    heard: mpsc::UnboundedReceiver<String>,
    stop: CancellationToken,
}

impl Connected {
    async fn start() -> Self {
        let w = World::start();
        let tunnel = w.json(&["create"]);
        let id = tunnel["id"].as_str().unwrap();
        let dir: &Path = w.home.path();
        setup::new_authority(dir, id, IdSource::system().clock().now()).unwrap();
        let ca = dir.join(setup::CA_CERT).display().to_string();
        w.run(&["certificates", "add", id, &ca]);
        let token = w.run(&["token", "reveal", id]);
        let stop = CancellationToken::new();
        let heard = gateway(&w, &tunnel, &token, &stop).await;
        let options = Options::new(w.server.url.clone(), Secret::new(KEY.to_owned()));
        let client = Client::new(options).unwrap();
        let connected = async {
            while connections(&client, id).await == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, connected).await.unwrap();
        Self {
            w,
            tunnel,
            token,
            client,
            heard,
            stop,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mcp_server_behind_a_gateway_is_reached_until_the_tunnel_is_archived() {
    let Connected {
        w,
        tunnel,
        token,
        client,
        mut heard,
        stop,
    } = Connected::start().await;
    let id = tunnel["id"].as_str().unwrap();
    let shown = w.json(&["show", id]);
    assert_eq!(shown["connections"][0]["type"], "tunnel_connection");

    // The server's own probe of a credential is the shortest way to an MCP server.
    let vault = json!({"display_name": "v"});
    let vault = client.create_vault(&vault).await.unwrap()["id"].clone();
    let vault = vault.as_str().unwrap();
    let url = format!("https://app.{}/mcp", tunnel["domain"].as_str().unwrap());
    let credential = json!({"auth": {"type": "mcp_oauth", "mcp_server_url": url,
        "access_token": "a-secret", "expires_at": "2100-01-01T00:00:00Z"}});
    let credential = client.create_credential(vault, &credential).await.unwrap();
    let credential = credential["id"].as_str().unwrap();
    let path = format!("/v1/vaults/{vault}/credentials/{credential}/mcp_oauth_validate");
    let validate = async || {
        let request = reqwest::Client::new().post(format!("{}{path}", w.server.url));
        let request = request.header("anthropic-version", "2023-06-01");
        let response = request.bearer_auth(KEY).send().await.unwrap();
        response.text().await.unwrap()
    };
    let answer = validate().await;
    let request = tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap();
    let request = request.unwrap();
    assert!(request.starts_with("POST /mcp HTTP/1.1"), "{request}");
    assert!(request.contains("a-secret"), "{request}");
    assert!(answer.contains("403"), "{answer}");

    w.run(&["archive", id]);
    assert_eq!(connections(&client, id).await, 0);
    while heard.try_recv().is_ok() {}
    let answer = validate().await;
    assert!(heard.try_recv().is_err(), "nothing gets through: {answer}");
    stop.cancel();
    let (status, said) = w.server.stop();
    assert!(status.success(), "{said}");
    assert!(!said.contains(&token) && !said.contains("a-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_workspaces_tunnel_is_as_unknown_as_none() {
    let Connected {
        w,
        tunnel,
        mut heard,
        stop,
        ..
    } = Connected::start().await;

    let http = reqwest::Client::new();
    let post = async |key: &str, path: &str, body: Value| {
        let request = http.post(format!("{}{path}", w.server.url));
        let request = request.header("anthropic-version", "2023-06-01");
        let response = request.bearer_auth(key).json(&body).send().await.unwrap();
        response.json::<Value>().await.unwrap()
    };
    let workspace = json!({"name": "another"});
    let workspace = post(KEY, "/v1/freehold/workspaces", workspace).await["id"].clone();
    let key = json!({"name": "k", "workspace_id": workspace});
    let key = post(KEY, "/v1/freehold/keys", key).await["key"].clone();
    let key = key.as_str().unwrap();
    let vault = post(key, "/v1/vaults", json!({"display_name": "v"})).await;
    let credentials = format!("/v1/vaults/{}/credentials", vault["id"].as_str().unwrap());
    let domain = tunnel["domain"].as_str().unwrap();
    let mut told = Vec::new();
    for domain in [domain, "zzzzzzzz.tunnel.test"] {
        let url = format!("https://app.{domain}/mcp");
        let credential = json!({"auth": {"type": "mcp_oauth", "mcp_server_url": url,
            "access_token": "a-secret", "expires_at": "2100-01-01T00:00:00Z"}});
        let made = post(key, &credentials, credential).await;
        let path = format!(
            "{credentials}/{}/mcp_oauth_validate",
            made["id"].as_str().unwrap()
        );
        let mut answer = post(key, &path, json!({})).await;
        assert_eq!(answer["credential_id"], made["id"], "{answer}");
        for own in ["credential_id", "validated_at"] {
            answer[own].take();
        }
        told.push(answer.to_string().replace(domain, "THERE"));
    }
    assert_eq!(told[0], told[1]);
    assert!(heard.try_recv().is_err(), "it was reached: {told:?}");
    stop.cancel();
    let (status, said) = w.server.stop();
    assert!(status.success(), "{said}");
}

#[test]
fn a_setup_that_was_cut_short_is_healed_by_the_next() {
    let w = World::start();
    let dir = w.home.path().join("gateway");
    let output = format!("dir:{}", dir.display());
    let init = |more: &[&str]| {
        let words = [&["gateway", "setup", "init", "--output", &output], more].concat();
        let ran = w.server.run(w.home.path(), &words);
        assert!(ran.status.success(), "{}", stderr(&ran));
        stdout(&ran)
    };
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let fits = || setup::certificate_fits(&dir, &read(setup::TUNNEL_DOMAIN));
    let said = init(&[]);
    assert!(said.contains("ca.crt registered") && fits(), "{said}");
    let (id, ca, cert) = (
        read(setup::TUNNEL_ID),
        read(setup::CA_CERT),
        read(setup::CERT),
    );
    // Whole: nothing is made again.
    assert!(init(&[]).contains("is registered already"));
    assert_eq!(
        (read(setup::CA_CERT), read(setup::CERT)),
        (ca.clone(), cert.clone())
    );
    // Ended between a new key and its certificate.
    let key = tempfile::tempdir().unwrap();
    let now = IdSource::system().clock().now();
    setup::new_authority(key.path(), "x", now).unwrap();
    std::fs::copy(key.path().join(setup::CA_KEY), dir.join(setup::KEY)).unwrap();
    assert!(!fits());
    init(&[]);
    assert!(fits());
    assert_eq!(
        (read(setup::TUNNEL_ID), read(setup::CA_CERT)),
        (id.clone(), ca.clone())
    );
    // Ended within the making of an authority.
    std::fs::remove_file(dir.join(setup::CA_CERT)).unwrap();
    assert!(init(&[]).contains("ca.crt registered"));
    assert!(fits() && read(setup::TUNNEL_ID) == id && read(setup::CA_CERT) != ca);
    // Another tunnel has an authority and a certificate of its own.
    let second = w.run(&["create"]);
    let ca = read(setup::CA_CERT);
    init(&["--tunnel-id", &second]);
    assert!(fits() && read(setup::TUNNEL_ID) == second && read(setup::CA_CERT) != ca);
    // The authority's key is another's: said, and nothing is changed.
    std::fs::copy(key.path().join(setup::CA_KEY), dir.join(setup::CA_KEY)).unwrap();
    let cert = read(setup::CERT);
    for words in [
        &["gateway", "setup", "init", "--output", &output][..],
        &["gateway", "setup", "renew-cert", "--output", &output],
    ] {
        let ran = w.server.run(w.home.path(), words);
        assert!(!ran.status.success(), "{words:?}");
        let says = "ca.key does not belong to ca.crt";
        assert!(stderr(&ran).contains(says), "{}", stderr(&ran));
    }
    assert_eq!(read(setup::CERT), cert);
}
