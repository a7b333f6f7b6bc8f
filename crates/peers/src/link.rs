//! The connection to another replica: kept, and used for what is wanted of it.

use std::io;
use std::time::Duration;

use freehold_base::hex;
use freehold_store::Peer;
use freehold_tunnel::transport::streams::{self, Opened};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Shared, previews, tls};

/// Longest time until the other has answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two pings, and the longest wait for the answer to one.
const PING: Duration = Duration::from_secs(5);
/// Before another attempt, at first.
const BACKOFF: Duration = Duration::from_millis(100);
/// Before another attempt, at most.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// Keeps a connection to a replica; ends when it is dropped.
pub(crate) async fn keep(shared: &Shared, peer: &Peer) {
    let mut backoff = BACKOFF;
    loop {
        let why = match timeout(PATIENCE, connect(shared, peer)).await {
            Err(_) => "it does not answer".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(stream)) => {
                tracing::info!(replica = %peer.replica, address = peer.address, "connected to a replica");
                backoff = BACKOFF;
                match run(shared, peer, stream).await {
                    Ok(()) => "it ended the connection".to_owned(),
                    Err(error) => error.to_string(),
                }
            }
        };
        tracing::info!(replica = %peer.replica, address = peer.address, why, "no connection to a replica");
        sleep(backoff).await;
        backoff = (backoff * 2).min(MAX_BACKOFF);
    }
}

async fn connect(shared: &Shared, peer: &Peer) -> io::Result<TlsStream<TcpStream>> {
    let pinned = hex::decode(&peer.fingerprint);
    let pinned = pinned.ok_or_else(|| io::Error::other("its fingerprint is none"))?;
    let config = shared.identity.client(pinned).map_err(io::Error::other)?;
    let name = ServerName::try_from(tls::NAME).map_err(io::Error::other)?;
    let stream = TcpStream::connect(&peer.address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config).connect(name, stream).await
}

/// Uses a connection until it ends.
async fn run(shared: &Shared, peer: &Peer, stream: TlsStream<TcpStream>) -> io::Result<()> {
    let opened = streams::open(stream, TokioExecutor::new(), PING).await;
    let (opener, connection) = opened.map_err(io::Error::other)?;
    let _there = shared
        .parts
        .edge
        .join(peer.replica.as_str(), opener.clone());
    let previewing = async {
        match opener.open(previews::HOST).await {
            Opened::Stream(stream) => previews::receive(&shared.parts.hub, stream).await,
            Opened::Refused(status) => Err(io::Error::other(format!("it answered {status}"))),
            Opened::Reset | Opened::Gone => Err(io::Error::other("it takes no stream")),
        }
    };
    tokio::select! {
        ended = connection => ended.map_err(io::Error::other),
        ended = previewing => ended,
    }
}
