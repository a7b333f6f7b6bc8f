//! Keys and signatures that are strong enough.

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512,
};
use x509_parser::public_key::PublicKey;

/// Bits an RSA key must have.
const MIN_RSA: usize = 2_048;

/// RSA of at least 2048 bits, or ECDSA on P-256, P-384 or P-521.
pub(super) fn key_is_strong(certificate: &X509Certificate<'_>) -> bool {
    let key = certificate.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => rsa.key_size() >= MIN_RSA,
        Ok(PublicKey::EC(_)) => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|p| p.as_oid().ok());
            curve.is_some_and(|curve| {
                [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521].contains(&curve)
            })
        }
        _ => false,
    }
}

/// SHA-256 or stronger, with RSA or ECDSA.
pub(super) fn signature_is_strong(certificate: &X509Certificate<'_>) -> bool {
    let strong = [
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        // Its hash is a parameter; the default, which is SHA-1, is refused by the verification.
        OID_PKCS1_RSASSAPSS,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
        OID_SIG_ECDSA_WITH_SHA512,
    ];
    strong.contains(&certificate.signature_algorithm.algorithm)
}
