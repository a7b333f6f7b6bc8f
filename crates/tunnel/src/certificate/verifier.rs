//! The inner handshake, seen from the server: the gateway must show a certificate that one of the
//! tunnel's authorities signed itself, for exactly the name that is called.

use std::sync::Arc;

use freehold_base::{SharedClock, Timestamp};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER;
use x509_parser::prelude::*;

use super::authority::{Authority, extension, validity};
use super::rules;

/// What gateways may sign handshakes with.
const SCHEMES: [SignatureScheme; 5] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];

/// How TLS is spoken with a gateway whose tunnel trusts `authorities`: TLS 1.3, HTTP/1.1, and no
/// resumption, which would outlive an authority that is taken away.
///
/// # Errors
/// No authority can be used.
pub fn client_config(
    authorities: Vec<Authority>,
    clock: SharedClock,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = TunnelVerifier::new(authorities, clock, &provider)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

/// The authority that vouches for a certificate which was accepted with `authorities`, and until when:
/// the end of the certificate, or of the authority if that comes first.
pub fn vouched<'a>(
    authorities: &'a [Authority],
    accepted: &CertificateDer<'_>,
) -> Option<(&'a Authority, Timestamp)> {
    let (_, leaf) = X509Certificate::from_der(accepted).ok()?;
    let authority = authorities.iter().find(|a| names(&leaf, a))?;
    let (_, expires_at) = validity(&leaf);
    Some((authority, expires_at.min(authority.expires_at)))
}

/// Whether a certificate says that this authority signed it.
fn names(leaf: &X509Certificate<'_>, authority: &Authority) -> bool {
    let issuer = extension(leaf, &OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER);
    match issuer.map(|e| e.parsed_extension()) {
        Some(ParsedExtension::AuthorityKeyIdentifier(id)) => id
            .key_identifier
            .as_ref()
            .is_some_and(|key| key.0 == authority.key_id),
        _ => false,
    }
}

/// Checks what a gateway shows.
pub struct TunnelVerifier {
    /// Each authority with a verifier that trusts it alone.
    authorities: Vec<(Authority, Arc<WebPkiServerVerifier>)>,
    clock: SharedClock,
}

impl std::fmt::Debug for TunnelVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fingerprints = self.authorities.iter().map(|(a, _)| &a.fingerprint);
        f.debug_list().entries(fingerprints).finish()
    }
}

impl TunnelVerifier {
    /// One for these authorities.
    ///
    /// # Errors
    /// There is none, or one cannot be used.
    pub fn new(
        authorities: Vec<Authority>,
        clock: SharedClock,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        if authorities.is_empty() {
            return Err(Error::General("the tunnel trusts no authority".to_owned()));
        }
        let alone = |authority: Authority| {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der.clone())?;
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
            let verifier = verifier
                .build()
                .map_err(|e| Error::General(e.to_string()))?;
            Ok((authority, verifier))
        };
        Ok(Self {
            authorities: authorities
                .into_iter()
                .map(alone)
                .collect::<Result<_, Error>>()?,
            clock,
        })
    }

    /// The rules that WebPKI does not know.
    fn check(
        &self,
        leaf: &X509Certificate<'_>,
        now: Timestamp,
    ) -> Result<&WebPkiServerVerifier, CertificateError> {
        let found = self.authorities.iter().find(|(a, _)| names(leaf, a));
        let (authority, verifier) = found.ok_or(CertificateError::UnknownIssuer)?;
        // Trust anchors have no dates for WebPKI.
        if now < authority.begins_at || now > authority.expires_at {
            return Err(CertificateError::Expired);
        }
        if leaf.is_ca() {
            return Err(CertificateError::InvalidPurpose);
        }
        if !rules::key_is_strong(leaf) || !rules::signature_is_strong(leaf) {
            return Err(CertificateError::BadSignature);
        }
        Ok(verifier)
    }
}

impl ServerCertVerifier for TunnelVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (rest, leaf) = X509Certificate::from_der(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        if !rest.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        let now = self.clock.now();
        let verifier = self.check(&leaf, now).map_err(Error::InvalidCertificate)?;
        let seconds = u64::try_from(now.as_micros() / 1_000_000).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        // Whatever else was sent, it is no way to the authority: it signed this one itself.
        verifier.verify_server_cert(end_entity, &[], server_name, &[], now)
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
        // Signatures have nothing to do with who is trusted: any of the verifiers can check them.
        let (_, verifier) = self
            .authorities
            .first()
            .ok_or(Error::General("no authority".to_owned()))?;
        verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}
