//! Our edge alone, as a program: what arrives at a port of its own goes through the tunnel, with the
//! inner TLS done here. In a server the connector does that part; the tunnels it is compared with have
//! such a port, so this one has one too.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use freehold_base::{IdSource, TunnelId, TunnelTokenId, WorkspaceId};
use freehold_tunnel::edge::{
    Directory, DirectoryError, Edge, Identity, Options, TokenGrant, Tunnel,
};
use freehold_tunnel::gateway::setup;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// First argument of this program when it is an edge.
pub(crate) const COMMAND: &str = "edge";
/// The domain of all tunnels.
const ROOT: &str = "tunnel.test";
/// The domain of the one.
pub(crate) const DOMAIN: &str = "bench.tunnel.test";
/// Its token: of a tunnel that lives for a run, on loopback.
pub(crate) const TOKEN: &str = "token-of-a-throwaway-tunnel";
/// The host that is measured.
pub(crate) const HOST: &str = "app.bench.tunnel.test";

/// How it is started.
#[derive(Debug, clap::Parser)]
pub(crate) struct Args {
    /// Where the tunnel's authority is, and the edge's own certificate
    dir: PathBuf,
    /// Where gateways come in
    gateways: SocketAddr,
    /// Where clients come in
    entry: SocketAddr,
}

/// Runs until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (edge, workspace) = serve(&args.dir, args.gateways).await?;
        let entry = TcpListener::bind(args.entry).await?;
        loop {
            let (client, _) = entry.accept().await?;
            let (edge, workspace) = (edge.clone(), workspace.clone());
            tokio::spawn(async move {
                // Whoever waits for an answer sees that there is none.
                drop(carry(&edge, &workspace, client).await);
            });
        }
    })
}

/// An edge with one tunnel, and for whom; it serves until the runtime ends.
pub(crate) async fn serve(dir: &Path, gateways: SocketAddr) -> Result<(Edge, WorkspaceId)> {
    let one = One {
        tunnel: "tnl_1".parse()?,
        workspace: "wrkspc_1".parse()?,
        // As the API would have been given it.
        authority: CertificateDer::from_pem_file(dir.join(setup::CA_CERT))?,
        token: "ttok_1".parse()?,
    };
    let workspace = one.workspace.clone();
    let edge = Edge::new(Arc::new(one), Options::new(ROOT), IdSource::system());
    let identity = Identity::own(dir)?;
    let listener = TcpListener::bind(gateways).await?;
    let serving = edge.clone();
    tokio::spawn(async move {
        // Neither stops nor drains.
        let never = CancellationToken::new;
        let served = serving.serve(listener, &identity, never(), never());
        drop(served.await);
    });
    Ok((edge, workspace))
}

/// What pins the edge that uses this directory.
pub(crate) fn fingerprint(dir: &Path) -> Result<String> {
    Ok(Identity::own(dir)?.fingerprint())
}

async fn carry(edge: &Edge, workspace: &WorkspaceId, mut client: TcpStream) -> Result<()> {
    client.set_nodelay(true)?;
    let mut stream = edge.dial(workspace, HOST).await?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut stream, 32 << 10, 32 << 10).await?;
    Ok(())
}

/// A directory of one tunnel.
struct One {
    tunnel: TunnelId,
    workspace: WorkspaceId,
    authority: CertificateDer<'static>,
    token: TunnelTokenId,
}

impl One {
    fn open(&self) -> Tunnel {
        Tunnel {
            id: self.tunnel.clone(),
            workspace: self.workspace.clone(),
            authorities: vec![self.authority.clone()],
        }
    }
}

#[async_trait::async_trait]
impl Directory for One {
    async fn by_token(&self, sha256: [u8; 32]) -> Result<Option<TokenGrant>, DirectoryError> {
        let good = sha256 == <[u8; 32]>::from(Sha256::digest(TOKEN));
        Ok(good.then(|| TokenGrant {
            tunnel: self.tunnel.clone(),
            domain: DOMAIN.to_owned(),
            token: self.token.clone(),
        }))
    }

    async fn by_id(&self, tunnel: &TunnelId) -> Result<Option<Tunnel>, DirectoryError> {
        Ok((*tunnel == self.tunnel).then(|| self.open()))
    }

    async fn by_domain(&self, domain: &str) -> Result<Option<Tunnel>, DirectoryError> {
        Ok((domain == DOMAIN).then(|| self.open()))
    }
}
