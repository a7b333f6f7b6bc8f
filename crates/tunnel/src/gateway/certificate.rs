//! The gateway's own certificate, as it is on disk now.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use freehold_base::Timestamp;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;
use x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER;
use x509_parser::prelude::*;

use crate::certificate::authority::validity;

/// A certificate that is in use.
#[derive(Debug)]
struct Loaded {
    key: Arc<CertifiedKey>,
    digest: [u8; 32],
    begins_at: Timestamp,
    expires_at: Timestamp,
    /// DNS names it is for, in lower case.
    names: Vec<String>,
    names_issuer: bool,
}

/// The certificate, read again when its files change.
#[derive(Debug)]
pub struct Certificate {
    files: (PathBuf, PathBuf),
    now: ArcSwap<Loaded>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Arc<Self>, String> {
        let loaded = read(certificate, key)?;
        Ok(Arc::new(Self {
            files: (certificate.to_owned(), key.to_owned()),
            now: ArcSwap::from_pointee(loaded),
        }))
    }

    /// Reads them again; whether there is another certificate now. With an error the old one stays.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together.
    pub fn reload(&self) -> Result<bool, String> {
        let (certificate, key) = &self.files;
        let loaded = read(certificate, key)?;
        let changed = loaded.digest != self.now.load().digest;
        if changed {
            self.now.store(Arc::new(loaded));
        }
        Ok(changed)
    }

    /// When it begins to be valid.
    pub fn begins_at(&self) -> Timestamp {
        self.now.load().begins_at
    }

    /// Whether it is for a host: by its name, or by `*` for the first label.
    pub fn covers(&self, host: &str) -> bool {
        let now = self.now.load();
        let above = host.split_once('.').map(|(_, above)| above);
        now.names.iter().any(|name| {
            name == host || (name.strip_prefix("*.").is_some() && name.strip_prefix("*.") == above)
        })
    }

    /// Whether it is for anything directly below a domain.
    pub fn is_below(&self, domain: &str) -> bool {
        let below = |name: &String| {
            let label = name.strip_suffix(domain).and_then(|l| l.strip_suffix('.'));
            label.is_some_and(|label| !label.contains('.'))
        };
        self.now.load().names.iter().any(below)
    }

    /// The certificate itself.
    pub fn der(&self) -> CertificateDer<'static> {
        let now = self.now.load();
        // There is one, or it was not loaded.
        now.key
            .cert
            .first()
            .cloned()
            .unwrap_or_else(|| Vec::new().into())
    }

    /// Whether it says by its key who signed it, as it must.
    pub fn names_issuer(&self) -> bool {
        self.now.load().names_issuer
    }

    /// When it expires.
    pub fn expires_at(&self) -> Timestamp {
        self.now.load().expires_at
    }

    /// Whole days it is still valid at `now`; negative if it is not any more.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        let left = self.expires_at().as_micros() - now.as_micros();
        left.div_euclid(24 * 60 * 60 * 1_000_000)
    }

    /// The end of the inner TLS: 1.3, HTTP/1.1, no resumption.
    ///
    /// # Errors
    /// The library cannot be set up.
    pub fn acceptor(self: &Arc<Self>) -> Result<TlsAcceptor, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now.load().key))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Loaded, String> {
    let at = |path: &Path, why: String| format!("{}: {why}", path.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| at(certificate, e.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| at(key, e.to_string()))?;
    let first = chain
        .first()
        .ok_or_else(|| at(certificate, "no certificate in it".to_owned()))?;
    let (_, parsed) = X509Certificate::from_der(first)
        .map_err(|_| at(certificate, "not an X.509 certificate".to_owned()))?;
    let (begins_at, expires_at) = validity(&parsed);
    let names = parsed.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|n| &n.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let names: Vec<String> = names.collect();
    let names_issuer = parsed
        .get_extension_unique(&OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER)
        .is_ok_and(|found| found.is_some());
    let mut hash = Sha256::new();
    chain.iter().for_each(|c| hash.update(c));
    hash.update(secret.secret_der());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = CertifiedKey::from_der(chain, secret, &provider).map_err(|e| {
        at(
            key,
            format!("the key does not belong to the certificate: {e}"),
        )
    })?;
    Ok(Loaded {
        key: Arc::new(certified),
        digest: hash.finalize().into(),
        begins_at,
        expires_at,
        names,
        names_issuer,
    })
}
