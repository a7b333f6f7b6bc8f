//! A connection to the edge, opened again whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::backoff::{Backoff, Why};
use crate::gateway::status::ConnectionStatus;
use crate::transport::connect::{ConnectError, Session, Target, connect};

/// An edge that refuses the token may know the next one soon.
const REFUSED: Duration = Duration::from_secs(20);

/// Keeps one connection to the edge open.
pub(super) async fn keep_connected(shared: Arc<Shared>, index: u32, stop: CancellationToken) {
    // The first alone: if it does not work, neither would the others.
    let mut wait = Duration::from_millis(u64::from(index) * 300);
    let mut backoff = Backoff::new(Instant::now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        let connected = tokio::select! {
            () = stop.cancelled() => return,
            connected = attempt(&shared, index) => connected,
        };
        let (why, error) = match connected {
            Ok(session) => {
                let (serving, drain) = (Arc::clone(&shared), stop.clone());
                let checking = Arc::clone(&shared);
                let refuse = move |authority: &str| {
                    let serves = checking.table.borrow().serves(authority);
                    if !serves {
                        tracing::warn!(authority, "no route for host");
                    }
                    (!serves).then_some(StatusCode::NOT_FOUND)
                };
                let draining = stop.clone();
                let handle = move |incoming| serving.take(incoming, draining.clone());
                let ended = session.serve(drain, refuse, handle).await;
                let error = ended.err().map_or_else(
                    || "the edge closed the connection".to_owned(),
                    |e| e.to_string(),
                );
                (Why::Lost, error)
            }
            Err(error) => {
                let why = match error {
                    ConnectError::Later(after) => Why::NotBefore(after),
                    ConnectError::Token => Why::NotBefore(REFUSED),
                    _ => Why::Failed,
                };
                (why, error.to_string())
            }
        };
        if stop.is_cancelled() {
            return;
        }
        shared.lost(index, &error);
        wait = backoff.wait(why, Instant::now(), &shared.ids);
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
}
