//! Hostile gateways, hostile edges, and networks that do what they like. Whatever they do, only they
//! fare worse for it.

mod hostile;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_tunnel::edge::{DialFailure, Options};
use freehold_tunnel::transport::connect::Incoming;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use hostile::*;
use world::logs::Logs;
use world::{TOKEN, World, options};

const HOST: &str = "app.abc.tunnel.test";

fn long(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
    let mut head = frame(kind, flags, stream, &[]);
    head[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    head
}

#[tokio::test]
async fn a_gateway_that_breaks_the_protocol_is_let_go_and_no_other() {
    let world = World::start().await;
    let overflow = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    let endless = frame(CONTINUATION, 0, 1, &[0x10, 1, b'a', 1, b'b'].repeat(3_000));
    let attacks = [
        ("a frame too large", long(DATA, 0, 1, 0xff_ffff)),
        ("a window that overflows", overflow.repeat(2)),
        ("data on no stream", frame(DATA, 0, 1, b"x")),
        ("a reset of no stream", frame(RST_STREAM, 0, 1, &[0; 4])),
        ("an answer to nothing", frame(HEADERS, END_HEADERS, 1, OK)),
        (
            "a push",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]),
        ),
        (
            "a broken header block",
            frame(HEADERS, END_HEADERS, 1, &[0xff; 64]),
        ),
        (
            "a header block without end",
            [frame(HEADERS, 0, 1, OK), endless.repeat(64)].concat(),
        ),
        (
            "a continuation of nothing",
            frame(CONTINUATION, END_HEADERS, 1, OK),
        ),
        ("settings of a wrong length", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings for a stream", frame(SETTINGS, 0, 1, &[])),
        (
            "frames too small",
            frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        ),
        (
            "a window too large",
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "an answer to no settings",
            frame(SETTINGS, 1, 0, &[]).repeat(8),
        ),
        ("a ping of a wrong length", frame(PING, 0, 0, &[0; 7])),
        ("a ping of a stream", frame(PING, 0, 1, &[0; 8])),
        (
            "text",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
        ),
    ];
    for (what, bytes) in attacks {
        let mut peer = Peer::enter(&world).await;
        peer.say(&bytes).await;
        peer.ends(what).await;
        assert!(world.get("/").await.unwrap().contains("200"), "{what}");
    }
    let left = world.edge.connections(&world.tunnel);
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn a_flood_of_frames_stays_with_its_gateway() {
    let world = World::start().await;
    let before = resident();
    for (what, bytes) in [
        ("settings", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff])),
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("priorities", frame(PRIORITY, 0, 1, &[0; 5])),
        ("window updates", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("frames nobody knows", frame(0xbe, 0, 0, b"?")),
        (
            "farewells",
            frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]),
        ),
    ] {
        let began = worked();
        let mut peer = Peer::enter(&world).await;
        peer.flood(&bytes).await;
        assert!(world.get("/").await.unwrap().contains("200"), "{what}");
        check_work(began, what);
        check_kept(before, what);
    }
}

