//! Credentials that never enter the sandbox: placeholders inside, values on the wire, and only to
//! the hosts they are for.

mod common;

use common::net::{As, Net, hosts, net_of};
use common::*;
use freehold_base::Secret;
use freehold_sandbox::egress::Roots;
use freehold_sandbox::{Injection, Network, NetworkPolicy};

const PLACEHOLDER: &str = "fhsec_1f8a0c";
const VALUE: &str = "S3CR3T-value/with+signs=";

/// A credential for `web.test`, in headers or bodies.
fn credential(header: bool, body: bool) -> Injection {
    Injection {
        placeholder: PLACEHOLDER.to_owned(),
        value: Secret::new(VALUE.to_owned()),
        hosts: hosts(&["web.test"]),
        header,
        body,
    }
}

fn network(injections: Vec<Injection>) -> Network {
    Network {
        policy: hosts(&["web.test", "*.web.test", "other.test"]),
        injections,
    }
}

async fn net(name: &str, injections: Vec<Injection>) -> Net {
    net_of(name, As::Root, network(injections), |_| ()).await
}

/// One request to the TLS server, believing whom the sandbox is told to believe.
trait Https {
    async fn https(&self, host: &str, request: &str) -> String;
}

impl Https for Net {
    async fn https(&self, host: &str, request: &str) -> String {
        self.python(&format!(
            "s = ssl.create_default_context(cafile='/run/egress/ca-bundle.pem').wrap_socket(dial('{host}', TLS), server_hostname='{host}')\n\
             s.sendall({request}); print(reply(s))"
        ))
        .await
    }
}

