//! The accept loop and its graceful end.
//!
//! Not `axum::serve`: an open event stream would keep it from ending for ever (axum #2673), and a
//! client that sends its headers a byte a minute would keep a connection for ever.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::app::App;

/// Connections served at once; more wait in the kernel's backlog.
pub const MAX_CONNECTIONS: usize = 16_384;
/// How long a client may take to send its request headers, and to answer a ping of HTTP/2.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a connection's read buffer, and so of a request's headers.
const MAX_HEADERS: usize = 64 * 1024;
/// How long requests in progress may take to finish once the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// Between writes of when keys were last used.
const KEY_USES: Duration = Duration::from_secs(60);
/// Wait after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves until `shutdown` resolves, then stops accepting, ends the event streams, and gives
/// requests in progress ten seconds to finish.
///
/// # Errors
/// The listener cannot be used at all.
pub async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.local_addr()?;
    let router = crate::router(Arc::clone(&app));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut minute = tokio::time::interval(KEY_USES);
    let mut access = app.runtime.hub().access();
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            _ = minute.tick() => {
                let app = Arc::clone(&app);
                connections.spawn(async move { write_down_key_uses(&app).await });
            }
            // Here or in another replica; its sender is in `app`.
            Ok(()) = access.changed() => app.keys.clear(),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (slot, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (router, stopping) = (router.clone(), app.stopping.clone());
                    connections.spawn(async move {
                        let _slot = slot;
                        connection(stream, router, stopping, HEADER_TIMEOUT).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
    drop(listener);
    app.stopping.cancel();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "connections cut off");
        connections.shutdown().await;
    }
    write_down_key_uses(&app).await;
    Ok(())
}

async fn write_down_key_uses(app: &App) {
    let used = app.keys.take_used();
    if used.is_empty() {
        return;
    }
    if let Err(error) = app.store.touch_keys(used).await {
        tracing::warn!(%error, "uses of API keys not noted");
    }
}

/// `patience` is how long the client may take to send a request's headers.
async fn connection(
    stream: TcpStream,
    router: Router,
    stopping: CancellationToken,
    patience: Duration,
) {
    // Events are small and each is wanted at once.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience);
    builder.http1().max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(patience)
        .keep_alive_timeout(patience)
        .max_header_list_size(MAX_HEADERS as u32);
    let began = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&began);
    let service = router.map_request(move |request: Request<Incoming>| {
        begins.store(true, Ordering::Relaxed);
        request
    });
    let service = TowerToHyperService::new(service);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // The header timeout begins only when the protocol is known, which a client that says nothing,
    // or half of HTTP/2's preface, never lets happen; and HTTP/2 has none.
    let silent = async {
        tokio::time::sleep(patience).await;
        if began.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent => return tracing::debug!("connection without a request closed"),
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients that go away are the usual cause; nothing to be done about any of them.
        tracing::debug!(error = &*error, "connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_client_that_sends_no_request_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for said in [
            "",
            "PRI * HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HT",
        ] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(said.as_bytes()).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let patience = Duration::from_millis(20);
            connection(stream, Router::new(), CancellationToken::new(), patience).await;
            let mut heard = Vec::new();
            // A reset is an end too.
            let _ = client.read_to_end(&mut heard).await;
        }
    }
}
