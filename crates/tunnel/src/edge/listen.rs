//! Gateways come in: TLS, then who they are. Whoever takes long is dropped, and whoever guesses tokens
//! is kept away.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::EventId;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keep::keep;
use super::sources::{HalfOpen, HalfOpenPlace, Handshakes, Source, TurnedAway, Wrong};
use super::{Edge, Identity, Options, TokenGrant};
use crate::transport::head::{self, Head, invalid};
use crate::transport::{PATH, UPGRADE, WELCOME, Welcome, settings};

pub(super) async fn serve(
    edge: &Edge,
    listener: TcpListener,
    identity: &Identity,
    stop: CancellationToken,
    idle: CancellationToken,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(identity.server_config()?);
    let door = Door::new(&edge.options);
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
        let Some(place) = door.enter(source) else {
            continue;
        };
        let (edge, acceptor, wrong) = (edge.clone(), acceptor.clone(), Arc::clone(&wrong));
        let (stop, idle) = (stop.clone(), idle.clone());
        tasks.spawn(async move {
            let registered = tokio::select! {
                () = stop.cancelled() => return,
                registered = register(&edge, &acceptor, &wrong, stream, source) => registered,
            };
            drop(place);
            match registered {
                Ok(Some((stream, grant, who))) => keep(&edge, stream, grant, who, idle).await,
                Ok(None) => {}
                Err(error) => tracing::debug!(%source, %error, "a connection that is no gateway's"),
            }
        });
    }
    drop(listener);
    idle.cancelled().await;
    // Pools keep streams that nobody uses; they would keep the connections.
    edge.registry.end_all();
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Who gets as far as a handshake.
struct Door {
    half_open: Arc<HalfOpen>,
    handshakes: Handshakes,
    turned_away: TurnedAway,
}

impl Door {
    fn new(options: &Options) -> Self {
        Self {
            half_open: HalfOpen::new(options.half_open, options.half_open_of_one),
            handshakes: Handshakes::new(options.handshakes, options.handshakes_of_one),
            turned_away: TurnedAway::default(),
        }
    }

    /// A place, or none: a gateway that is turned away comes back by itself.
    fn enter(&self, from: SocketAddr) -> Option<HalfOpenPlace> {
        let source = Source::from(from.ip());
        let place = self.half_open.place(source);
        let place = place.filter(|_| self.handshakes.may_begin(source));
        if place.is_none()
            && let Some(turned_away) = self.turned_away.note()
        {
            tracing::warn!(source = %from, turned_away, "too many connections that have not said who they are");
        }
        place
    }
}

/// Who is at the other end.
pub(super) struct Who {
    pub(super) connection: String,
    pub(super) gateway: String,
    pub(super) source: SocketAddr,
    /// When its token was looked up, as the registry counts.
    pub(super) since: u64,
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
    let mut stream = timeout(patience, acceptor.accept(stream))
        .await
        .map_err(slow)??;
    let head = timeout(patience, head::read(&mut stream))
        .await
        .map_err(slow)??;
    let (answer, accepted) = answer(edge, wrong, &head, source).await;
    let said = async {
        stream.write_all(answer.as_bytes()).await?;
        match accepted {
            Some(_) => stream.flush().await,
            None => stream.shutdown().await,
        }
    };
    timeout(patience, said).await.map_err(slow)??;
    Ok(accepted.map(|(grant, who)| (stream, grant, who)))
}

/// What is answered, and whom it lets in.
async fn answer(
    edge: &Edge,
    wrong: &Wrong,
    head: &Head,
    source: SocketAddr,
) -> (String, Option<(TokenGrant, Who)>) {
    let upgrades = head
        .field("upgrade")
        .is_some_and(|u| u.eq_ignore_ascii_case(UPGRADE));
    if head.first != format!("POST {PATH} HTTP/1.1") || !upgrades {
        return (no("400 Bad Request", ""), None);
    }
    let token = bearer(head).unwrap_or_default();
    // Looked up by the hash of the whole: how far a wrong one agrees with a right one tells nothing.
    let since = edge.registry.now();
    let grant = edge.directory.by_token(Sha256::digest(token).into()).await;
    let grant = match grant {
        Ok(Some(grant)) => grant,
        // Only the wrong ones are counted: a gateway may share its address with a guesser.
        Ok(None) if wrong.note(Source::from(source.ip())) => {
            tracing::debug!(%source, "one more token that does not work");
            return (no("429 Too Many Requests", "Retry-After: 60\r\n"), None);
        }
        Ok(None) => {
            tracing::warn!(%source, "a gateway's token does not work");
            return (no("401 Unauthorized", ""), None);
        }
        Err(_) => return (no("503 Service Unavailable", "Retry-After: 5\r\n"), None),
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
    (answer, Some((grant, who)))
}

fn no(status: &str, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n")
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
