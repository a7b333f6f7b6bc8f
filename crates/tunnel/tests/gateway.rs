//! What the gateway does with requests, and with its files, behind an edge of its own.

mod world;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use freehold_tunnel::edge::Guarded;
use freehold_tunnel::gateway::certificate::Certificate;
use freehold_tunnel::gateway::proxy::{Serving, Table};
use freehold_tunnel::gateway::upstream::{Resolve, SystemResolver, Upstreams};
use freehold_tunnel::gateway::{Limits, config};
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use world::logs::Logs;
use world::{Given, World, ask};

const HOST: &str = "Host: app.abc.tunnel.test\r\n";

/// Looks at the files all the time.
fn watchful() -> Limits {
    Limits {
        look: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// Waits for the other end to close; what came until then.
async fn closed(stream: &mut TlsStream<Guarded>) -> String {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    let ended = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(ended.is_ok(), "the stream was not closed");
    String::from_utf8_lossy(&rest).into_owned()
}

#[tokio::test]
async fn an_open_stream_follows_the_routes_as_they_are_now() {
    let world = World::with(Given {
        limits: watchful(),
        ..Given::default()
    })
    .await;
    let request = format!("GET / HTTP/1.1\r\n{HOST}\r\n");
    let mut open = world.dial().await.unwrap();
    assert!(ask(&mut open, &request).await.starts_with("HTTP/1.1 200"));
    // Another server: the next request goes there.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap();
    world.configure(&format!("routes: {{app: 'http://{address}'}}\n"));
    world
        .until("the new route", |s| {
            s.routes["app"].ends_with(&address.to_string())
        })
        .await;
    let serving = async {
        let (mut stream, _) = other.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother";
        stream.write_all(answer).await.unwrap();
        stream
    };
    let (answer, kept) = tokio::join!(ask(&mut open, &request), serving);
    assert!(answer.ends_with("other"), "{answer}");
    // No route: the next request is refused, and the stream ends.
    world.configure("routes: {else: 'http://10.0.0.1:1'}\n");
    world
        .until("the route to go", |s| !s.routes.contains_key("app"))
        .await;
    open.write_all(request.as_bytes()).await.unwrap();
    let answer = closed(&mut open).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.ends_with("no route for host\n"), "{answer}");
    drop(kept);
}

#[tokio::test]
async fn what_is_under_way_ends_with_its_route() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let app = format!("app: 'http://{address}'");
    let world = World::with(Given {
        config: format!("routes: {{{app}}}\n"),
        limits: watchful(),
        ..Given::default()
    })
    .await;
    let request = format!("GET / HTTP/1.1\r\n{HOST}\r\n");
    let mut events = world.dial().await.unwrap();
    events.write_all(request.as_bytes()).await.unwrap();
    let (mut sends, _) = accept(&server).await;
    let begun = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
    sends.write_all(begun.as_bytes()).await.unwrap();
    until(&mut events, "one").await;
    let mut waits = world.dial().await.unwrap();
    waits.write_all(request.as_bytes()).await.unwrap();
    let (silent, _) = accept(&server).await;
    // Another route comes: nobody is disturbed.
    world.configure(&format!("routes: {{{app}, else: 'http://10.0.0.1:1'}}\n"));
    world
        .until("the route to come", |s| s.routes.len() == 2)
        .await;
    sends.write_all(b"3\r\ntwo\r\n").await.unwrap();
    until(&mut events, "two").await;
    world.configure("routes: {else: 'http://10.0.0.1:1'}\n");
    let answer = closed(&mut events).await;
    assert!(!answer.contains("0\r\n\r\n"), "it looks whole: {answer}");
    let answer = closed(&mut waits).await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    drop(silent);
}

