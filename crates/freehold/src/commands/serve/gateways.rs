//! The edge: where the gateways of tunnels connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::IdSource;
use freehold_server::StoreDirectory;
use freehold_store::Store;
use freehold_tunnel::edge::{Edge, Identity, Options};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{Settings, TunnelSettings};
use crate::exit::Failure;

/// Where gateways connect, and what they know this server by.
pub(super) struct Gateways {
    listener: TcpListener,
    identity: Identity,
    pub(super) address: SocketAddr,
    /// SHA-256 of the certificate, lower-case hexadecimal.
    pub(super) fingerprint: String,
}

impl Gateways {
    /// # Errors
    /// The certificate or its key cannot be used.
    pub(super) fn new(settings: &Settings, listener: TcpListener) -> Result<Self, Failure> {
        let identity = match &settings.tunnels.identity {
            Some((certificate, key)) => Identity::from_files(certificate, key),
            None => Identity::own(&settings.data_dir),
        };
        let identity = identity.map_err(|e| unusable(&e))?;
        Ok(Self {
            address: listener
                .local_addr()
                .map_err(|e| Failure::because("cannot listen", &e))?,
            fingerprint: identity.fingerprint(),
            listener,
            identity,
        })
    }
}

/// The edge of this process. Also without gateways it says which hosts are behind tunnels.
pub(super) fn edge(settings: &TunnelSettings, store: &Store, ids: &IdSource) -> Edge {
    let directory = Arc::new(StoreDirectory(store.clone()));
    let mut options = Options::new(&settings.domain);
    options.bandwidth = settings.bandwidth;
    if settings.listen.is_none() {
        options.arrival = Duration::ZERO;
    }
    Edge::new(directory, options, ids.clone())
}

/// Takes gateways' connections until `stop`, which a failure is, too, and keeps them until the server is
/// `idle`.
///
/// # Errors
/// The certificate and its key do not fit.
pub(super) async fn serve(
    gateways: Option<Gateways>,
    edge: &Edge,
    stop: CancellationToken,
    idle: CancellationToken,
) -> Result<(), Failure> {
    let Some(gateways) = gateways else {
        return Ok(());
    };
    let served = edge.serve(gateways.listener, &gateways.identity, stop.clone(), idle);
    served.await.map_err(|e| {
        stop.cancel();
        unusable(&e)
    })
}

fn unusable(error: &dyn std::error::Error) -> Failure {
    Failure::usage(format!("tunnels.certificate: {error}"))
}
