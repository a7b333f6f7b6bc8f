//! The first SIGTERM or SIGINT asks for an orderly end, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Exit, Failure};

/// Watches for signals in the background.
///
/// # Errors
/// Signals cannot be watched.
pub(super) fn watch(stop: CancellationToken) -> Result<(), Failure> {
    let cannot = |e| Failure::because("cannot watch for signals", &e);
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Nothing acknowledged is lost: what is not durable was not acknowledged.
        std::process::exit(Exit::Interrupted as i32);
    });
    Ok(())
}
