//! The edge: who is let in, how much at a time, what is noted, and how it stops.

mod world;

use std::time::Duration;

use freehold_tunnel::edge::{DialFailure, Options};
use freehold_tunnel::gateway::Limits;
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use world::logs::Logs;
use world::{OTHER, TOKEN, World, ask, options};

const HELLO: &str = "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n";
const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nConnection: close\r\n\r\n";
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, done: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, done).await;
    done.unwrap_or_else(|_| panic!("waited too long for: {what}"))
}

/// Reads until the other end is heard of no more.
async fn ends(what: &str, stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _ = soon(what, stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_server_that_stops_finishes_its_requests_over_the_gateways_it_has() {
    let mut world = World::start().await;
    let mut slow = world.dial().await.unwrap();
    slow.write_all(SLOW.as_bytes()).await.unwrap();
    soon("the request to arrive", world.reached_slow()).await;
    let mut kept = world.dial().await.unwrap();
    assert!(ask(&mut kept, HELLO).await.contains("200"));
    world.stop_edge();
    let refuses = async {
        while TcpStream::connect(world.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon("new gateways to be refused", refuses).await;
    // What is under way goes on, and may need more.
    assert!(world.get("/").await.unwrap().contains("200"));
    assert!(ask(&mut kept, HELLO).await.contains("200"));
    world.let_slow_go();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("slow and whole"), "{answer}");
    // Nothing is: a connection that is only kept holds nobody up.
    soon("the edge to stop", world.edge_is_idle()).await;
    ends("the kept connection to end", &mut kept).await;
    assert!(world.edge.connections(&world.tunnel).is_empty());
    assert_eq!(world.dial().await.err(), Some(DialFailure::NoGateway));
}

#[tokio::test]
async fn a_server_that_has_just_started_waits_for_its_gateways() {
    let options = Options {
        arrival: PATIENCE,
        ..options()
    };
    let mut world = World::start_with(options, |direct| direct).await;
    world.restart_edge_alone().await;
    assert!(world.get("/").await.unwrap().contains("200"));
    // Only for them: what is nobody's is told at once.
    let failed = world
        .edge
        .dial(&world.workspace, "app.zzz.tunnel.test")
        .await;
    assert_eq!(failed.err(), Some(DialFailure::Unknown));
}

#[tokio::test]
async fn a_gateway_that_shares_its_address_with_a_guesser_is_let_in() {
    let world = World::start().await;
    let mut last = String::new();
    for i in 0..25 {
        last = world.enter(&format!("guess-{i}")).await.1;
    }
    assert!(last.starts_with("HTTP/1.1 429 "), "{last}");
    let (_stream, answer) = world.enter(TOKEN).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // And the guesser is no better off for it.
    let (_, again) = world.enter("guess").await;
    assert!(again.starts_with("HTTP/1.1 429 "), "{again}");
}

#[tokio::test]
async fn tokens_that_do_not_work_are_told_apart_by_nobody() {
    let world = World::start().await;
    world.directory.rotate("the-new-token");
    let mut answers = Vec::new();
    for token in [
        "unknown",
        TOKEN,
        "the-new-toke",
        "the-new-tokens",
        "THE-NEW-TOKEN",
        "",
    ] {
        world.directory.lookups();
        answers.push(world.enter(token).await.1);
        assert_eq!(world.directory.lookups(), ["token"], "{token}");
    }
    assert!(answers[0].starts_with("HTTP/1.1 401 "), "{answers:?}");
    assert!(answers.iter().all(|a| *a == answers[0]), "{answers:?}");
    // In the address a token is not even looked at.
    let mut answers = Vec::new();
    for token in ["the-new-token", "unknown"] {
        let head =
            format!("POST /v1/tunnel-connect?token={token} HTTP/1.1\r\nUpgrade: mtun/1\r\n\r\n");
        answers.push(world.register(&head).await);
        assert_eq!(world.directory.lookups(), [""; 0]);
    }
    assert!(answers[0].starts_with("HTTP/1.1 400 "), "{answers:?}");
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_token_opens_its_own_tunnel_alone() {
    let world = World::start().await;
    let before = world.edge.connections(&world.tunnel);
    let (_stream, answer) = world.enter(OTHER).await;
    assert!(answer.contains("xyz.tunnel.test"), "{answer}");
    assert_eq!(world.edge.connections(&world.tunnel), before);
    assert!(world.get("/").await.unwrap().contains("200"));
    // Over its connection nobody reaches another tenant's tunnel.
    let failed = world
        .edge
        .dial(&world.workspace, "app.xyz.tunnel.test")
        .await;
    assert_eq!(failed.err(), Some(DialFailure::Unknown));
}

#[tokio::test]
async fn a_rotated_token_opens_nothing_and_what_it_opened_stays() {
    let world = World::start().await;
    let mut open = world.dial().await.unwrap();
    world.directory.rotate("another-token");
    world.edge.changed(&world.tunnel).await;
    let (_, answer) = world.enter(TOKEN).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(ask(&mut open, HELLO).await.contains("200"));
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn an_archived_tunnel_takes_everything_along() {
    let world = World::start().await;
    // A gateway that does not leave by itself, and reads nothing.
    let (mut mute, _) = world.enter(TOKEN).await;
    let waiting = async {
        while world.edge.connections(&world.tunnel).len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    soon("three connections", waiting).await;
    let mut under_way = world.dial().await.unwrap();
    under_way.write_all(SLOW.as_bytes()).await.unwrap();
    soon("the request to arrive", world.reached_slow()).await;
    let mut kept = world.dial().await.unwrap();
    assert!(ask(&mut kept, HELLO).await.contains("200"));
    world.directory.archive();
    world.edge.changed(&world.tunnel).await;
    let mut answer = Vec::new();
    let cut = soon("the request to end", under_way.read_to_end(&mut answer)).await;
    assert!(cut.is_err() && answer.is_empty(), "{answer:?}");
    ends("the kept connection to end", &mut kept).await;
    ends("the gateway's connection to end", &mut mute).await;
    // The honest one's, too, although streams are held that nobody lets go.
    let refused = |e: &Option<(_, String)>| e.as_ref().is_some_and(|(_, e)| e.contains("token"));
    world
        .until("the gateway to come back", |s| refused(&s.last_error))
        .await;
    assert!(world.edge.connections(&world.tunnel).is_empty());
    assert_eq!(world.dial().await.err(), Some(DialFailure::Unknown));
}

#[test]
fn the_usual_times_are_those_that_were_promised() {
    let (edge, gateway) = (Options::new("tunnel.test"), Limits::default());
    assert_eq!(edge.register, Duration::from_secs(5));
    assert!(edge.open <= Duration::from_secs(5));
    assert_eq!(gateway.handshake, Duration::from_secs(10));
    assert_eq!(gateway.head, Duration::from_secs(30));
    // After two of them a gateway that is not heard of any more is gone.
    assert!(2 * edge.ping <= Duration::from_secs(20));
}

#[tokio::test]
async fn one_address_does_not_take_all_places_at_the_door() {
    let options = Options {
        half_open: 8,
        half_open_of_one: 2,
        register: Duration::from_secs(60),
        ..options()
    };
    let world = World::start_with(options, |direct| direct).await;
    let connect = async |from: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        socket.connect(world.address).await.unwrap()
    };
    // The handshake is answered, so the edge has given it a place.
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(world.shake(connect("127.0.0.9:0").await).await.unwrap());
    }
    assert!(world.shake(connect("127.0.0.9:0").await).await.is_err());
    assert!(world.shake(connect("127.0.0.10:0").await).await.is_ok());
    silent.pop();
    let again = async {
        while world.shake(connect("127.0.0.9:0").await).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("the place that was given back", again).await;
}

#[tokio::test]
async fn an_address_that_knocks_without_end_keeps_no_gateway_out() {
    let options = Options {
        handshakes: 16,
        handshakes_of_one: 4,
        half_open: 1_000,
        half_open_of_one: 1_000,
        register: Duration::from_secs(60),
        ..options()
    };
    let (logs, _guard) = Logs::start();
    let mut world = World::start_with(options, |direct| direct).await;
    let address = world.address;
    let knock = move || async move {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        socket.connect(address).await
    };
    let mut knocked = JoinSet::new();
    for _ in 0..100 {
        let mut stream = knock().await.unwrap();
        knocked.spawn(async move { stream.read_u8().await.is_err() });
    }
    // Who is let in is waited for, and who is not is let go: most of them, however slow this machine is.
    for _ in 0..50 {
        let let_go = soon("most to be turned away", knocked.join_next()).await;
        assert!(let_go.unwrap().unwrap());
    }
    let said = logs.all("too many connections that have not said who they are");
    assert!(said.len() == 1 && said[0]["turned_away"] == 1, "{said:?}");
    // In time it gets in, too.
    let again = async {
        while world.shake(knock().await.unwrap()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("another second", again).await;
    // It goes on, and the edge restarts: the gateway, from another address, comes back.
    let flood = tokio::spawn(async move {
        loop {
            let _ = knock().await;
        }
    });
    world.restart_edge().await;
    assert!(world.get("/").await.unwrap().contains("200"));
    flood.abort();
}

#[tokio::test]
async fn streams_are_counted_until_they_are_gone() {
    let options = Options {
        max_streams: 2,
        ..options()
    };
    let world = World::start_with(options, |direct| direct).await;
    let first = world.dial().await.unwrap();
    let second = world.dial().await.unwrap();
    assert_eq!(world.dial().await.err(), Some(DialFailure::Busy));
    drop(first);
    let first = world.dial().await.unwrap();
    // The tunnel is archived and comes back; those who hold the old streams have not let go yet.
    world.directory.archive();
    world.edge.changed(&world.tunnel).await;
    world.directory.rotate(TOKEN);
    world.connected().await;
    assert_eq!(world.dial().await.err(), Some(DialFailure::Busy));
    drop((first, second));
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn a_change_ends_both_directions_of_a_stream() {
    let world = World::start().await;
    let (mut read, mut write) = tokio::io::split(world.dial().await.unwrap());
    let head =
        "GET /slow HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nContent-Length: 33000000\r\n\r\n";
    write.write_all(head.as_bytes()).await.unwrap();
    write.flush().await.unwrap();
    let reading = tokio::spawn(async move {
        let mut rest = Vec::new();
        read.read_to_end(&mut rest).await.is_err()
    });
    soon("the request to arrive", world.reached_slow()).await;
    // Nobody takes this, so it does not end by itself.
    let (began, begun) = tokio::sync::oneshot::channel();
    let writing = tokio::spawn(async move {
        let _ = began.send(write.write_all(&[0; 64 << 10]).await);
        while write.write_all(&[0; 64 << 10]).await.is_ok() {}
    });
    begun.await.unwrap().unwrap();
    world.directory.trust(Vec::new());
    world.edge.changed(&world.tunnel).await;
    soon("the writer to end", writing).await.unwrap();
    assert!(soon("the reader to end", reading).await.unwrap());
}

#[tokio::test]
async fn no_session_is_resumed() {
    let world = World::start().await;
    for _ in 0..2 {
        let mut open = world.dial().await.unwrap();
        let kind = open.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full));
        // By now a ticket has come, if one is sent.
        assert!(ask(&mut open, HELLO).await.contains("200"));
    }
    world.directory.trust(vec![world::authority("stranger")]);
    world.edge.changed(&world.tunnel).await;
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Certificate(_)), "{failed}");
}

#[tokio::test]
async fn a_stranger_cannot_tell_tunnels_from_nothing() {
    let world = World::start().await;
    let stranger = "wrkspc_stranger".parse().unwrap();
    let mut told = Vec::new();
    let mut ask = async |host: &str| {
        world.directory.lookups();
        let failed = world.edge.dial(&stranger, host).await.err().unwrap();
        // The same was done for each, so that there is no time to tell them by either.
        let done = world.directory.lookups();
        told.push((failed.clone(), failed.to_string(), done));
    };
    // One that works, one without a gateway, and one that never was.
    ask("app.abc.tunnel.test").await;
    ask("nowhere.abc.tunnel.test").await;
    ask("app.xyz.tunnel.test").await;
    ask("app.zzz.tunnel.test").await;
    world.directory.trust(Vec::new());
    ask("app.abc.tunnel.test").await;
    world.directory.archive();
    ask("app.abc.tunnel.test").await;
    assert!(told.iter().all(|t| *t == told[0]), "{told:?}");
    assert_eq!(
        (&told[0].0, &*told[0].2),
        (&DialFailure::Unknown, &["domain"][..])
    );
    // No gateway heard of it.
    let connections = world.edge.connections(&world.tunnel);
    assert!(connections.iter().all(|c| c.streams == 0));
}

#[tokio::test]
async fn every_stream_leaves_a_record() {
    let (logs, _guard) = Logs::start();
    let world = World::start().await;
    let mut open = world.dial().await.unwrap();
    let answer = ask(&mut open, HELLO).await;
    drop(open);
    let first = logs.all("stream");
    assert_eq!(first.len(), 1, "{first:?}");
    let record = &first[0];
    assert_eq!(record["target"], "freehold_audit");
    let connections = world.edge.connections(&world.tunnel);
    let used = connections
        .iter()
        .find(|c| record["connection"] == *c.id)
        .unwrap();
    assert_eq!(record["gateway"], *used.gateway);
    assert_eq!(record["tunnel"], "tnl_1");
    assert_eq!(record["workspace"], "wrkspc_1");
    assert_eq!(record["host"], "app.abc.tunnel.test");
    assert_eq!(record["outcome"], "closed");
    assert!(record["received"].as_u64().unwrap() > answer.len() as u64);
    assert!(record["sent"].as_u64().unwrap() > HELLO.len() as u64);
    assert!(record["millis"].is_u64());
    // One that is ended, and one that comes to nothing.
    let mut open = world.dial().await.unwrap();
    world.directory.trust(vec![world::authority("stranger")]);
    world.edge.changed(&world.tunnel).await;
    ends("the stream to end", &mut open).await;
    drop(open);
    assert!(world.dial().await.is_err());
    let streams = logs.all("stream");
    let outcomes: Vec<_> = streams.iter().map(|r| r["outcome"].clone()).collect();
    // Both connections were tried.
    assert_eq!(
        outcomes,
        ["closed", "changed", "no handshake", "no handshake"]
    );
    assert!(!logs.text().contains(TOKEN));
}
