//! Streams without end, resets without end, and gateways that all come at once. It is measured what is
//! kept, what is asked of the store, and that others are served; never how quick anything is.

mod hostile;
mod world;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use freehold_tunnel::edge::Options;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use hostile::*;
use world::{World, options};

const HOST: &str = "app.abc.tunnel.test";
/// Reasons of HTTP/2.
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn hello() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

/// What a gateway says to an edge that says this, up to the answer to its ping or its own farewell.
async fn says(edge: &FalseEdge, world: &World, what: &str, bytes: Vec<u8>) -> Vec<Heard> {
    let ping = frame(PING, 0, 0, b"are you?");
    let pong = frame(PING, 1, 0, b"are you?");
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let said = [hello(), bytes, ping].concat();
    let attack = Attack::Hear(said, pong, Arc::clone(&heard));
    edge.attack(world, what, attack).await;
    assert!(world.get("/").await.unwrap().contains("200"), "{what}");
    let heard = heard.lock().unwrap();
    frames(&heard)
}

/// Streams that are opened one after another, each with what follows it.
fn streams(count: u32, block: &[u8], then: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let one = |i: u32| {
        let id = 2 * i + 1;
        [frame(HEADERS, END_HEADERS, id, block), then(id)].concat()
    };
    (0..count).flat_map(one).collect()
}

/// The streams that were reset for this reason.
fn reset(frames: &[Heard], reason: u32) -> usize {
    let because = |(kind, _, _, why): &&Heard| *kind == RST_STREAM && *why == reason.to_be_bytes();
    frames.iter().filter(because).count()
}

#[tokio::test]
async fn a_gateway_refuses_the_streams_that_are_too_many_and_goes_on() {
    let edge = FalseEdge::start().await;
    let world = World::start_with(options(), |direct| edge.way(direct)).await;
    let before = resident();
    let block = connect_block("app.abc.tunnel.test:443");
    let heard = says(&edge, &world, "300", streams(300, &block, |_| Vec::new())).await;
    assert_eq!(reset(&heard, REFUSED_STREAM), 300 - 256);
    assert_eq!(farewell(&heard), None, "the connection did not survive");
    let pongs = heard.iter().filter(|f| f.0 == PING && f.1 == 1).count();
    assert_eq!(pongs, 1);
    // However many: they are refused, or the connection ends; and nothing is kept of them.
    let many = streams(100_000, &block, |_| Vec::new());
    let heard = says(&edge, &world, "100000", many).await;
    let over = farewell(&heard).is_some() || reset(&heard, REFUSED_STREAM) == 100_000 - 256;
    assert!(over, "{}", heard.len());
    check_kept(before, "streams");
    world.connected().await;
}

#[tokio::test]
async fn an_edge_that_lets_its_gateway_work_for_nothing_is_told_to_calm_down() {
    let edge = FalseEdge::start().await;
    let world = World::start_with(options(), |direct| edge.way(direct)).await;
    let before = resident();
    let block = connect_block("app.abc.tunnel.test:443");
    let rapid = |id| frame(RST_STREAM, 0, id, &[0, 0, 0, 8]);
    // Each of these makes the gateway reset the stream itself.
    let overflow = |id| frame(WINDOW_UPDATE, 0, id, &0x7fff_ffff_u32.to_be_bytes()).repeat(2);
    let on_itself = |id: u32| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[0]].concat());
    // A head that unpacks to much: a long field once, and then its place in the table again and again.
    let mut bomb = block.clone();
    bomb.extend([0x40, 1, b'a', 0x7f, 0xb1, 0x1e]);
    bomb.extend([b'b'; 4_000]);
    bomb.extend([0xbe; 12_000]);
    for (what, bytes) in [
        ("rapid resets", streams(20_000, &block, rapid)),
        ("windows that overflow", streams(20_000, &block, overflow)),
        (
            "streams that wait for themselves",
            streams(20_000, &block, on_itself),
        ),
        ("bombs", streams(200, &bomb, |_| Vec::new())),
    ] {
        let began = worked();
        let heard = says(&edge, &world, what, bytes).await;
        assert_eq!(farewell(&heard), Some(ENHANCE_YOUR_CALM), "{what}");
        check_work(began, what);
        check_kept(before, what);
    }
    world.connected().await;
}

#[tokio::test]
async fn servers_that_do_not_read_stop_no_other() {
    let world = World::start().await;
    let before = resident();
    let mut stalled = JoinSet::new();
    for _ in 0..64 {
        let mut stream = world.dial().await.unwrap();
        stalled.spawn(async move {
            let head =
                format!("POST /slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 33000000\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            while stream.write_all(&[0; 64 << 10]).await.is_ok() {}
        });
    }
    until("all of them to arrive", || world.seen() == 64).await;
    for _ in 0..50 {
        let answer = soon("a neighbour", world.get("/")).await.unwrap();
        assert!(answer.contains("200"));
    }
    check_kept(before, "servers that do not read");
    stalled.abort_all();
}

#[tokio::test]
async fn gateways_that_all_come_at_once_ask_the_store_once_each_and_at_the_edges_pace() {
    const GATEWAYS: usize = 40;
    const PER_SECOND: u32 = 24;
    let options = Options {
        handshakes: PER_SECOND,
        max_connections: 1_000,
        half_open: 1_000,
        half_open_of_one: 1_000,
        ..options()
    };
    let mut world = World::start_with(options, |direct| direct).await;
    for _ in 1..GATEWAYS {
        world.another_gateway();
    }
    let all = |world: &World| world.edge.connections(&world.tunnel).len() == 2 * GATEWAYS;
    until("all gateways", || all(&world)).await;
    // They all lose their connections in one moment, and come back by themselves.
    world.directory.lookups();
    let begun = Instant::now();
    world.restart_edge_alone().await;
    until("all gateways to be back", || all(&world)).await;
    let lookups = world.directory.lookups();
    assert!(lookups.iter().all(|l| *l == "token"), "{lookups:?}");
    assert!(lookups.len() >= 2 * GATEWAYS);
    // No second saw more of them than the edge begins in one.
    let most = (begun.elapsed().as_secs() + 2) * u64::from(PER_SECOND);
    assert!(lookups.len() as u64 <= most, "{} of {most}", lookups.len());
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn a_caller_without_end_is_told_and_takes_no_gateway_down() {
    let options = Options {
        max_streams: 100,
        ..options()
    };
    let world = World::start_with(options, |direct| direct).await;
    world.neighbour().await;
    let mut held = Vec::new();
    while let Ok(stream) = soon("a dial", world.dial()).await {
        held.push(stream);
    }
    assert_eq!(held.len(), 100);
    for _ in 0..1_000 {
        let full = freehold_tunnel::edge::DialFailure::Busy;
        assert_eq!(world.dial().await.err(), Some(full));
    }
    assert!(world.get_from_neighbour().await.unwrap().contains("200"));
    held.pop();
    assert!(world.get("/").await.unwrap().contains("200"));
    assert_eq!(world.edge.connections(&world.tunnel).len(), 2);
}
