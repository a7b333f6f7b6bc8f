//! A certificate authority as it is registered.

use freehold_base::Timestamp;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::{
    OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::*;

use super::rules;

/// Largest PEM, bytes.
pub const MAX_PEM: usize = 8_192;

/// An authority that may be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// SHA-256 of it, in lower-case hexadecimal.
    pub fingerprint: String,
    /// Its subject key identifier.
    pub key_id: Vec<u8>,
    /// When it begins to be valid.
    pub begins_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Why one may not be registered. The texts are for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More than [`MAX_PEM`].
    #[error("must be at most 8192 bytes")]
    TooLarge,
    /// A key is in it, which nobody but its owner may have.
    #[error("must not contain a private key; treat that key as compromised")]
    PrivateKey,
    /// No certificate, or something that is none.
    #[error("must be one X.509 certificate in PEM form")]
    NotOne,
    /// Several.
    #[error("must contain exactly one certificate")]
    Several,
    /// Version 1 or 2.
    #[error("must be a version 3 certificate")]
    Version,
    /// It may not issue certificates.
    #[error("must be a certificate authority: BasicConstraints with CA:TRUE, marked critical")]
    NotAuthority,
    /// Its key is for something else.
    #[error("must have KeyUsage with keyCertSign")]
    KeyUsage,
    /// It cannot be told by its key.
    #[error("must have a SubjectKeyIdentifier")]
    NoKeyId,
    /// Too soon.
    #[error("is not valid yet")]
    NotYet,
    /// Too late.
    #[error("has expired")]
    Expired,
    /// Its key is too weak, or of another kind.
    #[error("must have an RSA key of at least 2048 bits, or an ECDSA key on P-256, P-384 or P-521")]
    WeakKey,
    /// Its signature is too weak, or of another kind.
    #[error("must be signed with RSA or ECDSA and SHA-256 or stronger")]
    WeakSignature,
}

/// Checks what somebody wants to register.
///
/// # Errors
/// The first rule it breaks.
pub fn check(pem: &[u8], now: Timestamp) -> Result<Authority, Refusal> {
    if pem.len() > MAX_PEM {
        return Err(Refusal::TooLarge);
    }
    // Looked for in the text, too: a broken block is a key all the same.
    if pem.windows(11).any(|w| w == b"PRIVATE KEY") {
        return Err(Refusal::PrivateKey);
    }
    let mut blocks = Pem::iter_from_buffer(pem);
    let first = match blocks.next() {
        Some(Ok(block)) if block.label == "CERTIFICATE" => block,
        _ => return Err(Refusal::NotOne),
    };
    if blocks.next().is_some() {
        return Err(Refusal::Several);
    }
    read(&first.contents, Some(now))
}

/// An authority that was registered once. Its dates are not looked at.
///
/// # Errors
/// The first rule it breaks.
pub fn stored(der: &[u8]) -> Result<Authority, Refusal> {
    read(der, None)
}

fn read(der: &[u8], now: Option<Timestamp>) -> Result<Authority, Refusal> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::NotOne)?;
    if !rest.is_empty() {
        return Err(Refusal::NotOne);
    }
    if certificate.version() != X509Version::V3 {
        return Err(Refusal::Version);
    }
    let constraints = extension(&certificate, &OID_X509_EXT_BASIC_CONSTRAINTS);
    let is_authority = constraints.is_some_and(|e| {
        e.critical && matches!(e.parsed_extension(), ParsedExtension::BasicConstraints(b) if b.ca)
    });
    if !is_authority {
        return Err(Refusal::NotAuthority);
    }
    let usage = extension(&certificate, &OID_X509_EXT_KEY_USAGE);
    let signs = usage.is_some_and(
        |e| matches!(e.parsed_extension(), ParsedExtension::KeyUsage(u) if u.key_cert_sign()),
    );
    if !signs {
        return Err(Refusal::KeyUsage);
    }
    let key_id = extension(&certificate, &OID_X509_EXT_SUBJECT_KEY_IDENTIFIER);
    let key_id = match key_id.map(|e| e.parsed_extension()) {
        Some(ParsedExtension::SubjectKeyIdentifier(id)) if !id.0.is_empty() => id.0.to_vec(),
        _ => return Err(Refusal::NoKeyId),
    };
    if !rules::key_is_strong(&certificate) {
        return Err(Refusal::WeakKey);
    }
    if !rules::signature_is_strong(&certificate) {
        return Err(Refusal::WeakSignature);
    }
    let (begins_at, expires_at) = validity(&certificate);
    if now.is_some_and(|now| now < begins_at) {
        return Err(Refusal::NotYet);
    }
    if now.is_some_and(|now| now > expires_at) {
        return Err(Refusal::Expired);
    }
    Ok(Authority {
        der: CertificateDer::from(der.to_vec()),
        fingerprint: freehold_base::hex::encode(Sha256::digest(der)),
        key_id,
        begins_at,
        expires_at,
    })
}

/// When a certificate begins and ceases to be valid.
pub(crate) fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let at = |time: ASN1Time| Timestamp::from_micros(time.timestamp().saturating_mul(1_000_000));
    let validity = certificate.validity();
    (at(validity.not_before), at(validity.not_after))
}

pub(super) fn extension<'a>(
    certificate: &'a X509Certificate<'_>,
    oid: &x509_parser::der_parser::Oid<'_>,
) -> Option<&'a X509Extension<'a>> {
    // Two of a kind are an error, and then there is none to go by.
    certificate.get_extension_unique(oid).ok().flatten()
}
