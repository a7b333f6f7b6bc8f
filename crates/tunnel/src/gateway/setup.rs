//! What a gateway needs before it can run: an authority of the customer's own, and a certificate that
//! it signed (contract 60 §7). The keys never leave the directory.

use std::io;
use std::path::Path;
use std::time::Duration;

use freehold_base::Timestamp;
use freehold_base::file::write_private;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// How long an authority made here is valid.
const AUTHORITY: Duration = Duration::from_secs(5 * 365 * 24 * 60 * 60);
/// How long before now a certificate begins: clocks differ.
const EARLIER: Duration = Duration::from_secs(60 * 60);

/// Names of the files.
pub const TUNNEL_ID: &str = "tunnel-id";
/// The tunnel's domain.
pub const TUNNEL_DOMAIN: &str = "tunnel-domain";
/// The tunnel's token.
pub const TUNNEL_TOKEN: &str = "tunnel-token";
/// The authority's certificate.
pub const CA_CERT: &str = "ca.crt";
/// The authority's key.
pub const CA_KEY: &str = "ca.key";
/// The gateway's certificate.
pub const CERT: &str = "tls.crt";
/// The gateway's key.
pub const KEY: &str = "tls.key";

fn failed(error: rcgen::Error) -> io::Error {
    io::Error::other(error)
}

fn valid(params: &mut CertificateParams, now: Timestamp, long: Duration) {
    let at = |seconds: i64| {
        let time = time::OffsetDateTime::from_unix_timestamp(seconds);
        time.unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
    };
    let now = now.as_micros() / 1_000_000;
    let seconds = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX / 2);
    params.not_before = at(now - seconds(EARLIER));
    params.not_after = at(now.saturating_add(seconds(long)));
}

/// Makes an authority (ECDSA P-256, five years) in `dir`, over one that is there; its certificate, PEM.
///
/// # Errors
/// The files cannot be written.
pub fn new_authority(dir: &Path, tunnel: &str, now: Timestamp) -> io::Result<String> {
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Freehold gateway {tunnel}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, AUTHORITY);
    let certificate = params.self_signed(&key).map_err(failed)?.pem();
    write_private(&dir.join(CA_KEY), key.serialize_pem())?;
    write_private(&dir.join(CA_CERT), &certificate)?;
    Ok(certificate)
}

/// Makes a certificate (ECDSA P-256) for everything below `domain`, signed by the authority in `dir`.
///
/// # Errors
/// There is no authority, or the files cannot be written.
pub fn new_certificate(dir: &Path, domain: &str, now: Timestamp, long: Duration) -> io::Result<()> {
    let authority = std::fs::read_to_string(dir.join(CA_CERT))?;
    let key = std::fs::read_to_string(dir.join(CA_KEY))?;
    let key = KeyPair::from_pem(&key).map_err(failed)?;
    let issuer = Issuer::from_ca_cert_pem(&authority, key).map_err(failed)?;
    let own = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(vec![format!("*.{domain}")]).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, domain);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut params, now, long);
    let certificate = params.signed_by(&own, &issuer).map_err(failed)?.pem();
    // The key first: a gateway that reads in between sees a pair that does not fit, and waits.
    write_private(&dir.join(KEY), own.serialize_pem())?;
    write_private(&dir.join(CERT), certificate)
}
