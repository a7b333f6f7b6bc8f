//! Certificates that expire while they are in use, and clocks that are set.

mod world;

use std::sync::Arc;
use std::time::Duration;

use freehold_base::{Clock, ManualClock, SystemClock};
use freehold_tunnel::edge::{ConnectionInfo, DialFailure, Guarded, Options};
use freehold_tunnel::gateway::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use world::logs::Logs;
use world::{Given, World, ask, options};

const HELLO: &str = "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n";
const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: app.abc.tunnel.test\r\nConnection: close\r\n\r\n";
const HOUR: i64 = 60 * 60 * 1_000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A world whose clock is set by hand, and whose certificate is valid for so long.
async fn world(valid: Duration) -> (World, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let given = Given {
        clock: Arc::clone(&clock) as _,
        valid,
        options: Options {
            look: Duration::from_millis(5),
            ..options()
        },
        limits: Limits {
            look: Duration::from_millis(20),
            ..Limits::default()
        },
        ..Given::default()
    };
    (World::with(given).await, clock)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}

/// How a stream ends that nothing is said on.
async fn end(stream: &mut TlsStream<Guarded>) -> String {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    let error = ended.expect("the stream lives on").unwrap_err();
    error.to_string()
}

fn has_expired(failed: Option<&DialFailure>) -> bool {
    matches!(failed, Some(DialFailure::Certificate(why)) if why.to_lowercase().contains("expired"))
}

#[tokio::test]
async fn what_is_open_ends_when_the_certificate_or_its_authority_expires() {
    let (logs, _guard) = Logs::start();
    // The authority is valid for five years.
    for (valid, over) in [(30 * DAY, 31 * DAY), (4_000 * DAY, 2_000 * DAY)] {
        let (world, clock) = world(valid).await;
        let mut kept = world.dial().await.unwrap();
        let mut under_way = world.dial().await.unwrap();
        under_way.write_all(SLOW.as_bytes()).await.unwrap();
        world.reached_slow().await;
        clock.advance_millis(millis(29 * DAY));
        assert!(ask(&mut kept, HELLO).await.contains("200"));
        clock.advance_millis(millis(over - 29 * DAY));
        for stream in [&mut kept, &mut under_way] {
            assert_eq!(end(stream).await, "the gateway's certificate has expired");
        }
        drop((kept, under_way));
        let outcomes: Vec<_> = logs
            .all("stream")
            .iter()
            .map(|r| r["outcome"].clone())
            .collect();
        let last = &outcomes[outcomes.len() - 2..];
        assert_eq!(last, ["expired", "expired"]);
        let failed = world.dial().await.err();
        assert!(has_expired(failed.as_ref()), "{failed:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_renewed_late_is_taken_up() {
    let (world, clock) = world(DAY).await;
    let mut kept = world.dial().await.unwrap();
    clock.advance_millis(millis(2 * DAY));
    end(&mut kept).await;
    let failed = world.dial().await.err();
    assert!(has_expired(failed.as_ref()), "{failed:?}");
    world.renew(DAY);
    // What the status says of it was written before the clock was set.
    let taken_up = async {
        while let Err(failure) = world.dial().await {
            assert!(has_expired(Some(&failure)), "{failure:?}");
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), taken_up).await;
    assert!(waited.is_ok(), "the new certificate");
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn a_clock_that_is_set_by_an_hour_breaks_nothing() {
    // Made half a day ago, and valid for as long again: as far from both ends as can be.
    let (mut world, clock) = world(DAY).await;
    clock.advance_millis(12 * HOUR);
    let mut kept = world.dial().await.unwrap();
    let (mut read, mut write) = tokio::io::split(world.dial().await.unwrap());
    write.write_all(SLOW.as_bytes()).await.unwrap();
    write.flush().await.unwrap();
    world.reached_slow().await;
    let connections = world.edge.connections(&world.tunnel);
    for set in [HOUR, -2 * HOUR, 12 * HOUR, -11 * HOUR] {
        clock.advance_millis(set);
        // What is open goes on, and more is opened, over the connections that there are.
        assert!(ask(&mut kept, HELLO).await.contains("200"));
        assert!(world.get("/").await.unwrap().contains("200"));
        let ids = |all: &[ConnectionInfo]| all.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
        let now = world.edge.connections(&world.tunnel);
        assert_eq!(ids(&now), ids(&connections));
    }
    // What was asked before is answered.
    world.let_slow_go();
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("slow and whole"), "{answer}");
    // A connection that is lost while a clock is wrong comes back as soon as any.
    for set in [-HOUR, 2 * HOUR] {
        clock.advance_millis(set);
        let found = tokio::time::timeout(PATIENCE, world.restart_edge()).await;
        found.expect("the gateway waits for the clock");
        assert!(world.get("/").await.unwrap().contains("200"));
    }
}

#[tokio::test]
async fn a_clock_that_leaves_a_certificates_time_ends_what_is_open_and_heals() {
    let (world, clock) = world(DAY).await;
    let year = millis(365 * DAY);
    let mut open = world.dial().await.unwrap();
    // Forward: it has expired, as far as anybody knows.
    clock.advance_millis(year);
    assert_eq!(
        end(&mut open).await,
        "the gateway's certificate has expired"
    );
    assert!(has_expired(world.dial().await.err().as_ref()));
    world
        .until("the gateway to know", |s| s.certificate_days_left < 0)
        .await;
    // Its connections, on which nothing depends on the time of day, were there all along.
    assert_eq!(world.edge.connections(&world.tunnel).len(), 2);
    clock.advance_millis(-year);
    assert!(world.get("/").await.unwrap().contains("200"));
    // Back: it is not valid yet, which is no reason to end what was opened when it was.
    let mut open = world.dial().await.unwrap();
    clock.advance_millis(-year);
    assert!(ask(&mut open, HELLO).await.contains("200"));
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Certificate(_)), "{failed}");
    clock.advance_millis(year);
    assert!(world.get("/").await.unwrap().contains("200"));
}
