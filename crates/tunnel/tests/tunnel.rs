//! Edge and gateway together, over loopback.

mod world;

use std::sync::Arc;
use std::time::Duration;

use freehold_tunnel::edge::DialFailure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use world::{World, ask};

#[tokio::test]
async fn a_request_reaches_the_server_behind_the_gateway() {
    let world = World::start().await;
    let answer = world.get("/a/b?c=d").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Path and query untouched, Host the server's own, and what a proxy says said by the gateway.
    assert!(answer.contains("GET /a/b?c=d HTTP/1.1"), "{answer}");
    let host = format!("host: {}", world.upstream);
    assert!(answer.to_lowercase().contains(&host), "{answer}");
    assert!(
        answer.contains("x-forwarded-host: app.abc.tunnel.test"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_only_neighbours_say_is_not_passed_on() {
    let world = World::start().await;
    let request = "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nConnection: close, X-Secret\r\n\
        X-Secret: s\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=x\r\nVia: y\r\nTE: trailers\r\n\
        X-Real-IP: 9.9.9.9\r\nX-Kept: k\r\n\r\n";
    let answer = world.raw(request).await.to_lowercase();
    assert!(answer.contains("x-kept: k"), "{answer}");
    for gone in [
        "x-secret", "1.2.3.4", "for=x", "via:", "trailers", "9.9.9.9",
    ] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_are_refused() {
    let world = World::start().await;
    let host = "Host: app.abc.tunnel.test\r\n";
    let big = format!("X: {}\r\n", "a".repeat(40_000));
    for (request, status) in [
        (
            "GET / HTTP/1.1\r\nHost: other.abc.tunnel.test\r\n\r\n".to_owned(),
            "421",
        ),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("GET http://evil/ HTTP/1.1\r\n{host}\r\n"), "400"),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
            "400",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
                 0\r\n\r\nGET /smuggled HTTP/1.1\r\n{host}\r\n"
            ),
            "400",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n\
                 0\r\n\r\n"
            ),
            "400",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            "400",
        ),
        (format!("GET / HTTP/1.1\n{host}\n"), "400"),
        (format!("GET / HTTP/1.0\r\n{host}\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}A: b\0c\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\n{host}{big}\r\n"), "431"),
    ] {
        let answer = world.raw(&request).await;
        assert_eq!(
            answer.get(9..12),
            Some(status),
            "{request:.80}: {answer:.80}"
        );
    }
    assert_eq!(world.seen(), 0, "something was passed on");
}

#[tokio::test]
async fn only_one_label_below_a_tunnel_of_ones_own_is_dialled() {
    let world = World::start().await;
    for host in [
        "abc.tunnel.test",
        "a.app.abc.tunnel.test",
        ".abc.tunnel.test",
        "app.none.tunnel.test",
        "app.tunnel.test",
        "tunnel.test",
        "ap%70.abc.tunnel.test",
        "app.abc.tunnel.test.",
        &format!("{}.abc.tunnel.test", "a".repeat(64)),
    ] {
        let failed = world.edge.dial(&world.workspace, host).await.err();
        assert_eq!(failed, Some(DialFailure::Unknown), "{host}");
    }
    // Another workspace's tunnel is as unknown as one that does not exist.
    let other = "wrkspc_other".parse().unwrap();
    let failed = world.edge.dial(&other, "app.abc.tunnel.test").await.err();
    assert_eq!(failed, Some(DialFailure::Unknown));
    let failed = world
        .edge
        .dial(&world.workspace, "nowhere.abc.tunnel.test")
        .await
        .err();
    assert_eq!(failed, Some(DialFailure::NoRoute));
}

#[tokio::test]
async fn an_authority_that_is_taken_away_ends_what_is_open() {
    let world = World::start().await;
    let mut open = world.dial().await.unwrap();
    assert!(
        ask(
            &mut open,
            "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n"
        )
        .await
        .contains("200")
    );
    world.directory.trust(Vec::new());
    world.edge.changed(&world.tunnel).await;
    let mut byte = [0];
    let ended = tokio::time::timeout(Duration::from_secs(5), open.read(&mut byte)).await;
    assert!(
        !matches!(ended, Ok(Ok(1..)) | Err(_)),
        "the stream lives on"
    );
    assert_eq!(world.dial().await.err(), Some(DialFailure::NoCertificate));
}

#[tokio::test]
async fn an_authority_that_vouches_for_nobody_goes_without_a_word() {
    let world = World::start().await;
    let own = world.directory.trusted();
    let other = world::authority("another");
    world
        .directory
        .trust([own.clone(), vec![other.clone()]].concat());
    let hello = "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n";
    let mut open = world.dial().await.unwrap();
    assert!(ask(&mut open, hello).await.contains("200"));
    // The other one goes: what the first vouches for stays.
    world.directory.trust(own);
    world.edge.changed(&world.tunnel).await;
    assert!(ask(&mut open, hello).await.contains("200"));
    // The first one goes, and the other comes back: that is no help.
    world.directory.trust(vec![other]);
    world.edge.changed(&world.tunnel).await;
    let mut byte = [0];
    let ended = tokio::time::timeout(Duration::from_secs(5), open.read(&mut byte)).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "the stream lives on");
}