#[tokio::test]
async fn a_stream_that_a_hostile_gateway_takes_goes_to_another() {
    let world = impatient().await;
    let before = resident();
    let held = busy(&world).await;
    type Attack = fn(u32) -> (Vec<u8>, Vec<u8>);
    let attacks: [(&str, Attack); 12] = [
        ("no answer", |_| (Vec::new(), Vec::new())),
        ("a refusal", |s| {
            (frame(RST_STREAM, 0, s, &[0, 0, 0, 7]), Vec::new())
        }),
        ("a farewell", |_| (frame(GOAWAY, 0, 0, &[0; 8]), Vec::new())),
        ("an answer without a status", |s| {
            (
                frame(HEADERS, END_HEADERS, s, &[0x10, 1, b'a', 1, b'b']),
                Vec::new(),
            )
        }),
        ("another status", |s| {
            (frame(HEADERS, END_HEADERS, s, &[0x8e]), Vec::new())
        }),
        ("a window that overflows", |s| {
            (
                frame(WINDOW_UPDATE, 0, s, &0x7fff_ffff_u32.to_be_bytes()).repeat(2),
                Vec::new(),
            )
        }),
        ("an end at once", |s| {
            (frame(HEADERS, END_HEADERS | END_STREAM, s, OK), Vec::new())
        }),
        ("what is no TLS", |s| {
            (
                frame(HEADERS, END_HEADERS, s, OK),
                frame(DATA, 0, s, &[b'x'; 1000]),
            )
        }),
        ("nothing without end", |s| {
            (frame(HEADERS, END_HEADERS, s, OK), frame(DATA, 0, s, &[]))
        }),
        ("more than the window", |s| {
            let data = frame(DATA, 0, s, &[22; 16 << 10]);
            (frame(HEADERS, END_HEADERS, s, OK), data.repeat(20))
        }),
        ("heads that come before the head", |s| {
            (
                Vec::new(),
                frame(HEADERS, END_HEADERS, s, &[0x08, 3, b'1', b'0', b'3']),
            )
        }),
        ("a head that unpacks to much", |s| {
            // A long field once, and then its place in the table again and again.
            let mut block = vec![0x88, 0x40, 1, b'a', 0x7f, 0xb1, 0x1e];
            block.extend([b'b'; 4_000]);
            block.extend([0xbe; 12_000]);
            (frame(HEADERS, END_HEADERS, s, &block), Vec::new())
        }),
    ];
    for (what, attack) in attacks {
        let mut peer = Peer::enter(&world).await;
        let hostile = async {
            let (first, again) = attack(peer.stream().await);
            peer.say(&first).await;
            if !again.is_empty() {
                peer.flood(&again).await;
            }
            peer
        };
        let (dialled, peer) = soon(what, async { tokio::join!(world.get("/"), hostile) }).await;
        let dialled = dialled.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(dialled.contains("200"), "{what}: {dialled}");
        check_kept(before, what);
        drop(peer);
        until("the hostile gateway to be gone", || {
            world.edge.connections(&world.tunnel).len() == held.len()
        })
        .await;
    }
}

#[tokio::test]
async fn a_middlebox_that_ends_tls_itself_hears_no_word() {
    let world = World::start().await;
    world.stop_gateway().await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    // It has a certificate for the very name, of an authority of its own.
    let tls = acceptor(&self_signed(HOST), &[&rustls::version::TLS13], b"http/1.1");
    let hears = Arc::clone(&heard);
    impostor(&world, move |Incoming { stream, .. }| {
        let (tls, heard) = (tls.clone(), Arc::clone(&hears));
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            let outcome = match tls.accept(stream).await {
                Ok(mut stream) => stream.read_to_end(&mut bytes).await.map(|_| ()),
                Err(error) => Err(error),
            };
            heard.lock().unwrap().push((outcome.is_ok(), bytes));
        });
    })
    .await;
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Certificate(_)), "{failed}");
    until("the middlebox to be told", || {
        !heard.lock().unwrap().is_empty()
    })
    .await;
    let heard = heard.lock().unwrap();
    assert!(
        heard.iter().all(|(ok, bytes)| !ok && bytes.is_empty()),
        "{heard:?}"
    );
}

#[tokio::test]
async fn a_gateway_without_tls_hears_no_word() {
    let world = World::start().await;
    world.stop_gateway().await;
    let heard = Arc::new(Mutex::new(None));
    let hears = Arc::clone(&heard);
    impostor(&world, move |Incoming { mut stream, .. }| {
        let heard = Arc::clone(&hears);
        tokio::spawn(async move {
            let mut bytes = vec![0];
            let _ = stream.read_exact(&mut bytes).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.read_to_end(&mut bytes).await;
            *heard.lock().unwrap() = Some(bytes);
        });
    })
    .await;
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Broken(_)), "{failed}");
    until("the gateway to be told", || heard.lock().unwrap().is_some()).await;
    let heard = heard.lock().unwrap().take().unwrap();
    // A handshake begins with this byte; of the request there is nothing.
    assert_eq!(heard[0], 22);
    assert!(!heard.windows(4).any(|w| w == b"GET " || w == b"HTTP"));
}

