//! Copying between two ends.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

/// How long a tunnel may be silent in both directions.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Bytes copied at a time in each direction of a tunnel.
const COPY: usize = 32 * 1024;

/// Copies both ways until both ends have closed, an error, or silence.
pub(super) async fn relay(
    client: impl AsyncRead + AsyncWrite,
    origin: impl AsyncRead + AsyncWrite,
) {
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut origin_read, mut origin_write) = tokio::io::split(origin);
    let active = Notify::new();
    let silence = async {
        while tokio::time::timeout(IDLE_LIMIT, active.notified())
            .await
            .is_ok()
        {}
    };
    let both = async {
        tokio::join!(
            copy(&mut client_read, &mut origin_write, &active),
            copy(&mut origin_read, &mut client_write, &active),
        )
    };
    tokio::select! {
        _ = both => {}
        () = silence => {}
    }
}

/// Copies one way; an end or error is passed on as an end.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    active: &Notify,
) {
    let mut buffer = vec![0; COPY];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 || to.write_all(&buffer[..n]).await.is_err() || to.flush().await.is_err() {
            break;
        }
        active.notify_one();
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}
