//! A tunnel that may pass only so much in a second. It is measured that it does not pass more, and never
//! that it is quick.

mod world;

use std::time::Instant;

use freehold_tunnel::edge::{Guarded, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use world::{World, ask, options};

/// Bytes a second.
const RATE: usize = 1 << 20;
/// What may pass beside that: a tenth of a second ahead, and what each stream has its turn for.
const AHEAD: usize = RATE / 10 + (64 << 10);

async fn limited() -> World {
    let options = Options {
        bandwidth: Some(RATE as u64),
        ..options()
    };
    World::start_with(options, |direct| direct).await
}

async fn endless(world: &World) -> TlsStream<Guarded> {
    let mut stream = world.dial().await.unwrap();
    let request = b"GET /endless HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n";
    stream.write_all(request).await.unwrap();
    stream
}

fn may_have_passed(since: Instant) -> usize {
    (RATE as f64 * since.elapsed().as_secs_f64()) as usize + AHEAD
}

#[tokio::test]
async fn bulk_is_held_to_the_limit_and_small_requests_get_through() {
    let world = limited().await;
    world.neighbour().await;
    let begun = Instant::now();
    let (mut one, mut other) = (endless(&world).await, endless(&world).await);
    let mut kept = world.dial().await.unwrap();
    let mut halves = [vec![0; RATE], vec![0; RATE]];
    let [of_one, of_other] = &mut halves;
    // Beside them, requests of the same tunnel have their turns, and those of another do not notice.
    let small = async {
        for _ in 0..10 {
            let hello = "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n";
            assert!(ask(&mut kept, hello).await.contains("200"));
            assert!(world.get_from_neighbour().await.unwrap().contains("200"));
        }
    };
    let (first, second, ()) =
        tokio::join!(one.read_exact(of_one), other.read_exact(of_other), small);
    first.and(second).unwrap();
    let most = may_have_passed(begun);
    assert!(2 * RATE <= most, "{most}");
}

#[tokio::test]
async fn what_is_held_back_arrives_whole_both_ways() {
    let world = limited().await;
    let body = "x".repeat(RATE);
    let request = format!(
        "POST /echo HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nContent-Length: {RATE}\r\n\r\n{body}"
    );
    let begun = Instant::now();
    let mut stream = world.dial().await.unwrap();
    let answer = ask(&mut stream, &request).await;
    assert!(answer.ends_with(&body), "{}", answer.len());
    // First all of it went up, then all of it down.
    let most = may_have_passed(begun) + AHEAD;
    assert!(2 * RATE <= most, "{most}");
}