#[tokio::test]
async fn only_tls_1_3_is_spoken_and_nothing_early() {
    let world = World::start().await;
    // At the door.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let knock = async |versions: &[&'static rustls::SupportedProtocolVersion]| {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"mtun/1".to_vec()];
        config.enable_early_data = true;
        TlsConnector::from(Arc::new(config))
    };
    let old = knock(&[&rustls::version::TLS12]).await;
    let name = ServerName::try_from("edge").unwrap();
    let tcp = TcpStream::connect(world.address).await.unwrap();
    assert!(old.connect(name.clone(), tcp).await.is_err());
    let new = knock(&[&rustls::version::TLS13]).await;
    for _ in 0..2 {
        let tcp = TcpStream::connect(world.address).await.unwrap();
        let mut stream = new.connect(name.clone(), tcp).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert!(!session.is_early_data_accepted());
    }
    // Inside: the honest gateway's own certificate, over an older TLS.
    world.stop_gateway().await;
    let chain = CertificateDer::pem_file_iter(world.files().join("tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(world.files().join("tls.key")).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let tls = TlsAcceptor::from(Arc::new(config));
    impostor(&world, move |Incoming { stream, .. }| {
        let tls = tls.clone();
        tokio::spawn(async move { tls.accept(stream).await.is_ok() });
    })
    .await;
    let failed = world.dial().await.err().unwrap();
    assert!(matches!(failed, DialFailure::Broken(_)), "{failed}");
}

/// Trusts everybody.
#[derive(Debug)]
struct Credulous;

impl rustls::client::danger::ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn a_stolen_token_without_the_key_takes_no_requests_away() {
    let (logs, _guard) = Logs::start();
    let world = World::start().await;
    let tls = acceptor(&self_signed(HOST), &[&rustls::version::TLS13], b"http/1.1");
    impostor(&world, move |Incoming { stream, .. }| {
        let tls = tls.clone();
        tokio::spawn(async move { tls.accept(stream).await.is_ok() });
    })
    .await;
    let held = busy(&world).await;
    for _ in 0..10 {
        assert!(world.get("/").await.unwrap().contains("200"));
    }
    let health = |c: &freehold_tunnel::edge::ConnectionInfo| (c.gateway == "hostile", c.healthy);
    let mut health: Vec<_> = world
        .edge
        .connections(&world.tunnel)
        .iter()
        .map(health)
        .collect();
    health.sort_unstable();
    assert_eq!(health, [(false, true), (false, true), (true, false)]);
    // It was asked once, and that is said.
    let said = logs.all("inner handshake failed");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(
        (&said[0]["level"], &said[0]["gateway"]),
        (&"WARN".into(), &"hostile".into())
    );
    drop(held);
}

#[tokio::test]
async fn gateways_that_hang_are_asked_once_as_long_as_another_serves() {
    let world = impatient().await;
    let asked = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let asked = Arc::clone(&asked);
        impostor(&world, move |Incoming { stream, .. }| {
            asked.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let _held = stream;
                std::future::pending::<()>().await;
            });
        })
        .await;
    }
    let all = || world.edge.connections(&world.tunnel).len() == 4;
    until("all connections", all).await;
    let held = busy(&world).await;
    for _ in 0..5 {
        assert!(world.get("/").await.unwrap().contains("200"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    drop(held);
}

#[tokio::test]
async fn whoever_takes_long_at_any_step_keeps_nobody_waiting() {
    let options = Options {
        register: Duration::from_secs(1),
        open: Duration::from_secs(2),
        ..options()
    };
    let world = World::start_with(options, |direct| direct).await;
    // No TLS; no word inside it; a word that does not end.
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let mut mute = world.knock().await;
    let mut slow = world.knock().await;
    slow.write_all(b"POST /v1/tunnel-connect HTTP/1.1\r\nUpgrade:")
        .await
        .unwrap();
    assert!(world.get("/").await.unwrap().contains("200"));
    let _ = soon(
        "the silent one to be dropped",
        silent.read_to_end(&mut Vec::new()),
    )
    .await;
    let _ = soon(
        "the mute one to be dropped",
        mute.read_to_end(&mut Vec::new()),
    )
    .await;
    let drip = async {
        while slow.write_all(b" ").await.is_ok() && slow.flush().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    soon("the slow one to be dropped", drip).await;
    // A stream that is taken, with no handshake on it, and one that is not taken.
    world.stop_gateway().await;
    impostor(&world, |Incoming { stream, .. }| {
        tokio::spawn(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
    })
    .await;
    let failed = soon("the dial to fail", world.dial()).await.err().unwrap();
    assert!(
        failed.to_string().contains("did not finish the handshake"),
        "{failed}"
    );
    // Both fail, and the last is told of; the first is the one that has not failed yet.
    let mut peer = Peer::enter(&world).await;
    let (failed, _) = tokio::join!(world.dial(), peer.stream());
    assert!(matches!(failed.err(), Some(DialFailure::Broken(_))));
    drop(peer);
}

#[tokio::test]
async fn hundreds_of_stalled_readers_do_not_stop_their_neighbours() {
    let world = World::start().await;
    let before = resident();
    let mut stalled = Vec::new();
    for _ in 0..256 {
        let mut stream = world.dial().await.unwrap();
        let request = format!("GET /endless HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        stalled.push(stream);
    }
    for _ in 0..20 {
        assert!(
            soon("a neighbour", world.get("/"))
                .await
                .unwrap()
                .contains("200")
        );
    }
    // The edge keeps a window of each stream, and the gateway as much that it has not sent; the rest is
    // TLS, twice at each end, and the server, all of which are here.
    let kept = resident().saturating_sub(before);
    assert!(kept < 256 * 5 * (256 << 10), "{kept} bytes");
}

#[tokio::test]
async fn a_connection_carries_as_many_streams_as_it_may_and_the_next_is_told() {
    let options = Options {
        max_streams: usize::MAX,
        ..options()
    };
    let world = World::start_with(options, |direct| direct).await;
    let mut held = Vec::new();
    let failed = loop {
        match soon("a dial", world.dial()).await {
            Ok(stream) => held.push(stream),
            Err(failed) => break failed,
        }
    };
    assert_eq!(failed, DialFailure::Busy);
    // Two connections of 256 each.
    assert_eq!(held.len(), 512);
    held.truncate(500);
    assert!(world.get("/").await.unwrap().contains("200"));
    assert_eq!(world.edge.connections(&world.tunnel).len(), 2);
}

#[tokio::test]
async fn a_gateway_gets_through_an_http_proxy_which_reads_nothing() {
    let proxy = Proxy::start().await;
    let address = Some(proxy.address);
    let world = World::start_with(options(), |direct| world::Way {
        proxy: address,
        ..direct
    })
    .await;
    assert!(world.get("/marked-path").await.unwrap().contains("200"));
    let asked = proxy.asked.lock().unwrap();
    let expected = format!("CONNECT {} HTTP/1.1\r\n", world.address);
    assert!(
        asked.len() >= 2 && asked.iter().all(|a| a.starts_with(&expected)),
        "{asked:?}"
    );
    let passed = proxy.passed.lock().unwrap();
    for secret in [TOKEN, "marked-path", HOST] {
        assert!(
            !passed.windows(secret.len()).any(|w| w == secret.as_bytes()),
            "{secret}"
        );
    }
}

#[tokio::test]
async fn a_network_that_falls_silent_is_noticed_on_both_ends() {
    let proxy = Proxy::start().await;
    let address = Some(proxy.address);
    let options = Options {
        ping: Duration::from_secs(2),
        open: Duration::from_secs(2),
        ..options()
    };
    let world = World::start_with(options, |direct| world::Way {
        proxy: address,
        ..direct
    })
    .await;
    let mut open = world.dial().await.unwrap();
    proxy.freeze();
    // Nothing is closed, and yet it fails, and says how.
    let failed = soon("a dial to fail", world.dial()).await.err().unwrap();
    assert!(
        matches!(failed, DialFailure::Broken(_) | DialFailure::NoGateway),
        "{failed}"
    );
    until("the edge to notice", || {
        world.edge.connections(&world.tunnel).is_empty()
    })
    .await;
    assert_eq!(world.dial().await.err(), Some(DialFailure::NoGateway));
    let _ = soon("the open stream to end", open.read_to_end(&mut Vec::new())).await;
    // The gateway notices by itself, and comes by a fresh way.
    until("the gateway to come back", || {
        !world.edge.connections(&world.tunnel).is_empty()
    })
    .await;
    assert!(world.get("/").await.unwrap().contains("200"));
}

#[tokio::test]
async fn an_edge_that_breaks_the_protocol_is_let_go() {
    let edge = FalseEdge::start().await;
    let world = World::start_with(options(), |direct| edge.way(direct)).await;
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let block = connect_block("app.abc.tunnel.test:443");
    let open = frame(HEADERS, END_HEADERS, 1, &block);
    let overflow = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    let endless = frame(CONTINUATION, 0, 1, &[0x10, 1, b'a', 1, b'b'].repeat(3_000));
    let attacks = [
        (
            "no preface",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n........".to_vec(),
        ),
        (
            "a frame too large",
            [hello.clone(), long(DATA, 0, 1, 0xff_ffff)].concat(),
        ),
        (
            "a window that overflows",
            [hello.clone(), overflow.repeat(2)].concat(),
        ),
        (
            "data on no stream",
            [hello.clone(), frame(DATA, 0, 1, b"x")].concat(),
        ),
        (
            "a stream of the wrong side",
            [hello.clone(), frame(HEADERS, END_HEADERS, 2, &block)].concat(),
        ),
        (
            "a header block without end",
            [
                hello.clone(),
                frame(HEADERS, 0, 1, &block),
                endless.repeat(64),
            ]
            .concat(),
        ),
        (
            "a header block that is broken off",
            [
                hello.clone(),
                frame(HEADERS, 0, 1, &block),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
        ),
        (
            "more than the window",
            [
                hello.clone(),
                open.clone(),
                frame(DATA, 0, 1, &[22; 16 << 10]).repeat(5_000),
            ]
            .concat(),
        ),
        (
            "a broken header block",
            [hello.clone(), frame(HEADERS, END_HEADERS, 1, &[0xff; 64])].concat(),
        ),
        (
            "settings of a wrong length",
            [hello.clone(), frame(SETTINGS, 0, 0, &[0; 5])].concat(),
        ),
    ];
    for (what, bytes) in attacks {
        edge.attack(&world, what, Attack::UntilItEnds(bytes)).await;
        assert!(world.get("/").await.unwrap().contains("200"), "{what}");
    }
    world.connected().await;
}

#[tokio::test]
async fn an_edge_that_floods_its_gateway_gets_no_more_than_its_share() {
    let edge = FalseEdge::start().await;
    let world = World::start_with(options(), |direct| edge.way(direct)).await;
    let before = resident();
    let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let block = connect_block("app.abc.tunnel.test:443");
    // Streams that are opened and taken back at once: many, each with a number of its own.
    let streams = |reset: bool| -> Vec<u8> {
        let one = |i: u32| {
            let id = 2 * i + 1;
            let mut frames = frame(HEADERS, END_HEADERS, id, &block);
            if reset {
                frames.extend(frame(RST_STREAM, 0, id, &[0, 0, 0, 8]));
            }
            frames
        };
        (0..20_000).flat_map(one).collect()
    };
    let open = [hello.clone(), frame(HEADERS, END_HEADERS, 1, &block)].concat();
    let attacks = [
        (
            "rapid resets",
            Attack::Once([hello.clone(), streams(true)].concat()),
        ),
        (
            "streams without end",
            Attack::Once([hello.clone(), streams(false)].concat()),
        ),
        (
            "settings",
            Attack::Flood(
                hello.clone(),
                frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
            ),
        ),
        (
            "pings",
            Attack::Flood(hello.clone(), frame(PING, 0, 0, &[7; 8])),
        ),
        (
            "nothing without end",
            Attack::Flood(open.clone(), frame(DATA, 0, 1, &[])),
        ),
        (
            "window updates",
            Attack::Flood(open, frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
        ),
    ];
    for (what, attack) in attacks {
        let began = worked();
        edge.attack(&world, what, attack).await;
        assert!(world.get("/").await.unwrap().contains("200"), "{what}");
        check_work(began, what);
        check_kept(before, what);
    }
    world.connected().await;
}

#[tokio::test]
async fn an_answer_that_is_no_welcome_is_left_alone() {
    let edge = FalseEdge::start().await;
    let world = World::start_with(options(), |direct| edge.way(direct)).await;
    let before = resident();
    let welcome =
        |more: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{more}\r\n").into_bytes();
    let long = format!(
        r#"mtun-welcome: {{"connection_id":"{}"}}"#,
        "x".repeat(1 << 20)
    );
    for (what, answer) in [
        ("nothing", Vec::new()),
        ("noise", vec![0xff; 4_000]),
        ("a head without end", vec![b'a'; 8 << 20]),
        (
            "a page",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec(),
        ),
        (
            "a redirect",
            b"HTTP/1.1 302 Found\r\nLocation: https://evil.test/\r\n\r\n".to_vec(),
        ),
        ("no welcome", welcome("")),
        ("a welcome that is no JSON", welcome("mtun-welcome: {\r\n")),
        ("a welcome of other things", welcome("mtun-welcome: []\r\n")),
        ("a welcome without end", welcome(&long)),
        ("two welcomes", welcome(&"mtun-welcome: {}\r\n".repeat(2))),
    ] {
        edge.attack(&world, what, Attack::Answer(answer)).await;
        assert!(world.get("/").await.unwrap().contains("200"), "{what}");
    }
    check_kept(before, "answers that are no welcome");
    world.connected().await;
}