#[tokio::test]
async fn headers_carry_the_value_to_its_own_host_only() {
    for who in [As::Root, As::OrdinaryUser] {
        let name = format!("headers_{who:?}").to_lowercase();
        let net = net_of(&name, who, network(vec![credential(true, false)]), |_| ()).await;
        let request = |host: &str| {
            format!(
                "b'POST /{PLACEHOLDER} HTTP/1.1\\r\\nHost: {host}\\r\\nAuthorization: Bearer {PLACEHOLDER}\\r\\nX-Twice: {PLACEHOLDER}{PLACEHOLDER}\\r\\nContent-Length: 12\\r\\n\\r\\n{PLACEHOLDER}'"
            )
        };
        let got = net.https("web.test", &request("web.test")).await;
        assert!(got.contains(&format!("Bearer {VALUE}\r\n")), "{got}");
        assert!(got.contains(&format!("{VALUE}{VALUE}")), "{got}");
        // Neither in the target line nor, without leave, in the body.
        assert!(
            got.contains(&format!("POST /{PLACEHOLDER} HTTP")) && got.ends_with(PLACEHOLDER),
            "{got}"
        );
        // Not below it, not beside it.
        let root = net.world.root_pem.clone();
        for host in ["sub.web.test", "other.test"] {
            let code = format!(
                "c = ssl.create_default_context(cadata='''{root}''')\n\
                 s = c.wrap_socket(dial('{host}', TLS), server_hostname='{host}'); s.sendall({}); print(reply(s))",
                request(host)
            );
            let got = net.python(&code).await;
            assert!(
                got.contains(&format!("Bearer {PLACEHOLDER}")) && !got.contains(VALUE),
                "{host}: {got}"
            );
        }
        // Not in the clear either.
        let got = net
            .python(&format!(
                "print(talk('web.test', PORT, {}).decode())",
                request("web.test")
            ))
            .await;
        assert!(
            got.contains(&format!("Bearer {PLACEHOLDER}")) && !got.contains(VALUE),
            "{got}"
        );
        net.sandbox.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn ordinary_clients_trust_the_proxy() {
    let net = net("clients", vec![credential(true, true)]).await;
    let url = format!("https://web.test:{}/x", net.tls);
    let basic = ok(
        &net.sandbox,
        &format!("curl -sS --max-time 30 -u user:{PLACEHOLDER} -d k={PLACEHOLDER} {url}"),
    )
    .await;
    // base64 of "user:" and the value.
    let coded = "dXNlcjpTM0NSM1QtdmFsdWUvd2l0aCtzaWducz0=";
    assert!(
        basic.contains(&format!("Basic {coded}")) && basic.ends_with(&format!("k={VALUE}")),
        "{basic}"
    );
    let around = ok(
        &net.sandbox,
        &format!("curl -sS --noproxy '*' --max-time 30 -H 'X: {PLACEHOLDER}' {url}"),
    )
    .await;
    assert!(around.contains(VALUE), "{around}");
    // A program that is told nothing, but for where the system's certificates are.
    let bare =
        format!("key=$ACME_KEY; env -i /usr/bin/curl -sS --max-time 30 -H \"X: $key\" {url}");
    assert!(ok(&net.sandbox, &bare).await.contains(VALUE));
    let python = format!(
        "python3 -c 'import urllib.request as u; print(u.urlopen(u.Request(\"{url}\", headers={{\"X\": \"{PLACEHOLDER}\"}})).read().decode())'"
    );
    assert!(ok(&net.sandbox, &python).await.contains(VALUE));
    if std::path::Path::new("/usr/bin/git").exists() {
        let git = format!(
            "GIT_CURL_VERBOSE=1 git -c http.extraHeader='X: {PLACEHOLDER}' ls-remote {url} 2>&1 | grep -ci 'certificate' || true"
        );
        ok(&net.sandbox, &git).await;
        assert!(
            net.requests()
                .iter()
                .any(|r| r.contains("/x/info/refs") && r.contains(VALUE))
        );
    } else {
        not_run("git is not installed here");
    }
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn bodies_are_swapped_whole_or_as_they_pass() {
    let net = net("bodies", vec![credential(false, true)]).await;
    let got = net
        .https("web.test", &format!("b'POST / HTTP/1.1\\r\\nHost: web.test\\r\\nX: {PLACEHOLDER}\\r\\nContent-Length: 30\\r\\n\\r\\n<{PLACEHOLDER}>{PLACEHOLDER}1234'"))
        .await;
    assert!(
        got.contains(&format!("X: {PLACEHOLDER}")) || got.contains(&format!("x: {PLACEHOLDER}")),
        "{got}"
    );
    assert!(got.ends_with(&format!("<{VALUE}>{VALUE}1234")), "{got}");
    // In chunks, the placeholder cut in two.
    let (first, second) = PLACEHOLDER.split_at(5);
    let got = net
        .https(
            "web.test",
            &format!("b'POST / HTTP/1.1\\r\\nHost: web.test\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n6\\r\\n.{first}\\r\\n8\\r\\n{second}.\\r\\n0\\r\\n\\r\\n'"),
        )
        .await;
    assert!(got.contains("chunked") && got.contains(VALUE), "{got}");
    // Larger than what is held whole.
    let code = format!(
        "s = ssl.create_default_context(cafile='/run/egress/ca-bundle.pem').wrap_socket(dial('web.test', TLS), server_hostname='web.test')\n\
         body = b'a' * 1200000 + b'{PLACEHOLDER}'\n\
         s.sendall(b'POST / HTTP/1.1\\r\\nHost: web.test\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body)); s.sendall(body)\n\
         got = reply(s); print('chunked' in got, '{VALUE}' in got, '{PLACEHOLDER}' in got)"
    );
    assert_eq!(net.python(&code).await, "True True False");
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn each_request_must_name_the_host_of_the_credential() {
    let net = net("names", vec![credential(true, true)]).await;
    let open = "c = ssl.create_default_context(cafile='/run/egress/ca-bundle.pem'); c.check_hostname = False";
    for (dial, sni) in [("web.test", "other.test"), ("other.test", "web.test")] {
        let got = net
            .python(&format!("{open}\ntry: c.wrap_socket(dial('{dial}', TLS), server_hostname='{sni}')\nexcept ssl.SSLError as e: print(e.reason)"))
            .await;
        assert_eq!(got, "TLSV1_ALERT_ACCESS_DENIED");
    }
    for head in [
        "GET / HTTP/1.1\\r\\nHost: other.test",
        "GET https://other.test/ HTTP/1.1\\r\\nHost: web.test",
        "GET / HTTP/1.1\\r\\nHost: web.test\\r\\nHost: web.test",
    ] {
        let got = net
            .https(
                "web.test",
                &format!("b'{head}\\r\\nX: {PLACEHOLDER}\\r\\n\\r\\n'"),
            )
            .await;
        assert!(got.starts_with("HTTP/1.1 403"), "{head}: {got}");
    }
    assert_eq!(net.requests(), [""; 0]);
    let said = net.denials().join("\n");
    assert!(
        said.contains("names another host") && !said.contains(VALUE),
        "{said}"
    );
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_host_that_cannot_prove_its_name_gets_nothing() {
    let untrusting = |c: &mut freehold_sandbox::egress::EgressConfig| c.roots = Roots::only([]);
    let net = net_of(
        "untrusted",
        As::Root,
        network(vec![credential(true, true)]),
        untrusting,
    )
    .await;
    let got = net
        .https(
            "web.test",
            &format!("b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\nX: {PLACEHOLDER}\\r\\n\\r\\n'"),
        )
        .await;
    assert!(
        got.starts_with("HTTP/1.1 502") && got.contains("certificate"),
        "{got}"
    );
    assert_eq!(net.requests(), [""; 0]);
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_rotated_value_is_used_on_the_connection_that_is_open() {
    let net = net("rotate", vec![credential(true, false)]).await;
    let sandbox = net.sandbox.clone();
    let tls = net.tls;
    let code = format!(
        "import socket, ssl, os, time\n\
         s = ssl.create_default_context(cafile='/run/egress/ca-bundle.pem').wrap_socket(socket.create_connection(('web.test', {tls})), server_hostname='web.test')\n\
         def get():\n  s.sendall(b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\nX: {PLACEHOLDER}\\r\\n\\r\\n'); got = b''\n  while b'GET' not in got or not got.endswith(b'\\r\\n\\r\\n'): got += s.recv(9999)\n  return [l for l in got.decode().split('\\r\\n') if l.lower().startswith('x: ')][0]\n\
         print(get()); open('/workspace/one', 'w').close()\n\
         while not os.path.exists('/workspace/two'): time.sleep(0.01)\n\
         print(get())"
    );
    let open = tokio::spawn(async move { exec(&sandbox, &["python3", "-c", &code]).await });
    ok(
        &net.sandbox,
        "until [ -e /workspace/one ]; do read -t 0.02 < <(:) || :; done",
    )
    .await;
    let mut rotated = credential(true, false);
    rotated.value = Secret::new("second".to_owned());
    net.sandbox
        .set_network(network(vec![rotated]))
        .await
        .unwrap();
    net.sandbox
        .write_file("/workspace/two", "".into())
        .await
        .unwrap();
    let got = open.await.unwrap();
    assert_eq!(
        got.stdout.to_lowercase().trim(),
        format!("x: {VALUE}\nx: second").to_lowercase(),
        "{got:?}"
    );
    // One that is taken away goes out as its placeholder.
    net.sandbox.set_network(network(vec![])).await.unwrap();
    let root = net.world.root_pem.clone();
    let code = format!(
        "s = ssl.create_default_context(cadata='''{root}''').wrap_socket(dial('web.test', TLS), server_hostname='web.test')\n\
         s.sendall(b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\nX: {PLACEHOLDER}\\r\\n\\r\\n'); print(reply(s))"
    );
    assert!(net.python(&code).await.contains(PLACEHOLDER));
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn an_unrestricted_credential_goes_wherever_the_sandbox_may() {
    let mut wide = credential(true, false);
    wide.hosts = NetworkPolicy::Public;
    let net = net("wide", vec![wide]).await;
    for host in ["web.test", "other.test"] {
        let got = net
            .https(
                host,
                &format!("b'GET / HTTP/1.1\\r\\nHost: {host}\\r\\nX: {PLACEHOLDER}\\r\\n\\r\\n'"),
            )
            .await;
        assert!(got.contains(VALUE), "{got}");
    }
    let got = net.python("print(dns('third.test')[0])").await;
    assert_eq!(got, "3");
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn the_value_is_nowhere_inside() {
    let net = net("nowhere", vec![credential(true, true)]).await;
    let (first, second) = VALUE.split_at(9);
    let search = format!(
        "value = ('{first}' + '{second}').encode()\n\
         seen = []\n\
         for top, dirs, files in os.walk('/'):\n  \
           dirs[:] = [d for d in dirs if os.path.join(top, d) not in ('/usr', '/sys', '/dev', '/proc')]\n  \
           seen += [os.path.join(top, f) for f in files]\n\
         seen += ['/proc/%s/%s' % (p, f) for p in os.listdir('/proc') if p.isdigit() for f in ('environ', 'cmdline', 'status')]\n\
         for path in seen:\n  \
           try:\n    \
             if value in open(path, 'rb').read(4000000): print(path)\n  \
           except OSError: pass\n\
         print(len(seen) > 100)"
    );
    assert_eq!(net.python(&search).await, "True");
    assert_eq!(
        ok(&net.sandbox, &format!("env | grep -c '{VALUE}' || true")).await,
        "0"
    );
    // The authority's key signs for any host, to this sandbox: it stays outside too.
    let keys = ok(
        &net.sandbox,
        "ls /run/egress; grep -l 'PRIVATE KEY' /run/egress/* || true",
    )
    .await;
    assert_eq!(keys, "ca-bundle.pem\nca.pem");
    let write = bash(&net.sandbox, "echo x > /run/egress/ca.pem").await;
    assert_ne!(write.code, Some(0));
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_used_is_refused() {
    let mut short = credential(true, true);
    short.placeholder = "x".to_owned();
    let bench = bench("refused");
    let mut spec = bench.spec("refused");
    spec.network = network(vec![short]);
    let created = freehold_sandbox::Provider::create(&bench.provider, &spec).await;
    assert!(created.err().unwrap().to_string().contains("placeholder"));
    // A value no header can hold is an error the model sees, not a broken request.
    let mut odd = credential(true, true);
    odd.value = Secret::new("a\r\nX-Evil: 1".to_owned());
    let net = net("unfit", vec![odd]).await;
    let got = net
        .https(
            "web.test",
            &format!("b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\nX: {PLACEHOLDER}\\r\\n\\r\\n'"),
        )
        .await;
    assert!(got.starts_with("HTTP/1.1 502"), "{got}");
    assert_eq!(net.requests(), [""; 0]);
    // A sandbox that trusts no authority cannot be given credentials.
    let plain = net_of("plain", As::Root, network(vec![]), |_| ()).await;
    assert!(
        plain
            .sandbox
            .set_network(network(vec![credential(true, true)]))
            .await
            .is_err()
    );
    plain.sandbox.destroy().await.unwrap();
    net.sandbox.destroy().await.unwrap();
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
