//! Whom a gateway takes for its edge.

use std::sync::Arc;

use freehold_base::hex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use super::ALPN;

/// What a gateway knows of its edge's certificate.
#[derive(Debug, Clone)]
pub enum Trust {
    /// It is signed by an authority of the system.
    System,
    /// It is signed by one of these.
    Authorities(Vec<CertificateDer<'static>>),
    /// It is this very one: SHA-256 of it.
    Fingerprint([u8; 32]),
}

impl Trust {
    /// How TLS is spoken with the edge: 1.3, and nothing else.
    ///
    /// # Errors
    /// An authority cannot be used.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut roots = RootCertStore::empty();
        let mut config = match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::Authorities(authorities) => {
                for authority in authorities {
                    roots.add(authority.clone())?;
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::Fingerprint(pinned) => {
                let pinned = Pinned::new(*pinned, provider);
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(pinned))
                    .with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        Ok(Arc::new(config))
    }
}

/// A fingerprint as people write it: 64 hexadecimal digits, with or without colons.
pub fn fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    hex::decode(&digits)
}

/// Takes one certificate, whatever is in it, and no other.
#[derive(Debug)]
pub struct Pinned {
    pinned: [u8; 32],
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl Pinned {
    /// The one of which this is the SHA-256.
    pub fn new(pinned: [u8; 32], provider: Arc<rustls::crypto::CryptoProvider>) -> Self {
        Self { pinned, provider }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let seen: [u8; 32] = Sha256::digest(end_entity).into();
        match seen == self.pinned {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General(
                "the certificate has another fingerprint".into(),
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
