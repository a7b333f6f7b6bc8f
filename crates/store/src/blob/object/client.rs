//! The HTTP client: as all of ours it takes no proxy from the environment.

use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{HttpClient, HttpConnector};
use reqwest::redirect::Policy;
use reqwest::tls::Certificate;

/// To connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until an answer begins, and between two pieces of it. There is no limit for the whole: a large
/// file takes as long as its reader does.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// With certificate authorities beside those of the system, and HTTP without TLS only if it is
    /// `plain`. `None`: the authorities are no certificates.
    pub(super) fn new(authorities: Option<&[u8]>, plain: bool) -> Option<Self> {
        let authorities = match authorities {
            Some(pem) => Certificate::from_pem_bundle(pem).ok()?,
            None => Vec::new(),
        };
        let client = reqwest::Client::builder()
            .tls_certs_merge(authorities)
            .https_only(!plain)
            .http1_only()
            .no_proxy()
            // What is signed is for one host.
            .redirect(Policy::none())
            // Sizes are of what is stored.
            .no_gzip()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        client.build().ok().map(Self)
    }
}

impl HttpConnector for Client {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}
