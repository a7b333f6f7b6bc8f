//! Gateways come in: TLS, then who they are, then HTTP/2 with the roles reversed. Whoever takes long
//! is dropped, and whoever guesses tokens is kept away.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_base::EventId;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::registry::Link;
use super::{Edge, Identity, TokenGrant};
use crate::transport::head::{self, Head, invalid};
use crate::transport::{PATH, UPGRADE, WELCOME, Welcome, settings};

/// Wrong tokens a source may show in [`WINDOW`].
const MAX_WRONG: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Sources remembered.
const MAX_SOURCES: usize = 10_000;

pub(super) async fn serve(
    edge: &Edge,
    listener: TcpListener,
    identity: &Identity,
    stop: CancellationToken,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(identity.server_config()?);
    let half_open = Arc::new(Semaphore::new(edge.options.half_open));
    let wrong = Arc::new(Wrong::default());
    let tasks = TaskTracker::new();
    loop {
        let (stream, source) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, most likely; the next may have better luck.
                    tracing::warn!(%error, "a gateway's connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Ok(permit) = Arc::clone(&half_open).try_acquire_owned() else {
            tracing::warn!(%source, "too many connections that have not said who they are");
            continue;
        };
        let (edge, acceptor, wrong, stop) = (
            edge.clone(),
            acceptor.clone(),
            Arc::clone(&wrong),
            stop.clone(),
        );
        tasks.spawn(async move {
            let registered = register(&edge, &acceptor, &wrong, stream, source).await;
            drop(permit);
            match registered {
                Ok(Some((stream, grant, who))) => keep(&edge, stream, grant, who, stop).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(%source, %error, "a connection that is no gateway's"),
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Who is at the other end.
struct Who {
    connection: String,
    gateway: String,
    source: SocketAddr,
    /// When its token was looked up, as the registry counts.
    since: u64,
}

type Registered = Option<(TlsStream<TcpStream>, TokenGrant, Who)>;

async fn register(
    edge: &Edge,
    acceptor: &TlsAcceptor,
    wrong: &Wrong,
    stream: TcpStream,
    source: SocketAddr,
) -> io::Result<Registered> {
    let slow = |_| invalid("too slow");
    let _ = stream.set_nodelay(true);
    let patience = edge.options.register;
    let mut stream = tokio::time::timeout(patience, acceptor.accept(stream))
        .await
        .map_err(slow)??;
    let head = tokio::time::timeout(patience, head::read(&mut stream))
        .await
        .map_err(slow)??;
    let upgrades = head
        .field("upgrade")
        .is_some_and(|u| u.eq_ignore_ascii_case(UPGRADE));
    if head.first != format!("POST {PATH} HTTP/1.1") || !upgrades {
        return no(&mut stream, "400 Bad Request", "").await;
    }
    if wrong.is_over(source.ip()) {
        return no(&mut stream, "429 Too Many Requests", "Retry-After: 60\r\n").await;
    }
    let token = bearer(&head).unwrap_or_default();
    // Looked up by the hash of the whole: how far a wrong one agrees with a right one tells nothing.
    let since = edge.registry.now();
    let grant = edge.directory.by_token(Sha256::digest(token).into()).await;
    let grant = match grant {
        Ok(Some(grant)) => grant,
        Ok(None) => {
            wrong.note(source.ip());
            tracing::warn!(%source, "a gateway's token does not work");
            return no(&mut stream, "401 Unauthorized", "").await;
        }
        Err(_) => return no(&mut stream, "503 Service Unavailable", "Retry-After: 5\r\n").await,
    };
    let id: EventId = edge.ids.next();
    let who = Who {
        connection: id.as_str().replace("sevt_", "tcon_"),
        gateway: plain(head.field("gateway-id").unwrap_or("unnamed")),
        source,
        since,
    };
    let welcome = Welcome {
        connection_id: who.connection.clone(),
        domain: grant.domain.clone(),
        max_streams: settings::MAX_STREAMS,
    };
    // Serialising our own type of plain strings cannot fail.
    let welcome = serde_json::to_string(&welcome).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {UPGRADE}\r\n{WELCOME}: {welcome}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    Ok(Some((stream, grant, who)))
}

async fn no(stream: &mut TlsStream<TcpStream>, status: &str, more: &str) -> io::Result<Registered> {
    let answer =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(None)
}

fn bearer(head: &Head) -> Option<&str> {
    let (scheme, token) = head.field("authorization")?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// A gateway's own words, fit for a log.
fn plain(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().filter(fits).take(64).collect()
}

/// Keeps a registered connection until it ends, the tunnel does, or the server stops.
async fn keep(
    edge: &Edge,
    stream: TlsStream<TcpStream>,
    grant: TokenGrant,
    who: Who,
    stop: CancellationToken,
) {
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings::STREAM_WINDOW)
        .initial_connection_window_size(settings::CONNECTION_WINDOW)
        .max_concurrent_streams(settings::MAX_STREAMS)
        .max_frame_size(settings::FRAME)
        .max_send_buf_size(settings::SEND_BUFFER)
        .max_header_list_size(settings::HEADERS)
        .keep_alive_interval(settings::PING)
        .keep_alive_timeout(settings::PING)
        .keep_alive_while_idle(true);
    let (sender, connection) = match builder.handshake(TokioIo::new(stream)).await {
        Ok(made) => made,
        Err(error) => {
            tracing::debug!(source = %who.source, %error, "a gateway does not speak HTTP/2");
            return;
        }
    };
    let since = edge.ids.clock().now();
    let link = Link::new(
        who.connection.clone(),
        who.gateway.clone(),
        who.source,
        grant.token,
        since,
        sender,
    );
    let over = link.over.clone();
    if !edge.registry.add(
        &grant.tunnel,
        Arc::new(link),
        edge.options.max_connections,
        who.since,
    ) {
        tracing::warn!(tunnel = %grant.tunnel, "a gateway is not taken: its tunnel has as many as it may, or was changed meanwhile");
        return;
    }
    tracing::info!(tunnel = %grant.tunnel, connection = who.connection, gateway = who.gateway, source = %who.source, "gateway connected");
    let why = tokio::select! {
        ended = connection => match ended {
            Ok(()) => "it closed the connection".to_owned(),
            Err(error) => error.to_string(),
        },
        () = over.cancelled() => "the tunnel was changed".to_owned(),
        () = stop.cancelled() => "the server stops".to_owned(),
    };
    edge.registry.remove(&grant.tunnel, &who.connection);
    tracing::info!(tunnel = %grant.tunnel, connection = who.connection, gateway = who.gateway, why, "gateway gone");
}

/// Sources that showed wrong tokens.
#[derive(Default)]
struct Wrong(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Wrong {
    fn is_over(&self, source: IpAddr) -> bool {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sources.get(&source);
        known.is_some_and(|(since, times)| since.elapsed() < WINDOW && *times >= MAX_WRONG)
    }

    fn note(&self, source: IpAddr) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MAX_SOURCES {
            sources.retain(|_, (since, _)| since.elapsed() < WINDOW);
            if sources.len() >= MAX_SOURCES {
                sources.clear();
            }
        }
        let now = Instant::now();
        let known = sources.entry(source).or_insert((now, 0));
        if known.0.elapsed() >= WINDOW {
            *known = (now, 0);
        }
        known.1 += 1;
    }
}
