//! Certificates of servers that are dialled directly.

use std::sync::Arc;

use freehold_base::IdSource;
use freehold_base::net::{AddressPolicy, Exception};
use freehold_mcp::{Destination, Dial, Direct};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;

/// A server for `name`, and the authority that vouches for it.
async fn server(name: &str) -> (u16, String) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![name.to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await;
        }
    });
    (port, authority.pem())
}

async fn dial(host: &str, port: u16, extra: Option<&str>) -> Result<(), String> {
    let loopback: Vec<Exception> = ["127.0.0.0/8", "::1/128"]
        .map(|net| net.parse().unwrap())
        .into();
    let policy = AddressPolicy::allowing(loopback);
    let direct = Direct::new(policy, extra.map(str::as_bytes)).unwrap();
    let to = Destination {
        workspace: IdSource::system().next(),
        tls: true,
        host: host.into(),
        port,
    };
    direct.dial(&to).await.map(drop).map_err(|error| error.0)
}

#[tokio::test]
async fn only_a_known_authority_and_the_right_name_are_trusted() {
    let (port, authority) = server("localhost").await;
    assert_eq!(dial("localhost", port, Some(&authority)).await, Ok(()));
    let (_, other) = server("localhost").await;
    for (host, extra) in [
        ("localhost", None),
        ("localhost", Some(&other)),
        ("127.0.0.1", Some(&authority)),
    ] {
        let error = dial(host, port, extra.map(String::as_str))
            .await
            .unwrap_err();
        assert!(error.starts_with("TLS with the server failed"), "{error}");
    }
}

#[test]
fn an_authority_that_cannot_be_read_is_an_error() {
    for pem in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        assert!(Direct::new(AddressPolicy::public_only(), Some(pem.as_bytes())).is_err());
    }
}
