//! The certificate that gateways know the edge by.

use std::io;
use std::path::Path;
use std::sync::Arc;

use freehold_base::file::write_private;
use freehold_base::hex;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::transport::ALPN;

/// Names of the files of one that was made here.
const CERTIFICATE: &str = "edge.crt";
const KEY: &str = "edge.key";

/// A certificate with its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

impl Identity {
    /// One from PEM files.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn from_files(certificate: &Path, key: &Path) -> io::Result<Self> {
        let unusable = |path: &Path, e: rustls::pki_types::pem::Error| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {e}", path.display()),
            )
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
            .map_err(|e| unusable(certificate, e))?
            .collect();
        Ok(Self {
            chain: chain.map_err(|e| unusable(certificate, e))?,
            key: PrivateKeyDer::from_pem_file(key).map_err(|e| unusable(key, e))?,
        })
    }

    /// The self-signed one in `dir`, made if it is not there: valid until 2046, readable by its owner.
    ///
    /// # Errors
    /// It can be neither read nor made.
    pub fn own(dir: &Path) -> io::Result<Self> {
        let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        if !certificate.exists() || !key.exists() {
            let made = rcgen::KeyPair::generate().map_err(io::Error::other)?;
            let mut params = rcgen::CertificateParams::new(vec!["freehold-edge".to_owned()])
                .map_err(io::Error::other)?;
            params.not_after = rcgen::date_time_ymd(2046, 1, 1);
            let signed = params.self_signed(&made).map_err(io::Error::other)?;
            // The certificate last: one without its key would never be replaced.
            write_private(&key, made.serialize_pem())?;
            write_private(&certificate, signed.pem())?;
        }
        Self::from_files(&certificate, &key)
    }

    /// SHA-256 of the certificate, as gateways pin it.
    pub fn fingerprint(&self) -> String {
        let first = self.chain.first().map_or(&[][..], |c| c.as_ref());
        hex::encode(Sha256::digest(first))
    }

    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}
