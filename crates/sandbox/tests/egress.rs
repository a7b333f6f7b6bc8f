//! The explicit proxy: names first, then addresses, then exactly a checked address.

mod common;

use common::net::{Net, hosts, net};
use common::*;
use freehold_sandbox::NetworkPolicy;

/// The explicit proxy, by raw bytes.
trait Explicit {
    async fn raw(&self, bytes: &str) -> String;
    async fn get(&self, host: &str) -> String;
    async fn connect(&self, host: &str) -> String;
}

impl Explicit for Net {
    /// Sends raw bytes to the proxy; everything that comes back.
    async fn raw(&self, bytes: &str) -> String {
        let code = "import socket,sys\ns=socket.create_connection((\"127.0.0.1\",3128),20)\ns.settimeout(20)\ns.sendall(sys.argv[1].encode(\"latin1\").decode(\"unicode_escape\").encode(\"latin1\"))\nd=b\"\"\nwhile True:\n  try: b=s.recv(65536)\n  except ConnectionResetError: break\n  if not b: break\n  d+=b\n  if b\"HTTP/1.1 200 OK\" in d and b\"GET /in HTTP\" in d: break\nsys.stdout.write(d.decode(\"latin1\"))";
        let outcome = exec(&self.sandbox, &["python3", "-c", code, bytes]).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    }
    async fn get(&self, host: &str) -> String {
        let port = self.port;
        self.raw(&format!("GET http://{host}:{port}/p?q HTTP/1.1\\r\\nHost: evil.test\\r\\nProxy-Authorization: x\\r\\nConnection: close, x-secret\\r\\nX-Secret: 1\\r\\nX-Kept: 1\\r\\n\\r\\n")).await
    }
    async fn connect(&self, host: &str) -> String {
        let port = self.port;
        self.raw(&format!("CONNECT {host}:{port} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\nGET /in HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n")).await
    }
}

#[tokio::test]
async fn allowed_hosts_are_reached_and_no_others() {
    let net = net(
        "allow",
        hosts(&[
            "web.test",
            "*.web.test",
            "rebind.test",
            "mixed.test",
            "nobody.test",
        ]),
    )
    .await;
    let got = net.get("web.test").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
    let lower = got.to_lowercase();
    // The origin sees its own name and nothing that was meant for the proxy.
    assert!(
        got.contains("GET /p?q HTTP/1.1")
            && lower.contains(&format!("host: web.test:{}", net.port)),
        "{got}"
    );
    assert!(lower.contains("x-kept: 1"), "{got}");
    for gone in ["evil.test", "proxy-authorization", "x-secret", "x-hop"] {
        assert!(!lower.contains(gone), "{gone}: {got}");
    }
    assert!(net.get("sub.web.test").await.starts_with("HTTP/1.1 200"));
    let tunnel = net.connect("web.test").await;
    assert!(
        tunnel.starts_with("HTTP/1.1 200") && tunnel.contains("GET /in HTTP/1.1"),
        "{tunnel}"
    );
    let before = net.connections();
    for (host, status, why) in [
        ("other.test", "403", "not allowed"),
        ("rebind.test", "403", "not public"),
        ("mixed.test", "403", "not public"),
        ("nobody.test", "502", "could not be resolved"),
        ("127.0.0.1", "403", "not allowed"),
        ("169.254.169.254", "403", "not allowed"),
        ("[::1]", "403", "not allowed"),
        ("2130706433", "403", "not allowed"),
    ] {
        for got in [net.get(host).await, net.connect(host).await] {
            assert!(
                got.starts_with(&format!("HTTP/1.1 {status}")) && got.contains(why),
                "{host}: {got}"
            );
        }
    }
    assert_eq!(net.connections(), before, "a refused host was dialled");
    assert!(
        !net.looked_up().contains(&"other.test".to_owned()),
        "a refused name was looked up"
    );
    let stats = net.sandbox.stats().await.unwrap();
    assert_eq!(
        (stats.egress_allowed, stats.egress_denied),
        (3, 14),
        "{stats:?}"
    );
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn public_means_any_name_but_no_inward_address() {
    let net = net("public", NetworkPolicy::Public).await;
    assert!(net.get("other.test").await.starts_with("HTTP/1.1 200"));
    assert!(net.get("rebind.test").await.starts_with("HTTP/1.1 403"));
    for host in [
        "10.0.0.1",
        "169.254.169.254",
        "[::ffff:10.0.0.1]",
        "[fd00:ec2::254]",
        "0.0.0.0",
    ] {
        let got = net.get(host).await;
        assert!(
            got.starts_with("HTTP/1.1 403") && got.contains("not public"),
            "{host}: {got}"
        );
    }
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn nonsense_is_refused_and_the_proxy_lives_on() {
    let net = net("nonsense", hosts(&["web.test"])).await;
    for bad in [
        "GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n",
        "GET https://web.test/ HTTP/1.1\\r\\nHost: web.test\\r\\nConnection: close\\r\\n\\r\\n",
        "GET http://u:p@web.test/ HTTP/1.1\\r\\nHost: web.test\\r\\nConnection: close\\r\\n\\r\\n",
        "CONNECT web.test HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n",
        "CONNECT web.test:0 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n",
        "\\x16\\x03\\x01\\r\\n\\r\\n",
        "GET http://web.test/ HTTP/1.1\\r\\nTransfer-Encoding: chunked\\r\\nContent-Length: 5\\r\\nConnection: close\\r\\n\\r\\nxx\\r\\n\\r\\n",
    ] {
        let bad = bad.replace(
            "HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n",
            "HTTP/1.1\\r\\nHost: web.test\\r\\nConnection: close\\r\\n\\r\\n",
        );
        let got = net.raw(&bad).await;
        assert!(
            got.is_empty() || !got.starts_with("HTTP/1.1 2"),
            "{bad}: {got}"
        );
    }
    let long = format!(
        "GET http://web.test/ HTTP/1.1\\r\\nX: {}\\r\\n\\r\\n",
        "a".repeat(40_000)
    );
    assert!(!net.raw(&long).await.starts_with("HTTP/1.1 2"));
    assert!(net.get("web.test").await.starts_with("HTTP/1.1 200"));
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn ordinary_clients_use_it_and_nothing_gets_around_it() {
    let net = net("clients", hosts(&["web.test"])).await;
    let url = format!("http://web.test:{}/x", net.port);
    let python = format!(
        "python3 -c 'import urllib.request; print(urllib.request.urlopen(\"{url}\").status)'"
    );
    assert_eq!(ok(&net.sandbox, &python).await, "200");
    if std::path::Path::new("/usr/bin/curl").exists() {
        assert_eq!(
            ok(
                &net.sandbox,
                &format!("curl -sS -o /dev/null -w '%{{http_code}}' {url}")
            )
            .await,
            "200"
        );
        let denied = bash(&net.sandbox, "curl -sS --max-time 20 https://other.test/").await;
        assert!(denied.stderr.contains("403"), "{denied:?}");
    } else {
        not_run("curl is not installed here");
    }
    let around = bash(
        &net.sandbox,
        &format!(
            "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\",{}))'",
            net.port
        ),
    )
    .await;
    assert!(around.stderr.contains("ConnectionRefused"), "{around:?}");
    let env = ok(&net.sandbox, "/usr/bin/env | grep -ci _proxy=").await;
    assert_eq!(env, "9");
    net.sandbox.destroy().await.unwrap();
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
