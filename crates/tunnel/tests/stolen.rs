//! Who has what is not his: a token that was rotated, a ticket of an authority that went, another
//! tenant's certificate, or the gateway's token and key together.

mod hostile;
mod world;

use std::path::Path;
use std::sync::{Arc, Mutex};

use freehold_tunnel::edge::{ConnectionInfo, DialFailure};
use freehold_tunnel::transport::connect::Incoming;
use freehold_tunnel::transport::streams::{self, Bidirectional};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use hostile::*;
use world::logs::Logs;
use world::{TOKEN, World, ask, authority};

const HELLO: &str = "GET / HTTP/1.1\r\nHost: app.abc.tunnel.test\r\n\r\n";

/// Ends TLS with a gateway's own certificate and key, and hands out tickets.
fn with_files(dir: &Path) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(dir.join("tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 4;
    config.max_early_data_size = 16 << 10;
    TlsAcceptor::from(Arc::new(config))
}

type Handshakes = Arc<Mutex<Vec<Option<HandshakeKind>>>>;

/// Answers requests in place of the gateway; how its handshakes were.
async fn answer(tls: TlsAcceptor, stream: Bidirectional, kinds: Handshakes) -> Option<()> {
    let mut stream = tls.accept(stream).await.ok()?;
    kinds
        .lock()
        .unwrap()
        .push(stream.get_ref().1.handshake_kind());
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";
        stream.write_all(answer).await.ok()?;
        stream.flush().await.ok()?;
    }
}

#[tokio::test]
async fn a_connection_that_stands_registers_nobody_a_second_time() {
    let world = World::start().await;
    let again = format!(
        "POST /v1/tunnel-connect HTTP/1.1\r\nUpgrade: mtun/1\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    // `:method: POST`, `:scheme: https`, `:path: /v1/tunnel-connect`, and the token.
    let mut block = vec![0x83, 0x87, 0x04, 18];
    block.extend(b"/v1/tunnel-connect");
    block.extend([0x00, 13]);
    block.extend(b"authorization");
    let bearer = format!("Bearer {TOKEN}");
    block.push(u8::try_from(bearer.len()).unwrap());
    block.extend(bearer.bytes());
    let request = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
    for (what, said) in [
        ("in the words of before", again.into_bytes()),
        ("as a request", request(1)),
        ("as a request of the other side", request(2)),
    ] {
        let mut peer = Peer::enter(&world).await;
        world.directory.rotate("another-token");
        world.edge.changed(&world.tunnel).await;
        world.directory.lookups();
        // It stands, and carries streams; but it is no way in.
        assert_eq!(world.edge.connections(&world.tunnel).len(), 3, "{what}");
        peer.say(&said).await;
        peer.ends(what).await;
        assert_eq!(world.directory.lookups(), [""; 0], "{what}");
        let (_, refused) = world.enter(TOKEN).await;
        assert!(refused.starts_with("HTTP/1.1 401 "), "{what}: {refused}");
        let left = || world.edge.connections(&world.tunnel).len() == 2;
        until("it to be gone", left).await;
        world.directory.rotate(TOKEN);
    }
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn a_ticket_opens_nothing_before_its_authority_goes_or_after() {
    let world = World::start().await;
    world.stop_gateway().await;
    let (tls, kinds) = (with_files(world.files()), Handshakes::default());
    let told = Arc::clone(&kinds);
    impostor(&world, move |Incoming { stream, .. }| {
        tokio::spawn(answer(tls.clone(), stream, Arc::clone(&told)));
    })
    .await;
    for _ in 0..2 {
        let mut open = world.dial().await.unwrap();
        // With the answer the tickets have come.
        assert!(ask(&mut open, HELLO).await.ends_with("stolen"));
        assert_eq!(open.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert!(open.get_ref().1.tls13_tickets_received() > 0);
    }
    world.directory.trust(vec![authority("stranger")]);
    world.edge.changed(&world.tunnel).await;
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Certificate(_)), "{failed}");
    assert_eq!(*kinds.lock().unwrap(), [Some(HandshakeKind::Full); 2]);
}

#[tokio::test]
async fn a_stream_that_ends_up_at_another_tenants_gateway_says_nothing() {
    let world = World::start().await;
    world.neighbour().await;
    world.stop_gateway().await;
    // Both tenants have the same authority here, and the other one's key is all there is to tell them by.
    let tls = with_files(&world.files().join("neighbour"));
    let kinds = Handshakes::default();
    let told = Arc::clone(&kinds);
    impostor(&world, move |Incoming { stream, .. }| {
        tokio::spawn(answer(tls.clone(), stream, Arc::clone(&told)));
    })
    .await;
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Certificate(_)), "{failed}");
    assert!(kinds.lock().unwrap().is_empty(), "a handshake came about");
    assert_eq!(world.seen(), 0);
    assert!(world.get_from_neighbour().await.unwrap().contains("200"));
}

