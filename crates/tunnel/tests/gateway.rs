//! What the gateway does with requests, and with its files, behind an edge of its own.

mod world;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use freehold_tunnel::edge::Guarded;
use freehold_tunnel::gateway::certificate::Certificate;
use freehold_tunnel::gateway::proxy::{Serving, Table};
use freehold_tunnel::gateway::upstream::{SystemResolver, Upstreams};
use freehold_tunnel::gateway::{Limits, config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

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
async fn who_says_nothing_or_half_is_not_waited_for() {
    let soon = Duration::from_millis(50);
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
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_waited_for() {
    let soon = Duration::from_millis(50);
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
        table: Arc::new(ArcSwap::from_pointee(table)),
        acceptor: acceptor.unwrap(),
        limits: Limits {
            handshake: Duration::from_millis(50),
            ..Limits::default()
        },
        drain: CancellationToken::new(),
    };
    let (_silent, stream) = tokio::io::duplex(64);
    let served = serving.serve("app.abc.tunnel.test:443", stream);
    let served = tokio::time::timeout(Duration::from_secs(20), served).await;
    let said = served.expect("it is not waited for").unwrap_err();
    assert_eq!(said.to_string(), "tls handshake failed: too slow");
}
