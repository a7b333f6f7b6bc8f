//! Between the server and the gateway sits one who carries the bytes of their streams. It cannot read
//! them; it can say them again, and say them elsewhere. Nothing of that is done twice, or believed.

mod hostile;
mod world;

use freehold_tunnel::edge::{DialFailure, Guarded};
use rustls::{AlertDescription, Error};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use hostile::{Middle, soon};
use world::{World, ask, options};

const AUTHORITY: &str = "app.abc.tunnel.test:443";
const HELLO: &str = "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n";

async fn world() -> (World, Middle) {
    let middle = Middle::start().await;
    let world = World::start_with(options(), |direct| middle.way(direct)).await;
    (world, middle)
}

/// Why a stream ends on which nothing comes that could be read.
async fn refused(stream: &mut TlsStream<Guarded>) -> Error {
    let mut rest = Vec::new();
    let ended = soon("the stream to end", stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    let why = ended.unwrap_err().into_inner().expect("TLS says why");
    *why.downcast().expect("TLS says why")
}

#[tokio::test]
async fn a_stream_that_is_replayed_to_the_gateway_does_nothing() {
    let (world, middle) = world().await;
    let mut open = world.dial().await.unwrap();
    assert!(ask(&mut open, HELLO).await.contains("200"));
    drop(open);
    let said = middle.carried()[0].up.said();
    // All of it at once, and each part as it was said.
    for size in [said.len(), 300] {
        let mut again = middle.open(AUTHORITY).await;
        for part in said.chunks(size) {
            let _ = again.write_all(part).await;
            let _ = again.flush().await;
        }
        let mut answer = Vec::new();
        let _ = soon("the replay to end", again.read_to_end(&mut answer)).await;
    }
    world
        .until("the gateway to say so", |status| {
            let last = status.last_error.as_ref();
            last.is_some_and(|(_, e)| e.contains("tls handshake failed"))
        })
        .await;
    assert_eq!(world.seen(), 1, "the server was asked again");
    // The gateway serves on.
    assert!(world.get("/").await.unwrap().contains("200"));
    assert_eq!(world.seen(), 2);
}

#[tokio::test]
async fn a_request_that_is_said_twice_on_its_stream_ends_the_stream() {
    let (world, middle) = world().await;
    let mut open = world.dial().await.unwrap();
    let carried = middle.carried().remove(0);
    assert!(ask(&mut open, HELLO).await.contains("200"));
    let before = carried.up.said().len();
    assert!(ask(&mut open, HELLO).await.contains("200"));
    carried.up.say(carried.up.said().split_off(before));
    let why = refused(&mut open).await;
    assert_eq!(why, Error::AlertReceived(AlertDescription::BadRecordMac));
    assert_eq!(world.seen(), 2, "the server was asked again");
}

#[tokio::test]
async fn an_answer_that_is_said_twice_on_its_stream_is_not_believed() {
    let (world, middle) = world().await;
    let mut open = world.dial().await.unwrap();
    let carried = middle.carried().remove(0);
    assert!(ask(&mut open, HELLO).await.contains("200"));
    let before = carried.down.said().len();
    assert!(ask(&mut open, HELLO).await.contains("200"));
    carried.down.say(carried.down.said().split_off(before));
    assert_eq!(refused(&mut open).await, Error::DecryptError);
    assert_eq!(world.seen(), 2);
}

#[tokio::test]
async fn what_a_gateway_said_once_makes_no_other_connection() {
    let (world, middle) = world().await;
    assert!(world.get("/").await.unwrap().contains("200"));
    middle.answer(middle.carried()[0].down.said());
    let failed = world.dial().await.err().unwrap();
    assert!(
        matches!(&failed, DialFailure::Broken(why) if why.contains("no TLS with the gateway")),
        "{failed}"
    );
    assert_eq!(world.seen(), 1);
}

#[tokio::test]
async fn requests_that_are_crossed_reach_no_server() {
    let (world, middle) = world().await;
    let (mut one, mut other) = (world.dial().await.unwrap(), world.dial().await.unwrap());
    for stream in [&mut one, &mut other] {
        assert!(ask(stream, HELLO).await.contains("200"));
    }
    let carried = middle.carried();
    carried[0].up.cross(&carried[1].up);
    for stream in [&mut one, &mut other] {
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    for stream in [&mut one, &mut other] {
        let why = refused(stream).await;
        assert_eq!(why, Error::AlertReceived(AlertDescription::BadRecordMac));
    }
    assert_eq!(world.seen(), 2, "a crossed request reached the server");
}

#[tokio::test]
async fn answers_that_are_crossed_reach_nobody() {
    let (world, middle) = world().await;
    let (mut one, mut other) = (world.dial().await.unwrap(), world.dial().await.unwrap());
    for stream in [&mut one, &mut other] {
        assert!(ask(stream, HELLO).await.contains("200"));
    }
    let carried = middle.carried();
    carried[0].down.cross(&carried[1].down);
    for stream in [&mut one, &mut other] {
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    for stream in [&mut one, &mut other] {
        assert_eq!(refused(stream).await, Error::DecryptError);
    }
    // Each was asked once, and nobody has the other's answer.
    assert_eq!(world.seen(), 4);
}