/// The token and the key are both in other hands: the worst there is. It is seen, and it can be ended.
#[tokio::test]
async fn a_stolen_token_with_its_key_is_seen_and_ended() {
    let (logs, _guard) = Logs::start();
    let world = World::start().await;
    let (stream, answered) = world.enter_from("127.0.0.9", TOKEN).await;
    assert!(answered.starts_with("HTTP/1.1 101 "), "{answered}");
    let tls = with_files(world.files());
    let taking = tokio::spawn(streams::take(stream, CancellationToken::new(), move |_| {
        let tls = tls.clone();
        let answer = |stream| {
            tokio::spawn(answer(tls, stream, Handshakes::default()));
        };
        std::future::ready(Ok(answer))
    }));
    let is_his = |c: &ConnectionInfo| c.gateway == "hostile";
    let his = || {
        world
            .edge
            .connections(&world.tunnel)
            .into_iter()
            .find(is_his)
    };
    until("the thief to be let in", || his().is_some()).await;
    // It has its share of the streams, and what is said on them.
    let mut held = Vec::new();
    let mut open = loop {
        let mut open = world.dial().await.unwrap();
        if ask(&mut open, HELLO).await.ends_with("stolen") {
            break open;
        }
        held.push(open);
        assert!(held.len() < 9, "it has none");
    };
    // Seen: where it comes from, by what name, and which streams it had.
    let id = his().unwrap().id;
    assert_eq!(his().unwrap().source.ip().to_string(), "127.0.0.9");
    let came = logs.all("gateway connected");
    let came = came.iter().find(|r| r["connection"] == *id).unwrap();
    assert_eq!(came["gateway"], "hostile");
    assert!(came["source"].as_str().unwrap().starts_with("127.0.0.9:"));
    // Ended: another token keeps it from coming back, and without its authority it has no streams.
    world.directory.rotate("another-token");
    world.edge.changed(&world.tunnel).await;
    world.directory.trust(vec![authority("another")]);
    world.edge.changed(&world.tunnel).await;
    let cut = soon("its stream to end", open.read_u8()).await;
    assert!(cut.is_err());
    drop((open, held));
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Certificate(_)), "{failed}");
    let records = logs.all("stream");
    let of_his: Vec<_> = records.iter().filter(|r| r["connection"] == *id).collect();
    assert_eq!(of_his[0]["outcome"], "changed", "{of_his:?}");
    assert_eq!(of_his[0]["gateway"], "hostile");
    // The connection goes with the tunnel, and does not come back.
    world.directory.archive();
    world.edge.changed(&world.tunnel).await;
    let _ = soon("its connection to end", taking).await;
    assert!(world.edge.connections(&world.tunnel).is_empty());
    let (_, refused) = world.enter_from("127.0.0.9", TOKEN).await;
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    assert!(!logs.text().contains(TOKEN));
}
