//! Names and requests that mean one thing to one reader and another to the next. They are refused by the
//! first of ours that reads them, and the server behind the gateway hears nothing of them.

mod hostile;
mod world;

use std::sync::Arc;
use std::time::Duration;

use freehold_tunnel::certificate::{authority, verifier};
use http::Method;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use hostile::{Middle, soon};
use world::{Given, TOKEN, World, options};

const HOST: &str = "app.abc.tunnel.test";
const AUTHORITY: &str = "app.abc.tunnel.test:443";

#[tokio::test]
async fn a_host_has_one_form_and_every_other_name_is_misdirected() {
    let world = World::start().await;
    let mut passed = 0;
    let wide = format!("{}.abc.tunnel.test", "a".repeat(64));
    for (host, status) in [
        (HOST, "200"),
        ("APP.Abc.Tunnel.TEST", "200"),
        ("app.abc.tunnel.test.", "200"),
        (AUTHORITY, "200"),
        ("app.abc.tunnel.test.:443", "200"),
        ("app.abc.tunnel.test:443@evil", "421"),
        ("app.abc.tunnel.test@evil", "421"),
        ("evil@app.abc.tunnel.test", "421"),
        ("app.abc.tunnel.test:443:443", "421"),
        ("app.abc.tunnel.test:80", "421"),
        ("app.abc.tunnel.test..", "421"),
        ("app.abc.tunnel.test, evil", "421"),
        ("app.abc.tunnel.test/evil", "421"),
        ("b.abc.tunnel.test", "421"),
        ("app.xyz.tunnel.test", "421"),
        ("a.app.abc.tunnel.test", "421"),
        ("abc.tunnel.test", "421"),
        (".abc.tunnel.test", "421"),
        (&wide, "421"),
        ("app\u{3002}abc\u{3002}tunnel\u{3002}test", "421"),
        ("\u{ff41}pp.abc.tunnel.test", "421"),
        ("xn--pp-1xa.abc.tunnel.test", "421"),
        ("app%2eabc.tunnel.test", "421"),
        ("", "421"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = world.raw(&request).await;
        assert_eq!(answer.get(9..12), Some(status), "{host}: {answer}");
        passed += usize::from(status == "200");
        assert_eq!(world.seen(), passed, "{host}");
    }
    // Nor does the target name another.
    for target in [
        "http://evil/",
        "https://app.abc.tunnel.test/",
        "evil:443",
        "@evil/",
        ".evil/",
        "*",
    ] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let answer = world.raw(&request).await;
        assert_eq!(answer.get(9..12), Some("400"), "{target}: {answer}");
    }
    assert_eq!(world.seen(), passed);
    let request = format!("GET //evil/ HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let answer = world.raw(&request).await.to_lowercase();
    let passed_on = format!("get //evil/ http/1.1\r\nhost: {}\r\n", world.upstream);
    assert!(answer.contains(&passed_on), "{answer}");
}

async fn through_the_middle() -> (World, Middle) {
    let middle = Middle::start().await;
    let world = World::start_with(options(), |direct| middle.way(direct)).await;
    (world, middle)
}

#[tokio::test]
async fn the_gateway_takes_no_stream_for_a_name_that_is_not_its_own() {
    let (world, middle) = through_the_middle().await;
    let wide = format!("{}.abc.tunnel.test:443", "a".repeat(64));
    for authority in [
        "app.xyz.tunnel.test:443",
        "other.abc.tunnel.test:443",
        "a.app.abc.tunnel.test:443",
        "abc.tunnel.test:443",
        ".abc.tunnel.test:443",
        &wide,
        "app.abc.tunnel.test..:443",
        "app.abc.tunnel.test:80",
        "app.abc.tunnel.test:443@evil:443",
        "evil@app.abc.tunnel.test:443",
        "169.254.169.254:443",
    ] {
        let refused = middle.ask(Method::CONNECT, authority).await.status();
        assert_eq!(refused, 404, "{authority}");
    }
    let odd = middle.ask(Method::GET, "http://app.abc.tunnel.test/").await;
    assert_eq!(odd.status(), 400);
    assert_eq!(world.seen(), 0);
    // One form for these, too.
    for authority in [AUTHORITY, "APP.abc.Tunnel.test.:443"] {
        middle.open(authority).await;
    }
    assert!(world.get("/").await.unwrap().contains("200"));
}

/// What speaks TLS with the gateway as the server does, but for what `change` makes of it.
fn client(world: &World, change: impl FnOnce(&mut ClientConfig)) -> TlsConnector {
    let trusted = world.directory.trusted();
    let trusted = trusted.iter().map(|der| authority::stored(der).unwrap());
    let clock = freehold_base::IdSource::system().clock().clone();
    let config = verifier::client_config(trusted.collect(), clock).unwrap();
    let mut config = Arc::unwrap_or_clone(config);
    change(&mut config);
    TlsConnector::from(Arc::new(config))
}

/// What comes back for a request, if anything does.
async fn answered(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = soon("the stream to end", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_handshake_for_another_name_than_the_streams_is_refused() {
    let (world, middle) = through_the_middle().await;
    let connector = client(&world, |_| {});
    let own = ServerName::try_from(HOST).unwrap();
    let stream = middle.open(AUTHORITY).await;
    let mut stream = connector.connect(own, stream).await.unwrap();
    assert!(answered(&mut stream, HOST).await.contains("200 OK"));
    let silent = client(&world, |config| config.enable_sni = false);
    for (connector, name) in [
        // The certificate is good for it.
        (&connector, "other.abc.tunnel.test"),
        (&silent, HOST),
    ] {
        let stream = middle.open(AUTHORITY).await;
        let named = ServerName::try_from(name).unwrap();
        // For the client it may be over before the gateway has looked at the name.
        if let Ok(mut stream) = connector.connect(named, stream).await {
            assert_eq!(answered(&mut stream, name).await, "");
        }
    }
    let says = "tls handshake failed: it names another host than the stream";
    world
        .until("the gateway to say so", |status| {
            status.last_error.as_ref().is_some_and(|(_, e)| e == says)
        })
        .await;
    assert_eq!(world.seen(), 1);
}

#[tokio::test]
async fn the_gateway_speaks_tls_1_3_alone_and_takes_nothing_early() {
    let (world, middle) = through_the_middle().await;
    let name = ServerName::try_from(HOST).unwrap();
    let keen = client(&world, |config| {
        config.resumption = rustls::client::Resumption::in_memory_sessions(8);
        config.enable_early_data = true;
    });
    for _ in 0..2 {
        let stream = middle.open(AUTHORITY).await;
        let mut stream = keen.connect(name.clone(), stream).await.unwrap();
        assert!(answered(&mut stream, HOST).await.contains("200 OK"));
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full));
        assert!(!session.is_early_data_accepted());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for authority in world.directory.trusted() {
        roots.add(authority).unwrap();
    }
    let old = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = middle.open(AUTHORITY).await;
    let refused = TlsConnector::from(Arc::new(old)).connect(name, stream);
    assert!(soon("an answer", refused).await.is_err());
    assert_eq!(world.seen(), 2);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_at_both_ends() {
    let world = World::start().await;
    for size in [33 << 10, 10 << 20] {
        let long = "a".repeat(size);
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX: {long}\r\n\r\n");
        let answer = world.raw(&request).await;
        assert_eq!(answer.get(9..12), Some("431"), "{size}: {answer:.80}");
        let many = format!("X: {}\r\n", "b".repeat(1_000)).repeat(size / 1_000);
        let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{many}\r\n");
        let answer = world.raw(&request).await;
        assert_eq!(answer.get(9..12), Some("431"), "{size}: {answer:.80}");
        // At the door, with a good token behind it.
        let head = format!(
            "POST /v1/tunnel-connect HTTP/1.1\r\nUpgrade: mtun/1\r\nX: {long}\r\n\
             Authorization: Bearer {TOKEN}\r\n\r\n"
        );
        assert_eq!(said_at_the_door(&world, &head).await, "");
    }
    assert_eq!(world.seen(), 0);
    assert_eq!(world.edge.connections(&world.tunnel).len(), 2);
}

/// What the edge answers to what a gateway says first.
async fn said_at_the_door(world: &World, head: &str) -> String {
    let mut stream = world.knock().await;
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = soon("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_registration_that_can_be_read_in_two_ways_opens_nothing() {
    let world = World::start().await;
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    let head = |line: &str, fields: &str| format!("{line}\r\nUpgrade: mtun/1\r\n{fields}\r\n");
    let usual = "POST /v1/tunnel-connect HTTP/1.1";
    let token = TOKEN;
    for (what, head, says) in [
        ("two tokens", head(usual, &format!("{good}{good}")), "401"),
        (
            "a token and another",
            head(usual, &format!("Authorization: Bearer x\r\n{good}")),
            "401",
        ),
        (
            "a folded line",
            head(usual, &format!("Authorization:\r\n Bearer {token}\r\n")),
            "",
        ),
        (
            "a line without CR",
            head(usual, &format!("X: a\nAuthorization: Bearer {token}\r\n")),
            "",
        ),
        (
            "a NUL",
            head(usual, &format!("Authorization: Bearer {token}\0\r\n")),
            "",
        ),
        (
            "a CR",
            head(usual, &format!("Authorization: Bearer {token}\r\r\n")),
            "",
        ),
        (
            "a space before the colon",
            head(usual, &format!("Authorization : Bearer {token}\r\n")),
            "",
        ),
        (
            "a line that is no field",
            head(usual, &format!("x\r\n{good}")),
            "",
        ),
        (
            "another target",
            head("POST https://edge/v1/tunnel-connect HTTP/1.1", &good),
            "400",
        ),
        (
            "a query",
            head("POST /v1/tunnel-connect? HTTP/1.1", &good),
            "400",
        ),
        (
            "a dot",
            head("POST /v1/./tunnel-connect HTTP/1.1", &good),
            "400",
        ),
        (
            "another version",
            head("POST /v1/tunnel-connect HTTP/1.0", &good),
            "400",
        ),
        (
            "another method",
            head("post /v1/tunnel-connect HTTP/1.1", &good),
            "400",
        ),
        (
            "an empty line first",
            head(&format!("\r\n{usual}"), &good),
            "",
        ),
        (
            "two upgrades",
            head(usual, &format!("Upgrade: h2c\r\n{good}")),
            "400",
        ),
    ] {
        let answer = said_at_the_door(&world, &head).await;
        assert_eq!(
            answer.get(9..12).unwrap_or_default(),
            says,
            "{what}: {answer}"
        );
    }
    assert_eq!(world.edge.connections(&world.tunnel).len(), 2);
    let (_stream, answer) = world.enter(TOKEN).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

/// A server of the test's own, and a world whose route leads to it.
async fn listener() -> (TcpListener, World) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let world = World::with(Given {
        config: format!("routes: {{app: 'http://{address}'}}\n"),
        ..Given::default()
    })
    .await;
    (server, world)
}

async fn everything(mut from: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = soon("the connection to end", from.read_to_end(&mut all)).await;
    all
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_not_begun() {
    let (server, world) = listener().await;
    for length in [(32 << 20) + 1, 33 << 20, 999_999_999_999_999_999_u64] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n");
        let mut stream = world.dial().await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert_eq!(answer.get(9..12), Some("413"), "{length}: {answer}");
    }
    let nobody = tokio::time::timeout(Duration::ZERO, server.accept()).await;
    assert!(nobody.is_err(), "the server was dialled");
}

#[tokio::test]
async fn a_body_without_end_is_cut_and_does_not_look_whole() {
    let (server, world) = listener().await;
    let stream = world.dial().await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let pour = async {
        let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
        let _ = write.write_all(head.as_bytes()).await;
        while write.write_all(&chunk).await.is_ok() {}
    };
    let hear = async {
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    let serve = async { everything(server.accept().await.unwrap().0).await };
    let all = async { tokio::join!(pour, hear, serve) };
    let ((), answer, got) = soon("it to be cut", all).await;
    assert_eq!(answer.get(9..12), Some("413"), "{answer}");
    assert!(!got.ends_with(b"\r\n0\r\n\r\n"), "it looks whole");
    assert!(got.len() < 33 << 20, "{}", got.len());
}
