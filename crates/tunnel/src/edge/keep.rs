//! A gateway's connection from its welcome to its end: HTTP/2 with the roles reversed.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::{Link, Registered};
use super::listen::Who;
use super::{Edge, TokenGrant};
use crate::transport::streams;

/// How long a connection that is closed has for its last frames, and its gateway to take them.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Keeps a registered connection until it ends, the tunnel does, or the server has become `idle`.
pub(super) async fn keep(
    edge: &Edge,
    stream: TlsStream<TcpStream>,
    grant: TokenGrant,
    who: Who,
    idle: CancellationToken,
) {
    let tasks = Tasks::default();
    let opened = streams::open(stream, tasks.clone(), edge.options.ping).await;
    let (opener, connection) = match opened {
        Ok(made) => made,
        Err(error) => {
            tracing::debug!(source = %who.source, %error, "a gateway does not speak HTTP/2");
            return;
        }
    };
    let since = edge.ids.clock().now();
    let registered = Registered {
        source: who.source,
        token: grant.token,
        since,
    };
    let (connection_id, gateway) = (who.connection.clone(), who.gateway.clone());
    let link = Link::new(connection_id, gateway, opener, Some(registered));
    let over = link.over.clone();
    if edge.registry.add(
        &grant.tunnel,
        Arc::new(link),
        edge.options.max_connections,
        who.since,
    ) {
        tracing::info!(tunnel = %grant.tunnel, connection = who.connection, gateway = who.gateway, source = %who.source, "gateway connected");
        let why = tokio::select! {
            ended = connection => match ended {
                Ok(()) => "it closed the connection".to_owned(),
                Err(error) => error.to_string(),
            },
            () = over.cancelled() => "the tunnel was changed, or the server stops".to_owned(),
            () = idle.cancelled() => "the server stops".to_owned(),
        };
        tracing::info!(tunnel = %grant.tunnel, connection = who.connection, gateway = who.gateway, why, "gateway gone");
        // One that stops itself takes no new streams, and finishes those that it has.
        tokio::select! {
            () = tasks.ended() => {}
            () = over.cancelled() => {}
            () = idle.cancelled() => {}
        }
        edge.registry.remove(&grant.tunnel, &who.connection);
    } else {
        drop(connection);
        tracing::warn!(tunnel = %grant.tunnel, "a gateway is not taken: its tunnel has as many as it may, or was changed meanwhile");
    }
    if tokio::time::timeout(LAST_WORDS, tasks.ended())
        .await
        .is_err()
    {
        tasks.over.cancel();
        tasks.ended().await;
    }
}

/// What hyper runs for one connection. It would go on after the connection was let go, for as long as a
/// stream is open or the gateway does not read.
#[derive(Clone, Default)]
struct Tasks {
    running: TaskTracker,
    over: CancellationToken,
}

impl Tasks {
    async fn ended(&self) {
        self.running.close();
        self.running.wait().await;
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let over = self.over.clone();
        self.running.spawn(async move {
            tokio::select! {
                _ = task => {}
                () = over.cancelled() => {}
            }
        });
    }
}
