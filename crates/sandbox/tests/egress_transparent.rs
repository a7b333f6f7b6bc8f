//! Programs that know no proxy: whatever they dial, it arrives at the server, stands for a name,
//! and may name nothing else.

mod common;

use common::net::{As, Net, hosts, net, net_of};
use common::*;
use freehold_sandbox::{Network, NetworkPolicy};

/// The policy most tests use.
fn usual() -> Network {
    hosts(&[
        "web.test",
        "*.web.test",
        "rebind.test",
        "mixed.test",
        "nobody.test",
    ])
    .into()
}

/// Both ways of starting a sandbox that the namespaces provider has.
async fn each(name: &str, network: impl Fn() -> Network) -> Vec<Net> {
    vec![
        net_of(&format!("{name}_root"), As::Root, network(), |_| ()).await,
        net_of(&format!("{name}_user"), As::OrdinaryUser, network(), |_| ()).await,
    ]
}

const CURL: &str = "env -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY -u http_proxy -u https_proxy \
                    -u all_proxy curl -sS --noproxy '*' --max-time 30";

#[tokio::test]
async fn any_program_reaches_an_allowed_host_at_any_port() {
    for net in each("plain", usual).await {
        let got = net
            .python("print(talk('web.test', PORT, b'GET /p HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n').decode())")
            .await;
        assert!(
            got.starts_with("HTTP/1.1 200") && got.contains("GET /p HTTP/1.1"),
            "{got}"
        );
        let url = format!("http://sub.web.test:{}/c", net.port);
        let got = ok(&net.sandbox, &format!("{CURL} {url}")).await;
        assert!(
            got.contains(&format!("Host: sub.web.test:{}", net.port)) || got.contains("host: "),
            "{got}"
        );
        // The same server name, looked up once for each of both connections and never before.
        assert_eq!(net.looked_up(), ["web.test", "sub.web.test"]);
        // A protocol in which the server speaks first, and one without any host name.
        let got = net
            .python("s = dial('web.test', GREETER); print(s.recv(100)); s.sendall(b'EHLO x\\r\\n'); print(s.recv(100)); s.shutdown(1); print(rest(s))")
            .await;
        assert_eq!(got, "b'220 hello\\r\\n'\nb'EHLO x\\r\\n'\nb''");
        let got = net
            .python("print(talk('web.test', GREETER, b'\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f'))")
            .await;
        assert_eq!(
            got,
            "b'220 hello\\r\\n\\x00\\x00\\x00\\x08\\x04\\xd2\\x16/'"
        );
        assert_eq!(net.denials(), [""; 0]);
        let stats = net.sandbox.stats().await.unwrap();
        assert_eq!(
            (stats.egress_allowed, stats.egress_denied),
            (4, 0),
            "{stats:?}"
        );
        assert!(
            stats.egress_sent_bytes > 50 && stats.egress_received_bytes > 50,
            "{stats:?}"
        );
        net.sandbox.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn literal_addresses_arrive_and_are_refused() {
    for net in each("literal", usual).await {
        for address in [
            "169.254.169.254",
            "100.100.100.200",
            "10.0.0.1",
            "93.184.216.34",
            "198.18.77.77",
        ] {
            let got = net
                .python(&format!("print(talk('{address}', 80, b'GET / HTTP/1.1\\r\\nHost: {address}\\r\\n\\r\\n').decode())"))
                .await;
            assert!(got.starts_with("HTTP/1.1 403"), "{address}: {got}");
            let denials = net.denials();
            assert!(
                denials.len() == 1 && denials[0].starts_with(&format!("{address}:80: ")),
                "{denials:?}"
            );
        }
        // Without HTTP the connection ends; with TLS, with an alert that says so.
        assert_eq!(
            net.python("print(talk('10.0.0.1', 5432, b'\\0\\0\\0\\x08'))")
                .await,
            "b''"
        );
        let tls = net
            .python("c = ssl._create_unverified_context()\ntry: c.wrap_socket(dial('10.0.0.1', 443), server_hostname='x.test')\nexcept ssl.SSLError as e: print(e.reason)")
            .await;
        assert_eq!(tls, "TLSV1_ALERT_ACCESS_DENIED");
        // What has no IPv4 has no way at all, and says so at once.
        for (family, address) in [
            ("AF_INET6", "fd00:ec2::254"),
            ("AF_INET6", "2606:4700::1111"),
        ] {
            let got = net
                .python(&format!("s = socket.socket(socket.{family})\ntry: s.connect(('{address}', 80))\nexcept OSError as e: print(e.errno)"))
                .await;
            // ENETUNREACH, or EADDRNOTAVAIL where IPv6 is switched off.
            assert!(["101", "99"].contains(&got.as_str()), "{address}: {got}");
        }
        // The host's own services are nobody's: this is the sandbox's loopback.
        let got = net
            .python("s = socket.socket()\nprint(s.connect_ex(('127.0.0.1', PORT)), s.connect_ex(('localhost', TLS)))")
            .await;
        assert_eq!(got, "111 111");
        assert_eq!(net.connections(), 0);
        assert_eq!(net.looked_up(), [""; 0]);
        net.sandbox.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn names_are_answered_without_asking_anybody() {
    for net in each("dns", usual).await {
        let made_up = net
            .python("code, a = dns('web.test'); print(code, socket.inet_ntoa(a[12:]), socket.gethostbyname('WEB.test.'))")
            .await;
        assert_eq!(made_up, "0 198.18.0.2 198.18.0.2");
        // An allowed name has nothing but an address.
        for kind in [28, 16, 33, 65, 255] {
            assert_eq!(
                net.python(&format!("print(dns('web.test', {kind}))")).await,
                "(0, b'')",
                "{kind}"
            );
        }
        let long = "a".repeat(63);
        for name in [
            "other.test",
            "test",
            &format!("{long}.{long}.evil.test"),
            "1.2.3.4.in-addr.arpa",
        ] {
            for kind in [1, 16, 12] {
                assert_eq!(
                    net.python(&format!("print(dns('{name}', {kind}))")).await,
                    "(3, b'')",
                    "{name}"
                );
            }
        }
        assert!(net.denials().iter().any(|d| d.starts_with("other.test: ")));
        // By TCP the same.
        let tcp = net
            .python("q = question('web.test', 1); a = talk('127.0.0.1', 53, struct.pack('>H', len(q)) + q); print(a[5] & 15, a[-4:])")
            .await;
        assert_eq!(tcp, "0 b'\\xc6\\x12\\x00\\x02'");
        // Another resolver is nobody: by UDP, by TCP, over TLS.
        for server in ["8.8.8.8", "1.1.1.1", "169.254.169.253"] {
            let udp = net
                .python(&format!("try: print(dns('web.test', server='{server}'))\nexcept ConnectionRefusedError: print('refused')"))
                .await;
            assert_eq!(udp, "refused", "{server}");
            for port in [53, 853] {
                let got = net
                    .python(&format!(
                        "print(talk('{server}', {port}, b'\\0\\x1d' + question('x.test', 16)))"
                    ))
                    .await;
                assert_eq!(got, "b''", "{server}:{port}");
            }
        }
        // Garbage is refused or ignored, and the resolver lives on.
        let fuzz = net
            .python(
                "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('127.0.0.1', 53))\n\
                 for n in range(100): s.send(os.urandom(n))\n\
                 s.send(b'\\x07\\x09\\x01\\0\\0\\x01\\0\\0\\0\\0\\0\\0\\xc0\\x0c\\0\\x01\\0\\x01')\n\
                 print(dns('web.test')[0])",
            )
            .await;
        assert_eq!(fuzz, "0");
        assert_eq!(net.looked_up(), [""; 0], "a query went on");
        net.sandbox.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_but_tcp_gets_anywhere() {
    let net = net_of("udp", As::Root, NetworkPolicy::Public.into(), |_| ()).await;
    let got = net
        .python("s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('web.test', 443)); s.send(b'x')\ntry: s.recv(10)\nexcept ConnectionRefusedError: print('refused')")
        .await;
    assert_eq!(got, "refused");
    let got = net
        .python("try: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\nexcept PermissionError: print('no raw')\ntry: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)\nexcept PermissionError: print('no ping')")
        .await;
    assert_eq!(got, "no raw\nno ping");
    // The sandbox's own servers work as anywhere, and are reached by nobody else.
    let got = net
        .python("l = socket.create_server(('0.0.0.0', 8080)); s = dial('127.0.0.1', 8080); c, _ = l.accept(); c.send(b'hi'); print(s.recv(9))")
        .await;
    assert_eq!(got, "b'hi'");
    // Nor can a program put itself in the way of a name.
    let got = net
        .python("try: socket.create_server(('127.0.0.1', 3128))\nexcept OSError as e: print(e.errno)\nl = socket.create_server(('0.0.0.0', 18080)); s = dial('web.test', 18080); l.settimeout(0)\ntry: l.accept()\nexcept BlockingIOError: print('not mine')")
        .await;
    assert_eq!(got, "98\nnot mine");
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_name_that_resolves_inward_is_refused() {
    let net = net("inward", usual().policy).await;
    for (host, status, why) in [
        ("rebind.test", 403, "not public"),
        ("mixed.test", 403, "not public"),
        ("nobody.test", 502, "could not be resolved"),
    ] {
        let got = net
            .python(&format!("print(talk('{host}', PORT, b'GET / HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n').decode())"))
            .await;
        assert!(
            got.starts_with(&format!("HTTP/1.1 {status}")) && got.contains(why),
            "{got}"
        );
        let port = net.port;
        let said = net.denials();
        assert!(
            said.len() == 1 && said[0].starts_with(&format!("{host}:{port}: ")),
            "{said:?}"
        );
    }
    assert_eq!(net.connections(), 0);
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_a_connection_like_any_other() {
    let net = net("redirect", usual().policy).await;
    let port = net.port;
    for (to, why) in [
        ("http://169.254.169.254/latest".to_owned(), "not allowed"),
        (format!("http://rebind.test:{port}/"), "not public"),
        (format!("http://127.0.0.1:{port}/"), ""),
    ] {
        for curl in [CURL, "curl -sS --max-time 30"] {
            let url = format!("http://web.test:{port}/redirect?{to}");
            let got = bash(&net.sandbox, &format!("{curl} -L '{url}'")).await;
            let refused = got.stdout.contains("not allowed") || got.stdout.contains(why);
            assert!(refused && !got.stdout.contains("GET /"), "{to}: {got:?}");
        }
    }
    assert!(
        net.requests()
            .iter()
            .all(|r| r.starts_with("GET /redirect"))
    );
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn http_may_name_no_other_host() {
    let net = net("http_names", usual().policy).await;
    for (bad, status) in [
        ("GET / HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n", "403"),
        (
            "GET / HTTP/1.1\\r\\nHost: web.test\\r\\nHost: other.test\\r\\n\\r\\n",
            "403",
        ),
        (
            "GET http://other.test/ HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n",
            "403",
        ),
        (
            "\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n",
            "403",
        ),
        ("GET / HTTP/1.1\\r\\nHost: web.test:81\\r\\n\\r\\n", "403"),
        (
            "GET / HTTP/1.1\\r\\nHost: web.test\\r\\n : other.test\\r\\n\\r\\n",
            "400",
        ),
        ("GET\\t/ HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n", "400"),
        ("PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n", "400"),
        (
            "CONNECT other.test:443 HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n",
            "400",
        ),
    ] {
        let got = net
            .python(&format!("print(talk('web.test', PORT, b'{bad}').decode())"))
            .await;
        assert!(
            got.is_empty() && status == "400" || got.starts_with(&format!("HTTP/1.1 {status}")),
            "{bad}: {got}"
        );
    }
    assert_eq!(net.requests(), [""; 0]);
    // The second request on a connection is looked at as the first was.
    let got = net
        .python(
            "s = dial('web.test', PORT)\n\
             s.sendall(b'GET /1 HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n'); print(reply(s).split()[1])\n\
             s.sendall(b'GET /2 HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n'); print(reply(s).split()[1])\n\
             s.sendall(b'GET /3 HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n'); print(reply(s).split()[1])",
        )
        .await;
    assert_eq!(got, "200\n403\n200");
    // Smuggling: one request comes out, or none, but never the hidden one.
    let hidden = "GET /hidden HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n";
    for bad in [
        format!(
            "POST /s HTTP/1.1\\r\\nHost: web.test\\r\\nContent-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n{hidden}"
        ),
        format!(
            "POST /s HTTP/1.1\\r\\nHost: web.test\\r\\nContent-Length: 0\\r\\nContent-Length: 60\\r\\n\\r\\n{hidden}"
        ),
        format!(
            "POST /s HTTP/1.1\\r\\nHost: web.test\\r\\nTransfer-Encoding: chunked, identity\\r\\n\\r\\n0\\r\\n\\r\\n{hidden}"
        ),
        format!(
            "POST /s HTTP/1.1\\r\\nHost: web.test\\r\\nTransfer-Encoding : chunked\\r\\n\\r\\n0\\r\\n\\r\\n{hidden}"
        ),
        format!("GET /s HTTP/1.1\\r\\nHost: web.test\\r\\nX: a\\r{hidden}"),
    ] {
        net.try_python(&format!("talk('web.test', PORT, b'{bad}')"))
            .await;
    }
    for request in net.requests() {
        assert!(
            !request.contains("/hidden") || !request.starts_with("GET /hidden"),
            "{request}"
        );
        assert!(
            request.to_lowercase().contains("\r\nhost: web.test"),
            "{request}"
        );
    }
    // A change of protocol goes through.
    let got = net
        .python("s = dial('web.test', PORT); s.sendall(b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'); print(reply(s).split()[1]); s.sendall(b'ping'); print(s.recv(9))")
        .await;
    assert_eq!(got, "101\nb'ping'");
    // But not to a protocol whose requests name hosts, for nobody would look at those.
    for protocol in ["h2c", "websocket, H2C", "HTTP/2.0", "TLS/1.2"] {
        let got = net
            .python(&format!(
                "print(talk('web.test', PORT, b'GET /up HTTP/1.1\\r\\nHost: web.test\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\nUpgrade: {protocol}\\r\\n\\r\\n').decode())"
            ))
            .await;
        assert!(got.contains("GET /up HTTP/1.1"), "{protocol}: {got}");
        assert!(!got.to_lowercase().contains("upgrade"), "{protocol}: {got}");
    }
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn tls_may_name_no_other_host() {
    let net = net("tls_names", usual().policy).await;
    let handshake = |host: &str, sni: &str| {
        format!(
            "c = ssl._create_unverified_context(); c.check_hostname = False\n\
             try: s = c.wrap_socket(dial('{host}', TLS), server_hostname={sni}); print(s.getpeercert(True)[:1])\n\
             except ssl.SSLError as e: print(e.reason)"
        )
    };
    assert_eq!(
        net.python(&handshake("web.test", "'web.test'")).await,
        "b'0'"
    );
    for sni in [
        "'other.test'",
        "'sub.web.test'",
        "'web.test.evil.test'",
        "None",
    ] {
        let got = net.python(&handshake("web.test", sni)).await;
        assert_eq!(got, "TLSV1_ALERT_ACCESS_DENIED", "{sni}");
    }
    let before = net.requests().len();
    // Bytes that look like TLS and are not, and a handshake that never ends.
    for bad in [
        "b'\\x16\\x03\\x01\\0\\0'",
        "b'\\x16\\x03\\x01\\0\\x04\\x02\\0\\0\\0'",
        "b'\\x16\\x02\\0\\0\\x01x'",
    ] {
        assert_eq!(
            net.python(&format!("print(talk('web.test', TLS, {bad}))"))
                .await,
            "b''",
            "{bad}"
        );
    }
    assert_eq!(net.requests().len(), before);
    // The certificate is the host's own: nothing ends here without a reason.
    let issuer = net
        .python("c = ssl._create_unverified_context(); s = c.wrap_socket(dial('web.test', TLS), server_hostname='web.test'); d = s.getpeercert(True); print(b\"The world's own\" in d)")
        .await;
    assert_eq!(issuer, "True");
    // The same through CONNECT and SOCKS, by name and by made-up address.
    for open in [
        "s.sendall(b'CONNECT web.test:%d HTTP/1.1\\r\\n\\r\\n' % TLS); print(reply(s).split()[1])",
        "s.sendall(b'CONNECT %s:%d HTTP/1.1\\r\\n\\r\\n' % (socket.gethostbyname('web.test').encode(), TLS)); print(reply(s).split()[1])",
        "s.sendall(b'\\x05\\x01\\0'); s.recv(2); s.sendall(b'\\x05\\x01\\0\\x03\\x08web.test' + struct.pack('>H', TLS)); print(200 if s.recv(10)[1] == 0 else 403)",
    ] {
        for (sni, want) in [
            ("web.test", "fine"),
            ("other.test", "TLSV1_ALERT_ACCESS_DENIED"),
        ] {
            let got = net
                .python(&format!(
                    "s = dial('127.0.0.1', 3128)\n{open}\nc = ssl._create_unverified_context()\n\
                     try: c.wrap_socket(s, server_hostname='{sni}'); print('fine')\nexcept ssl.SSLError as e: print(e.reason)"
                ))
                .await;
            assert_eq!(got, format!("200\n{want}"), "{open} {sni}");
        }
    }
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn socks_speaks_names() {
    let net = net("socks", usual().policy).await;
    let url = format!("http://web.test:{}/s", net.port);
    let got = ok(
        &net.sandbox,
        &format!("curl -sS --max-time 30 --socks5-hostname 127.0.0.1:3128 {url}"),
    )
    .await;
    assert!(got.contains("GET /s HTTP/1.1"), "{got}");
    // Resolved inside first: the made-up address stands for the name.
    let got = ok(
        &net.sandbox,
        &format!("curl -sS --max-time 30 --socks5 127.0.0.1:3128 {url}"),
    )
    .await;
    assert!(got.contains("GET /s HTTP/1.1"), "{got}");
    let ask = |request: &str| {
        format!(
            "s = dial('127.0.0.1', 3128); s.sendall(b'\\x05\\x02\\0\\x02'); print(s.recv(2)); s.sendall({request}); print(s.recv(10)[1:2])"
        )
    };
    for (request, code) in [
        ("b'\\x05\\x01\\0\\x03\\x0aother.test\\0\\x50'", 2),
        ("b'\\x05\\x01\\0\\x01\\xa9\\xfe\\xa9\\xfe\\0\\x50'", 2),
        ("b'\\x05\\x01\\0\\x04' + b'\\0' * 15 + b'\\x01\\0\\x50'", 2),
        ("b'\\x05\\x01\\0\\x03\\x0bnobody.test\\0\\x50'", 4),
        ("b'\\x05\\x02\\0\\x03\\x08web.test\\0\\x50'", 7),
        ("b'\\x05\\x03\\0\\x03\\x08web.test\\0\\x50'", 7),
        ("b'\\x05\\x01\\0\\x09'", 8),
        ("b'\\x05\\x01\\0\\x03\\x04a b!\\0\\x50'", 8),
        ("b'\\x05\\x01\\0\\x03\\x08web.test\\0\\0'", 8),
    ] {
        let got = net.python(&ask(request)).await;
        assert_eq!(got, format!("b'\\x05\\x00'\nb'\\x{code:02x}'"), "{request}");
    }
    let got = net
        .python("print(talk('127.0.0.1', 3128, b'\\x05\\x01\\x02'))")
        .await;
    assert_eq!(got, "b'\\x05\\xff'");
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn any_public_host_means_any_name_and_address() {
    let net = net("public", NetworkPolicy::Public).await;
    let got = net
        .python("print(talk('other.test', PORT, b'GET / HTTP/1.1\\r\\nHost: other.test\\r\\n\\r\\n')[:12])")
        .await;
    assert_eq!(got, "b'HTTP/1.1 200'");
    for (dial, why) in [
        ("127.0.0.2.rebind.test", "could not be resolved"),
        ("rebind.test", "not public"),
        ("169.254.169.254", "not public"),
        ("10.0.0.1", "not public"),
        ("192.168.0.1", "not public"),
        ("0x7f000001.test", "could not be resolved"),
    ] {
        let got = net
            .python(&format!("print(talk('{dial}', 80, b'GET / HTTP/1.1\\r\\nHost: {dial}\\r\\n\\r\\n').decode())"))
            .await;
        assert!(got.contains(why), "{dial}: {got}");
    }
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn ports_can_be_part_of_the_policy() {
    let net = net_of("ports", As::Root, NetworkPolicy::None.into(), |_| ()).await;
    let port = net.port;
    net.sandbox.destroy().await.unwrap();
    // The port is known only now, and the next server has another: any but that one is refused.
    let other = net_of(
        "ports_2",
        As::Root,
        hosts(&[&format!("web.test:{port}")]).into(),
        |_| (),
    )
    .await;
    let got = other
        .python(
            "print(talk('web.test', PORT, b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n')[:12])",
        )
        .await;
    assert_eq!(got, "b'HTTP/1.1 403'");
    let narrowed = hosts(&[&format!("web.test:{}", other.port)]).into();
    other.sandbox.set_network(narrowed).await.unwrap();
    let got = other
        .python(
            "print(talk('web.test', PORT, b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n')[:12])",
        )
        .await;
    assert_eq!(got, "b'HTTP/1.1 200'");
    other.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_new_policy_holds_at_once_and_ends_what_it_does_not_allow() {
    let net = net("change", usual().policy).await;
    let (sandbox, greeter) = (net.sandbox.clone(), net.greeter);
    let code = format!(
        "import socket\ns = socket.create_connection(('web.test', {greeter})); s.recv(99); open('/workspace/up', 'w').close(); print(s.recv(9))"
    );
    let open = tokio::spawn(async move { exec(&sandbox, &["python3", "-c", &code]).await });
    ok(
        &net.sandbox,
        "until [ -e /workspace/up ]; do read -t 0.02 < <(:) || :; done",
    )
    .await;
    net.sandbox
        .set_network(hosts(&["other.test"]).into())
        .await
        .unwrap();
    let ended = open.await.unwrap();
    assert_eq!(ended.stdout.trim(), "b''", "{ended:?}");
    assert_eq!(
        net.python("print(dns('web.test')[0], dns('other.test')[0])")
            .await,
        "3 0"
    );
    // A sandbox without a network has no sockets to serve.
    let closed = net_of("closed", As::Root, NetworkPolicy::None.into(), |_| ()).await;
    closed
        .sandbox
        .set_network(NetworkPolicy::None.into())
        .await
        .unwrap();
    let refused = closed
        .sandbox
        .set_network(NetworkPolicy::Public.into())
        .await;
    assert!(refused.is_err());
    assert_eq!(
        closed
            .python("s = socket.socket(); print(s.connect_ex(('8.8.8.8', 53)))")
            .await,
        "101"
    );
    closed.sandbox.destroy().await.unwrap();
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn bytes_are_bounded() {
    let network = usual();
    let net = net_of("bytes", As::Root, network, |c| c.max_bytes = 100_000).await;
    let got = net
        .python("n = 0\ns = dial('web.test', GREETER)\ntry:\n  while n < 10_000_000: s.sendall(b'x' * 1000); n += len(s.recv(65536))\nexcept OSError: pass\nprint(n < 200_000)")
        .await;
    assert_eq!(got, "True");
    let got = net.python("print(talk('web.test', PORT, b'GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n').decode())").await;
    assert!(got.contains("used up"), "{got}");
    net.sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn without_a_redirect_a_few_ports_still_reach_out() {
    for who in [As::Root, As::OrdinaryUser] {
        let net = net_of(&format!("few_{who:?}").to_lowercase(), who, usual(), |c| {
            c.redirect = false
        })
        .await;
        // Nothing listens at port 443 of the test's host: that it was tried shows in the reason.
        for port in [22, 80, 443] {
            net.python(&format!(
                "print(talk('nobody.test', {port}, b'GET / HTTP/1.1\\r\\n\\r\\n'))"
            ))
            .await;
            let said = net.denials();
            assert!(
                said.len() == 1
                    && said[0].starts_with(&format!("nobody.test:{port}: the host name")),
                "{said:?}"
            );
        }
        let got = net
            .python("print(talk('169.254.169.254', 80, b'GET / HTTP/1.1\\r\\n\\r\\n')[:12])")
            .await;
        assert_eq!(got, "b'HTTP/1.1 403'");
        let got = net
            .python("s = socket.socket(); print(s.connect_ex(('web.test', 8080)))")
            .await;
        assert_eq!(got, "111");
        // The explicit proxy has every port.
        let url = format!("http://web.test:{}/x", net.port);
        assert!(
            ok(&net.sandbox, &format!("curl -sS --max-time 30 {url}"))
                .await
                .contains("GET /x")
        );
        net.sandbox.destroy().await.unwrap();
    }
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