#[tokio::test]
async fn who_says_nothing_or_half_is_not_waited_for() {
    let soon = Duration::from_millis(300);
    let world = World::with(Given {
        limits: Limits {
            head: soon,
            body_silence: soon,
            ..Limits::default()
        },
        ..Given::default()
    })
    .await;
    for half in [
        String::new(),
        "GET".to_owned(),
        format!("GET / HTTP/1.1\r\n{HOST}X:"),
        format!("POST /echo HTTP/1.1\r\n{HOST}Content-Length: 5\r\n\r\nab"),
        format!("POST /slow HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
    ] {
        let mut stream = world.dial().await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let answer = closed(&mut stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{half}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_no_more_time_than_any() {
    let world = World::with(Given {
        limits: Limits {
            head: Duration::from_millis(300),
            ..Limits::default()
        },
        ..Given::default()
    })
    .await;
    let stream = world.dial().await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let drip = async {
        let head = format!("GET / HTTP/1.1\r\n{HOST}X: ");
        let endless = head.bytes().chain(std::iter::repeat(b'x'));
        for byte in endless {
            if write.write_all(&[byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
            // As slow as others let it be.
            assert!(world.get("/").await.unwrap().contains("200"));
        }
    };
    let mut rest = Vec::new();
    let ended = async {
        tokio::select! {
            () = drip => {}
            _ = read.read_to_end(&mut rest) => {}
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    assert!(ended.is_ok(), "the stream was not closed");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let soon = Duration::from_millis(500);
    let world = World::with(Given {
        limits: Limits {
            answer: soon,
            answer_silence: soon,
            ..Limits::default()
        },
        ..Given::default()
    })
    .await;
    let answer = world.get("/slow").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    // One that begins and then says nothing is cut, and the caller sees that it is.
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let world = World::with(Given {
        config: format!("routes: {{app: 'http://{address}'}}\n"),
        limits: Limits {
            answer_silence: soon,
            ..Limits::default()
        },
        ..Given::default()
    })
    .await;
    let mut open = world.dial().await.unwrap();
    let request = format!("GET / HTTP/1.1\r\n{HOST}\r\n");
    open.write_all(request.as_bytes()).await.unwrap();
    let (mut stream, _) = server.accept().await.unwrap();
    let begun = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    stream.write_all(begun).await.unwrap();
    let answer = closed(&mut open).await;
    assert!(answer.contains("first"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let world = World::start().await;
    let file = std::fs::read_to_string(world.dir.path().join("config.yaml")).unwrap();
    let config = config::parse(&file).unwrap();
    let (certificate, key) = &config.certificate;
    let acceptor = Certificate::load(certificate, key).unwrap().acceptor();
    let upstreams = Upstreams::new(&config, Arc::new(SystemResolver)).unwrap();
    let table = Table::new(config.tunnel_domain, config.routes, upstreams.into(), false);
    let serving = Serving {
        table: watch::Sender::new(Arc::new(table)).subscribe(),
        acceptor: acceptor.unwrap(),
        limits: Limits {
            handshake: Duration::from_millis(50),
            ..Limits::default()
        },
        drain: CancellationToken::new(),
        board: Arc::default(),
    };
    let (_silent, stream) = tokio::io::duplex(64);
    let served = serving.serve("app.abc.tunnel.test:443", stream);
    let served = tokio::time::timeout(Duration::from_secs(20), served).await;
    let said = served.expect("it is not waited for").unwrap_err();
    assert_eq!(said.to_string(), "tls handshake failed: too slow");
}

/// Says of a name what it is told to, one answer after another; the last for ever.
struct Rebinding {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Resolve for Rebinding {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        assert_eq!(host, "wiki.corp");
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        Ok(match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        })
    }
}

/// A server of the test's own, and a world in which `app` leads to it by a name.
async fn named(answers: &[&[&str]]) -> (World, TcpListener, Arc<Rebinding>) {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let read = |ips: &&[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let resolver = Arc::new(Rebinding {
        answers: Mutex::new(answers.iter().map(read).collect()),
        asked: AtomicUsize::new(0),
    });
    let world = World::with(Given {
        config: format!("routes: {{app: 'http://wiki.corp:{port}'}}\n"),
        resolver: Arc::clone(&resolver) as _,
        ..Given::default()
    })
    .await;
    (world, server, resolver)
}

/// The next connection to a server, with the head of its request.
async fn accept(server: &TcpListener) -> (TcpStream, String) {
    let accepted = tokio::time::timeout(Duration::from_secs(20), server.accept()).await;
    let (mut stream, _) = accepted.expect("nobody came").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn a_name_that_changes_its_mind_gains_nothing() {
    let bad = "169.254.169.254";
    let (world, server, resolver) = named(&[&["127.0.0.1"], &[bad]]).await;
    let serving = async {
        let (mut stream, _) = accept(&server).await;
        let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.get("/"), serving);
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
    // What was dialled is what was checked: nobody asked a second time.
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    let answer = world.get("/").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    let says = format!("IP validation failed: {bad} is not a private address");
    assert!(answer.contains(&says), "{answer}");
}

#[tokio::test]
async fn one_bad_address_among_good_ones_is_enough() {
    for bad in ["169.254.169.254", "8.8.8.8", "0.0.0.0", "127.0.0.2"] {
        let (world, server, _) = named(&[&["127.0.0.1", bad]]).await;
        let answer = world.get("/").await.unwrap();
        let says = format!("IP validation failed: {bad} is not a private address");
        assert!(answer.contains(&says), "{answer}");
        assert!(server.accept().now_or_never().is_none(), "it was dialled");
    }
    // IPv6 is not spoken with servers, nor IPv4 in its clothes.
    for only in ["::1", "::ffff:127.0.0.1", "fe80::1"] {
        let (world, server, _) = named(&[&[only]]).await;
        let answer = world.get("/").await.unwrap();
        assert!(answer.contains("IP validation failed"), "{answer}");
        assert!(server.accept().now_or_never().is_none(), "it was dialled");
    }
}

#[tokio::test]
async fn metadata_services_are_out_of_reach_even_without_validation() {
    for upstream in [
        "disable_ip_validation: true",
        "allowed_ips: [0.0.0.0/0]",
        "allowed_ips: [169.254.169.254]",
    ] {
        let world = World::with(Given {
            config: format!(
                "routes: {{app: 'http://169.254.169.254:80'}}\nupstream: {{{upstream}}}\n"
            ),
            ..Given::default()
        })
        .await;
        let answer = world.get("/latest/meta-data").await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        let says = "IP validation failed: 169.254.169.254 is not a private address";
        assert!(answer.contains(says), "{upstream}: {answer}");
    }
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_not_dialled_and_that_is_noted() {
    let server = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    // All of these lead to the server, on this host; and it is not what the usual rules allow.
    for ip in ["127.0.0.1", "127.8.8.8", "0.0.0.0"] {
        let (logs, _guard) = Logs::start();
        let world = World::with(Given {
            config: format!("routes: {{app: 'http://{ip}:{port}'}}\nupstream: {{}}\n"),
            ..Given::default()
        })
        .await;
        let request = format!("GET / HTTP/1.1\r\n{HOST}Authorization: Bearer mine\r\n\r\n");
        let mut stream = world.dial().await.unwrap();
        let answer = ask(&mut stream, &request).await;
        let says = format!("IP validation failed: {ip} is not a private address");
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert!(answer.contains(&says), "{answer}");
        let noted = logs.all("request");
        assert_eq!(noted[0]["outcome"], says, "{noted:?}");
        let text = logs.text();
        assert!(!text.contains("Bearer mine"), "{text}");
    }
    assert!(server.accept().now_or_never().is_none(), "it was dialled");
}

#[tokio::test]
async fn a_server_that_answers_to_its_own_name_alone_is_reached() {
    let (world, server, _) = named(&[&["127.0.0.1"]]).await;
    let port = server.local_addr().unwrap().port();
    // As servers do that are afraid of pages whose name leads to them.
    let guarded = async || {
        let (mut stream, head) = accept(&server).await;
        let own = head
            .to_lowercase()
            .contains(&format!("host: wiki.corp:{port}\r\n"));
        let status = if own { "200 OK" } else { "421 Misdirected" };
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(world.get("/"), guarded());
    assert!(answer.unwrap().starts_with("HTTP/1.1 200 "));
    // With the tunnel's host it is not, and that is the operator's choice.
    let world = World::with(Given {
        config: format!("routes: {{app: 'http://127.0.0.1:{port}'}}\npreserve_host: [app]\n"),
        ..Given::default()
    })
    .await;
    let (answer, ()) = tokio::join!(world.get("/"), guarded());
    assert!(answer.unwrap().starts_with("HTTP/1.1 421 "));
}

#[tokio::test]
async fn a_redirect_is_the_callers_to_judge() {
    let (world, server, _) = named(&[&["127.0.0.1"]]).await;
    for status in [
        "301 Moved",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let serving = async {
            let (mut stream, _) = accept(&server).await;
            let answer = format!(
                "HTTP/1.1 {status}\r\nLocation: http://169.254.169.254/latest?a=b\r\n\
                 Connection: close\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(world.get("/"), serving);
        let answer = answer.unwrap();
        assert_eq!(answer.get(9..12), status.get(..3), "{answer}");
        let location = "location: http://169.254.169.254/latest?a=b\r\n";
        assert!(answer.contains(location), "{answer}");
    }
    assert!(server.accept().now_or_never().is_none(), "it was followed");
}

#[tokio::test]
async fn an_event_arrives_before_the_next_is_sent() {
    let (world, server, _) = named(&[&["127.0.0.1"]]).await;
    let mut caller = world.dial().await.unwrap();
    let head = format!("POST /mcp HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n");
    caller.write_all(head.as_bytes()).await.unwrap();
    caller.write_all(b"3\r\none\r\n").await.unwrap();
    caller.flush().await.unwrap();
    let (mut stream, head) = accept(&server).await;
    assert!(
        head.to_lowercase().contains("transfer-encoding: chunked"),
        "{head}"
    );
    until(&mut stream, "one").await;
    caller.write_all(b"3\r\ntwo\r\n").await.unwrap();
    caller.flush().await.unwrap();
    until(&mut stream, "two").await;
    // The answer begins before the request has ended.
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for event in ["data: 1\n\n", "data: 2\n\n", ": still here\n\n"] {
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        until(&mut caller, event).await;
    }
    caller.write_all(b"0\r\n\r\n").await.unwrap();
    caller.flush().await.unwrap();
    until(&mut stream, "0\r\n\r\n").await;
}

/// Reads until a text has come.
async fn until(stream: &mut (impl AsyncRead + Unpin), text: &str) {
    let mut read = Vec::new();
    let reading = async {
        while !read.ends_with(text.as_bytes()) {
            read.push(stream.read_u8().await.unwrap());
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
    assert!(read.is_ok(), "{text} did not come");
}

#[tokio::test]
async fn an_answer_with_two_lengths_is_framed_by_one() {
    let (world, server, _) = named(&[&["127.0.0.1"]]).await;
    let serving = async {
        let (mut stream, _) = accept(&server).await;
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\
            Connection: close\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let request = format!("GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
    let (answer, ()) = tokio::join!(world.raw(&request), serving);
    assert!(
        !answer.to_lowercase().contains("content-length"),
        "{answer}"
    );
    assert!(answer.ends_with("5\r\nwhole\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_whose_end_only_its_reader_knows_is_the_last_of_its_stream() {
    let world = World::start().await;
    let requests = format!(
        "POST / HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
         GET /second HTTP/1.1\r\n{HOST}\r\n"
    );
    let mut stream = world.dial().await.unwrap();
    stream.write_all(requests.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let answer = closed(&mut stream).await;
    assert!(answer.contains("POST / HTTP/1.1"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(!answer.contains("second") && world.seen() == 1, "{answer}");
    // With a length the next request is served as well.
    let chunked = "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let requests = requests.replace(chunked, "Content-Length: 0\r\n\r\n");
    let mut stream = world.dial().await.unwrap();
    stream.write_all(requests.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    until(&mut stream, "/second").await;
}

#[tokio::test]
async fn what_a_proxy_says_is_said_by_the_gateway_alone() {
    let world = World::start().await;
    let request = format!(
        "GET / HTTP/1.1\r\n{HOST}Connection: close, x-named, Upgrade\r\nX-Named: 1\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-Forwarded-Host: evil-a\r\n\
         x-forwarded-proto: evil-b\r\nX_Forwarded_For: evil-c\r\nX-Forwarded-Prefix: evil-d\r\n\
         Proxy-Authorization: evil-e\r\nKeep-Alive: evil-f\r\nMcp-Param-A: one\r\n\
         mcp-param-a: two\r\nMcp-Param-B: =?base64?4pyT?=\r\nAuthorization: Bearer theirs\r\n\r\n"
    );
    let answer = world.raw(&request).await.to_lowercase();
    for gone in ["evil", "x-named", "h2c", "http2-settings", "keep-alive"] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    for there in [
        "x-forwarded-host: app.abc.tunnel.test",
        "x-forwarded-proto: https",
        // Neither judged nor changed: they are the server's.
        "mcp-param-a: one",
        "mcp-param-a: two",
        "mcp-param-b: =?base64?4pyt?=",
        "authorization: bearer theirs",
    ] {
        assert!(answer.contains(there), "{there}: {answer}");
    }
}