#[tokio::test]
async fn a_dial_under_way_does_not_bring_back_what_was_taken_away() {
    let world = Arc::new(World::start().await);
    let (looked_up, go) = world.directory.hold();
    let dialling = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.dial().await.err() })
    };
    looked_up.await.unwrap();
    world.directory.trust(Vec::new());
    world.edge.changed(&world.tunnel).await;
    go.send(()).unwrap();
    assert_eq!(dialling.await.unwrap(), Some(DialFailure::Changed));
    assert_eq!(world.dial().await.err(), Some(DialFailure::NoCertificate));
}

#[tokio::test]
async fn an_archived_tunnel_ends_at_once_and_its_token_opens_nothing() {
    let world = World::start().await;
    world.directory.archive();
    world.edge.changed(&world.tunnel).await;
    assert_eq!(world.dial().await.err(), Some(DialFailure::Unknown));
    world
        .until("the gateway to be refused", |status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|(_, e)| e.contains("token"))
        })
        .await;
    assert!(world.edge.connections(&world.tunnel).is_empty());
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_accepted() {
    let world = World::start().await;
    world.directory.trust(vec![world::authority("stranger")]);
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Certificate(_)), "{failed}");
    world
        .until("the gateway to say so", |status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|(_, e)| e.contains("tls handshake failed"))
        })
        .await;
}

#[tokio::test]
async fn the_gateway_comes_back_to_an_edge_that_was_restarted() {
    let mut world = World::start().await;
    world.restart_edge().await;
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn without_a_gateway_the_failure_says_so() {
    let world = World::start().await;
    world.stop_gateway().await;
    assert_eq!(world.dial().await.err(), Some(DialFailure::NoGateway));
}

#[tokio::test]
async fn stalled_readers_do_not_stop_their_neighbours() {
    let world = World::start().await;
    let mut stalled = Vec::new();
    for _ in 0..64 {
        let mut stream = world.dial().await.unwrap();
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n")
            .await
            .unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        stalled.push(stream);
    }
    for _ in 0..50 {
        assert!(world.get("/").await.unwrap().contains("200"));
    }
    drop(stalled);
}

#[tokio::test]
async fn long_answers_arrive_whole_both_ways() {
    let world = World::start().await;
    let body = "x".repeat(3 << 20);
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = world.raw(&request).await;
    assert!(
        answer.len() > body.len() && answer.ends_with(&body),
        "{}",
        answer.len()
    );
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nContent-Length: {}\r\n\r\n",
        33 << 20
    );
    let mut stream = world.dial().await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let pump = async {
        let chunk = vec![b'x'; 64 << 10];
        while stream.write_all(&chunk).await.is_ok() {}
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(30), pump)
            .await
            .is_ok(),
        "too much was taken"
    );
}

#[tokio::test]
async fn garbage_at_the_door_is_answered_by_silence_or_no() {
    let world = World::start().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01garbage", b""] {
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
    }
    for (head, says) in [
        (
            "POST /v1/tunnel-connect HTTP/1.1\r\nUpgrade: mtun/1\r\n\r\n",
            "401",
        ),
        (
            "POST /v1/tunnel-connect HTTP/1.1\r\nUpgrade: mtun/1\r\nAuthorization: Bearer wrong\r\n\r\n",
            "401",
        ),
        (
            "POST /v1/tunnel-connect?token=tunnel-token HTTP/1.1\r\nUpgrade: mtun/1\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
    ] {
        let answer = world.register(head).await;
        assert_eq!(answer.get(9..12), Some(says), "{head}: {answer}");
    }
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn who_guesses_tokens_is_kept_away() {
    let world = World::start().await;
    let guess = "POST /v1/tunnel-connect HTTP/1.1\r\nUpgrade: mtun/1\r\nAuthorization: Bearer guess\r\n\r\n";
    let mut answers = Vec::new();
    for _ in 0..25 {
        answers.push(world.register(guess).await);
    }
    assert!(
        answers[0].contains("401") && answers[24].contains("429"),
        "{answers:?}"
    );
}

#[tokio::test]
async fn whoever_takes_long_to_say_who_he_is_is_dropped() {
    let world = World::start().await;
    let mut silent = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let mut byte = [0];
    let dropped = tokio::time::timeout(Duration::from_secs(10), silent.read(&mut byte)).await;
    assert!(matches!(dropped, Ok(Ok(0) | Err(_))), "{dropped:?}");
}

#[tokio::test]
async fn a_rotated_token_is_read_from_its_file() {
    let mut world = World::start().await;
    world.directory.rotate("another-token");
    // The connection that stands stays.
    assert!(world.get("/").await.unwrap().contains("200"));
    world.write_token("another-token");
    world.restart_edge().await;
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn a_gateway_that_stops_finishes_what_it_has() {
    let world = Arc::new(World::start().await);
    let mut open = world.dial().await.unwrap();
    open.write_all(b"GET /slow HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    world.reached_slow().await;
    let stopping = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.stop_gateway().await })
    };
    let mut answer = String::new();
    world.let_slow_go();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("slow and whole"), "{answer}");
    stopping.await.unwrap();
}
