//! Handshakes over real connections with what `certificates.rs` puts before the rules alone: whatever is
//! wrong with what a gateway shows, it hears nothing of the request.

mod hostile;
mod world;

use std::sync::{Arc, Mutex};

use freehold_base::Secret;
use freehold_tunnel::edge::DialFailure;
use freehold_tunnel::gateway::setup;
use freehold_tunnel::transport::connect::{ConnectError, Incoming, Target, connect};
use freehold_tunnel::transport::trust::Trust;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use hostile::*;
use world::{TOKEN, World, authority};

const HOST: &str = "app.abc.tunnel.test";

fn leaf(names: &[&str]) -> CertificateParams {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Ends TLS with a certificate, those that are sent along, and its key.
fn shows(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_gateway_with_a_wrong_certificate_hears_no_word() {
    let world = World::start().await;
    world.stop_gateway().await;
    // The tunnel trusts another authority, too.
    let other = CertifiedIssuer::self_signed(ca("other"), KeyPair::generate().unwrap()).unwrap();
    let own = world.directory.trusted();
    let both = [own.clone(), vec![other.der().clone()]].concat();
    world.directory.trust(both);
    world.edge.changed(&world.tunnel).await;
    let file = |name: &str| std::fs::read_to_string(world.files().join(name)).unwrap();
    let key = KeyPair::from_pem(&file(setup::CA_KEY)).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&file(setup::CA_CERT), key).unwrap();
    let signed = |params: CertificateParams| {
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &issuer).unwrap();
        shows(vec![made.der().clone()], &key)
    };
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = leaf(&[HOST]);
        change(&mut params);
        signed(params)
    };
    let between = CertifiedIssuer::signed_by(ca("between"), KeyPair::generate().unwrap(), &issuer);
    let between = between.unwrap();
    let below = KeyPair::generate().unwrap();
    let through = leaf(&[HOST]).signed_by(&below, &between).unwrap();
    // Its own name for the other's work, as its issuer's key has it.
    let key_id = freehold_tunnel::certificate::authority::stored(&own[0])
        .unwrap()
        .key_id;
    let length = u8::try_from(key_id.len()).unwrap();
    let content = [&[0x30, length + 2, 0x80, length], &key_id[..]].concat();
    let mut crossed = leaf(&[HOST]);
    crossed.use_authority_key_identifier_extension = false;
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 35], content);
    crossed.custom_extensions.push(extension);
    let crossed_key = KeyPair::generate().unwrap();
    let crossed = crossed.signed_by(&crossed_key, &other).unwrap();
    let same_name = tempfile::tempdir().unwrap();
    let now = freehold_base::IdSource::system().clock().now();
    let same_name_pem = setup::new_authority(same_name.path(), "tnl_1", now).unwrap();
    let same_name_key = std::fs::read_to_string(same_name.path().join(setup::CA_KEY)).unwrap();
    let same_name_key = KeyPair::from_pem(&same_name_key).unwrap();
    let same_name = Issuer::from_ca_cert_pem(&same_name_pem, same_name_key).unwrap();
    let strange = KeyPair::generate().unwrap();
    let stranger = leaf(&[HOST]).signed_by(&strange, &same_name).unwrap();
    let odd = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let ed25519 = leaf(&[HOST]).signed_by(&odd, &issuer).unwrap();

    let tls = Arc::new(Mutex::new(signed(leaf(&[HOST]))));
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let (shown, hears) = (Arc::clone(&tls), Arc::clone(&heard));
    impostor(&world, move |Incoming { stream, .. }| {
        let (tls, heard) = (shown.lock().unwrap().clone(), Arc::clone(&hears));
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            if let Ok(mut stream) = tls.accept(stream).await {
                let _ = stream.read_to_end(&mut bytes).await;
            }
            heard.lock().unwrap().extend(bytes);
        });
    })
    .await;
    drop(world.dial().await.expect("a good one is taken"));
    for (what, shown) in [
        ("another name", signed(leaf(&["b.abc.tunnel.test"]))),
        ("the domain itself", signed(leaf(&["abc.tunnel.test"]))),
        ("two wildcards", signed(leaf(&["*.*.tunnel.test"]))),
        ("a wildcard above", signed(leaf(&["*.tunnel.test"]))),
        ("a wildcard below", signed(leaf(&["*.app.abc.tunnel.test"]))),
        (
            "an address and the name as CN",
            with(&|p| {
                p.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
                p.distinguished_name.push(DnType::CommonName, HOST);
            }),
        ),
        (
            "the name as CN alone",
            with(&|p| {
                p.subject_alt_names.clear();
                p.distinguished_name.push(DnType::CommonName, HOST);
            }),
        ),
        (
            "for clients",
            with(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ),
        (
            "no issuer's key",
            with(&|p| p.use_authority_key_identifier_extension = false),
        ),
        (
            "another issuer's key",
            shows(vec![crossed.der().clone()], &crossed_key),
        ),
        (
            "through an intermediate",
            shows(vec![through.der().clone(), between.der().clone()], &below),
        ),
        (
            "expired",
            with(&|p| p.not_after = date_time_ymd(2020, 1, 1)),
        ),
        (
            "not yet",
            with(&|p| p.not_before = date_time_ymd(2090, 1, 1)),
        ),
        ("Ed25519", shows(vec![ed25519.der().clone()], &odd)),
        (
            "an authority of the same name",
            shows(vec![stranger.der().clone()], &strange),
        ),
        (
            "an authority itself",
            with(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
    ] {
        *tls.lock().unwrap() = shown;
        let failed = soon(what, world.dial()).await.err();
        let refused = matches!(failed, Some(DialFailure::Certificate(_)));
        // For some keys there is no signature that both sides know, and nothing is shown at all.
        let unshown = what == "Ed25519" && matches!(failed, Some(DialFailure::Broken(_)));
        assert!(refused || unshown, "{what}: {failed:?}");
    }
    assert!(heard.lock().unwrap().is_empty(), "something was said");
}

#[tokio::test]
async fn the_gateway_speaks_tls_1_3_alone_with_its_edge() {
    let made = self_signed("edge");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = |trust: Trust| Target {
        edge: listener.local_addr().unwrap().to_string(),
        proxy: None,
        tls: trust.client_config().unwrap(),
        token: Secret::new(TOKEN.to_owned()),
        gateway_id: "gw".to_owned(),
        index: 0,
    };
    let pinned = || Trust::Fingerprint(Sha256::digest(made.cert.der()).into());
    for (what, trust, versions, alpn) in [
        (
            "TLS 1.2",
            pinned(),
            &[&rustls::version::TLS12],
            &b"mtun/1"[..],
        ),
        (
            "another protocol",
            pinned(),
            &[&rustls::version::TLS13],
            b"h2",
        ),
        (
            "another certificate",
            Trust::Fingerprint([7; 32]),
            &[&rustls::version::TLS13],
            b"mtun/1",
        ),
        (
            "another authority",
            Trust::Authorities(vec![authority("x")]),
            &[&rustls::version::TLS13],
            b"mtun/1",
        ),
    ] {
        let acceptor = acceptor(&made, versions, alpn);
        let listen = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut said = Vec::new();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_to_end(&mut said).await;
            }
            said
        };
        let target = target(trust);
        let both = async { tokio::join!(connect(&target), listen) };
        let (failed, said) = soon(what, both).await;
        assert!(matches!(failed.err(), Some(ConnectError::Tls(_))), "{what}");
        assert!(said.is_empty(), "{what}: the token was said");
    }
}
