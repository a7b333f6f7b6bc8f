//! Other replicas come in, and are given what they ask for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_store::Peer;
use freehold_tunnel::transport::streams;
use http::StatusCode;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{Shared, previews, tls};

/// Longest time until somebody has said who he is.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections of those who have not said so yet; more wait in the kernel's backlog.
const STRANGERS: usize = 64;
/// Bytes held of each direction of a tunnel's stream.
const BUFFER: usize = 64 << 10;

/// Takes connections until `stop`, and keeps them until `idle`.
///
/// # Errors
/// The certificate cannot be used.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    stop: CancellationToken,
    idle: CancellationToken,
) -> io::Result<()> {
    let config = shared.identity.server().map_err(io::Error::other)?;
    let acceptor = TlsAcceptor::from(config);
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let tasks = TaskTracker::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&strangers).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let (stream, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely; the next may have better luck.
                tracing::warn!(%error, "a replica's connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        let (stop, idle, streams) = (stop.clone(), idle.clone(), tasks.clone());
        tasks.spawn(async move {
            let known = shared.know(&acceptor, stream);
            let known = match timeout(PATIENCE, known).await {
                Ok(Ok(known)) => known,
                Ok(Err(error)) => return turned_away(source, &error.to_string()),
                Err(_) => return turned_away(source, "it does not say who it is"),
            };
            drop(place);
            let (stream, peer) = known;
            // Ends its streams, too, if it is not listed any more or the server is idle.
            let over = idle.child_token();
            tokio::select! {
                () = take(&shared, stream, &peer, stop, &streams, &over) => {}
                () = shared.gone(&peer) => {
                    tracing::info!(replica = %peer.replica, "replica is not listed any more");
                }
                () = idle.cancelled() => {}
            }
            over.cancel();
        });
    }
    drop(listener);
    idle.cancelled().await;
    tasks.close();
    tasks.wait().await;
    Ok(())
}

fn turned_away(source: SocketAddr, why: &str) {
    tracing::warn!(%source, why, "somebody who is no replica of this server was turned away");
}

impl Shared {
    /// Waits until a replica is not listed any more.
    async fn gone(&self, peer: &Peer) {
        let mut known = self.known.subscribe();
        let gone = known.wait_for(|known| !known.contains_key(&peer.fingerprint));
        let _ = gone.await; // Its sender is in `self`.
    }

    /// Which replica it is.
    async fn know(
        &self,
        acceptor: &TlsAcceptor,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Peer)> {
        stream.set_nodelay(true)?;
        let stream = acceptor.accept(stream).await?;
        let shown = stream.get_ref().1.peer_certificates();
        let shown = shown.and_then(|chain| chain.first());
        let shown = shown.map(|leaf| tls::fingerprint(leaf)).unwrap_or_default();
        let known = self.known.borrow().get(&shown).cloned();
        let known = match known {
            Some(peer) => Some(peer),
            None => {
                let peers = self.look().await.map_err(io::Error::other)?;
                let found = peers.into_iter().find(|p| p.fingerprint == shown);
                if found.is_some() {
                    self.stranger.notify_one(); // So that it is connected to.
                }
                found
            }
        };
        let known = known.ok_or_else(|| io::Error::other("its certificate is not listed"))?;
        Ok((stream, known))
    }
}

/// Gives a replica what it asks for, until it goes.
async fn take(
    shared: &Arc<Shared>,
    stream: TlsStream<TcpStream>,
    peer: &Peer,
    stop: CancellationToken,
    tasks: &TaskTracker,
    over: &CancellationToken,
) {
    tracing::info!(replica = %peer.replica, "replica connected");
    let (shared, tasks, over) = (Arc::clone(shared), tasks.clone(), over.clone());
    let answer = move |authority: String| {
        let (shared, tasks, over) = (Arc::clone(&shared), tasks.clone(), over.clone());
        async move {
            let host = authority.strip_suffix(":443").unwrap_or(&authority);
            let server = match host {
                previews::HOST => None,
                host => Some(shared.parts.edge.relay(host).await?),
            };
            Ok::<_, StatusCode>(move |mut stream: streams::Bidirectional| {
                tasks.spawn(async move {
                    let served = async {
                        match server {
                            None => previews::send(&shared.parts.hub, stream).await,
                            Some(mut server) => tokio::io::copy_bidirectional_with_sizes(
                                &mut stream,
                                &mut server,
                                BUFFER,
                                BUFFER,
                            )
                            .await
                            .map(drop),
                        }
                    };
                    tokio::select! {
                        served = served => {
                            if let Err(error) = served {
                                tracing::debug!(%error, "a replica's stream ended");
                            }
                        }
                        () = over.cancelled() => {}
                    }
                });
            })
        }
    };
    let why = match streams::take(stream, stop, answer).await {
        Ok(()) => "it closed the connection".to_owned(),
        Err(error) => error.to_string(),
    };
    tracing::info!(replica = %peer.replica, why, "replica gone");
}
