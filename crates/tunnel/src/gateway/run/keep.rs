//! A connection to the edge, opened again whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::gateway::status::ConnectionStatus;
use crate::transport::connect::{ConnectError, Session, Target, connect};

/// Waits between attempts begin with this and double.
const FIRST: Duration = Duration::from_millis(50);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(30);
/// For so long after a loss the waits stay short: a server that was only restarted is found at once.
const HOPEFUL: Duration = Duration::from_secs(10);
/// The longest of those short waits.
const SHORT: Duration = Duration::from_millis(250);
/// An edge that refuses the token may know the next one soon.
const REFUSED: Duration = Duration::from_secs(30);

/// Keeps one connection to the edge open.
pub(super) async fn keep_connected(shared: Arc<Shared>, index: u32, stop: CancellationToken) {
    // The first alone: if it does not work, neither would the others.
    let mut wait = Duration::from_millis(u64::from(index) * 300);
    let mut lost = tokio::time::Instant::now();
    let mut next = FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = attempt(&shared, index) => connected,
        };
        let error = match connected {
            Ok(session) => {
                next = FIRST;
                let (serving, drain) = (Arc::clone(&shared), stop.clone());
                let checking = Arc::clone(&shared);
                let refuse = move |authority: &str| {
                    let serves = checking.table.load().serves(authority);
                    if !serves {
                        tracing::warn!(authority, "no route for host");
                    }
                    (!serves).then_some(StatusCode::NOT_FOUND)
                };
                let draining = stop.clone();
                let handle = move |incoming| serving.take(incoming, draining.clone());
                let ended = session.serve(drain, refuse, handle).await;
                lost = tokio::time::Instant::now();
                ended.err().map_or_else(
                    || "the edge closed the connection".to_owned(),
                    |e| e.to_string(),
                )
            }
            Err(ConnectError::Later(after)) => {
                next = after;
                ConnectError::Later(after).to_string()
            }
            Err(ConnectError::Token) => {
                next = REFUSED;
                ConnectError::Token.to_string()
            }
            Err(error) => error.to_string(),
        };
        if stop.is_cancelled() {
            return;
        }
        shared.lost(index, &error);
        let hopeful = lost.elapsed() < HOPEFUL && next < REFUSED;
        wait = shared.jitter(if hopeful { next.min(SHORT) } else { next });
        next = (next * 2).min(LONGEST);
    }
}

async fn attempt(shared: &Shared, index: u32) -> Result<Session, ConnectError> {
    let token = shared.token().map_err(ConnectError::Answer)?;
    let target = Target {
        edge: shared.edge.clone(),
        proxy: shared.config.proxy.clone(),
        tls: Arc::clone(&shared.tls),
        token,
        gateway_id: shared.id.clone(),
        index,
    };
    let session = connect(&target).await?;
    let welcome = session.welcome.clone();
    tracing::info!(
        connection = welcome.connection_id,
        index,
        "connected to the edge"
    );
    let since = Some(shared.ids.clock().now());
    shared.board.change(|status| {
        status.domain = Some(welcome.domain);
        let now = ConnectionStatus {
            id: Some(welcome.connection_id),
            since,
            error: None,
        };
        status.connections.insert(index, now);
    });
    shared.write_status();
    Ok(session)
}

impl Shared {
    fn lost(&self, index: u32, error: &str) {
        tracing::warn!(index, error, "not connected to the edge");
        let now = self.ids.clock().now();
        self.board.change(|status| {
            let lost = ConnectionStatus {
                id: None,
                since: Some(now),
                error: Some(error.to_owned()),
            };
            status.connections.insert(index, lost);
            status.last_error = Some((now, error.to_owned()));
        });
        self.write_status();
    }

    /// Somewhere between half of it and it.
    fn jitter(&self, wait: Duration) -> Duration {
        let mut random = [0; 4];
        self.ids.fill(&mut random);
        let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
        wait.mul_f64(0.5 + share / 2.0)
    }
}
