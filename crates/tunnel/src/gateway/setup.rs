//! What a gateway needs before it can run: an authority of the customer's own, and a certificate that
//! it signed (contract 60 §7). The keys never leave the directory.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use freehold_base::Timestamp;
use freehold_base::file::write_private;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::certificate::Certificate;
use crate::certificate::authority;
use crate::certificate::verifier::vouched;

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

/// The authority in `dir`, PEM; `None` if there is none, or only half of one.
///
/// # Errors
/// Its key is there and another's, or a file cannot be read.
pub fn authority(dir: &Path) -> io::Result<Option<String>> {
    let Some(pem) = read(dir, CA_CERT)? else {
        return Ok(None);
    };
    if let Some(key) = read(dir, CA_KEY)? {
        belongs(&pem, &KeyPair::from_pem(&key).map_err(failed)?)?;
    }
    Ok(Some(pem))
}

fn read(dir: &Path, name: &str) -> io::Result<Option<String>> {
    let path = dir.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
    }
}

fn belongs(pem: &str, key: &KeyPair) -> io::Result<()> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(io::Error::other)?;
    let parsed = X509Certificate::from_der(&der);
    let fits =
        parsed.is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info());
    if fits {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "{CA_KEY} does not belong to {CA_CERT}: put the right one back, or remove both and run \
         `freehold gateway setup init` for another authority"
    )))
}

/// Takes the authority away: another tunnel gets one of its own.
///
/// # Errors
/// It cannot be removed.
pub fn forget_authority(dir: &Path) -> io::Result<()> {
    for name in [CA_CERT, CA_KEY] {
        match std::fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    File::open(dir)?.sync_all()
}

/// Whether the certificate in `dir` can be used: with its key, for names below `domain`, signed by
/// the authority there.
pub fn certificate_fits(dir: &Path, domain: &str) -> bool {
    let Ok(certificate) = Certificate::load(&dir.join(CERT), &dir.join(KEY)) else {
        return false;
    };
    let authority = CertificateDer::from_pem_file(dir.join(CA_CERT)).ok();
    let authority = authority.and_then(|der| authority::stored(&der).ok());
    let signed = authority.is_some_and(|a| vouched(&[a], &certificate.der()).is_some());
    signed && certificate.is_below(domain)
}

/// Makes an authority (ECDSA P-256, five years) in `dir`, over one that is there; its certificate, PEM.
/// Cut short, it leaves none.
///
/// # Errors
/// The files cannot be written.
pub fn new_authority(dir: &Path, tunnel: &str, now: Timestamp) -> io::Result<String> {
    // A new key beside an old certificate would look whole.
    forget_authority(dir)?;
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
    let there = |name| match read(dir, name)? {
        Some(text) => Ok(text),
        None => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no {name}"),
        )),
    };
    let (authority, key) = (there(CA_CERT)?, there(CA_KEY)?);
    let key = KeyPair::from_pem(&key).map_err(failed)?;
    belongs(&authority, &key)?;
    let issuer = Issuer::from_ca_cert_pem(&authority, key).map_err(failed)?;
    let own = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(vec![format!("*.{domain}")]).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, domain);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    valid(&mut params, now, long);
    let certificate = params.signed_by(&own, &issuer).map_err(failed)?.pem();
    // The key first: a gateway that reads in between sees a pair that does not fit, and waits. Cut
    // short there, the next run sees it too, and makes another.
    write_private(&dir.join(KEY), own.serialize_pem())?;
    write_private(&dir.join(CERT), certificate)
}
