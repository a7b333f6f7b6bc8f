//! Claims items and has them served, several at a time (contract 50 §8, 90 C).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{Clock, EnvironmentId, SystemClock};
use freehold_client::{Client, ClientError, Poll};
use freehold_wire::work::Work;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::item::{Claim, stop};
use super::lease::is_fatal;
use super::metrics::Metrics;
use super::post::backoff;

/// How long the server may hold a poll, ms: the most it accepts.
const BLOCK_MS: u64 = 999;
/// Two polls that found nothing are at least this far apart, should the server not hold them.
const EMPTY_INTERVAL: Duration = Duration::from_secs(1);
/// Longest wait after failed polls.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Longest id a worker may have.
const MAX_WORKER_ID: usize = 256;

/// Who serves claimed items.
#[async_trait]
pub trait Serve: Send + Sync + 'static {
    /// Serves an item to its end and sees to it that it is stopped. The cause is for metrics.
    ///
    /// # Errors
    /// No item can be served, so that claiming more makes no sense.
    async fn serve(&self, claim: Claim, work: Work) -> Result<&'static str, CannotServe>;
}

/// Why no item can be served.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotServe(pub String);

/// Why polling ended.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The server refuses this worker.
    #[error("the server refused the poll")]
    Refused(#[source] ClientError),
    /// See [`CannotServe`].
    #[error(transparent)]
    CannotServe(#[from] CannotServe),
}

/// Claims items of one environment.
pub struct Poller {
    /// With the environment key.
    pub client: Client,
    /// `env_…`.
    pub environment: EnvironmentId,
    /// Names this worker to the server.
    pub worker: String,
    /// Items served at a time.
    pub max_items: usize,
    /// Who serves them.
    pub serve: Arc<dyn Serve>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// No claims after it.
    pub stop: CancellationToken,
}

/// When to stop polling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The worker stops.
    Stopped,
    /// There is nothing to do.
    Drained,
}

impl Poller {
    /// Polls, and waits for the items being served.
    ///
    /// # Errors
    /// See [`PollError`]; items being served have come to their ends first.
    pub async fn run(&self, until: Until) -> Result<(), PollError> {
        let room = Arc::new(Semaphore::new(self.max_items.max(1)));
        let mut items: JoinSet<Result<(), CannotServe>> = JoinSet::new();
        let polled = loop {
            let permit = tokio::select! {
                biased;
                () = self.stop.cancelled() => break Ok(()),
                Some(ended) = items.join_next(), if !items.is_empty() => match flat(ended) {
                    Ok(()) => continue,
                    Err(error) => break Err(error.into()),
                },
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let claimed = tokio::select! {
                biased;
                () = self.stop.cancelled() => break Ok(()),
                claimed = self.claim(until) => claimed,
            };
            match claimed {
                Ok(Some(work)) => {
                    let (serve, metrics) = (Arc::clone(&self.serve), Arc::clone(&self.metrics));
                    items.spawn(async move {
                        let _permit = permit;
                        served(&*serve, &metrics, work).await
                    });
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let mut result = polled;
        while let Some(ended) = items.join_next().await {
            if let (Err(error), Ok(())) = (flat(ended), &result) {
                result = Err(error.into());
            }
        }
        result
    }

    /// The next item, acknowledged. `None` when drained.
    async fn claim(&self, until: Until) -> Result<Option<Work>, PollError> {
        let mut failures = 0;
        loop {
            let asked = Instant::now();
            let poll = Poll {
                worker_id: Some(&self.worker),
                block_ms: Some(BLOCK_MS),
                reclaim_older_than_ms: None,
            };
            match self.client.poll_work(&self.environment, poll).await {
                Ok(Some(work)) => {
                    self.metrics.polled("item");
                    failures = 0;
                    if self.ack(&work).await {
                        return Ok(Some(work));
                    }
                }
                Ok(None) => {
                    self.metrics.polled("empty");
                    failures = 0;
                    if until == Until::Drained {
                        return Ok(None);
                    }
                    tokio::time::sleep(EMPTY_INTERVAL.saturating_sub(asked.elapsed())).await;
                }
                Err(error) if is_fatal(&error) => {
                    self.metrics.polled("refused");
                    return Err(PollError::Refused(error));
                }
                Err(error) => {
                    self.metrics.polled("failed");
                    let wait = backoff(failures, MAX_WAIT);
                    failures += 1;
                    tracing::warn!(failures, %error, "a poll failed; trying again");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Acknowledges an item; whether it is ours. One that is not is handed out again.
    async fn ack(&self, work: &Work) -> bool {
        let id = work.id.as_str();
        match self.client.ack_work(&self.environment, id).await {
            Ok(_) => true,
            Err(error) if is_fatal(&error) => {
                tracing::error!(work = id, %error, "an item was not acknowledged; stopping it");
                stop(&self.client, &Claim::from(work.clone()), true).await;
                false
            }
            Err(error) => {
                tracing::warn!(work = id, %error, "an item was not acknowledged");
                tokio::time::sleep(backoff(0, MAX_WAIT)).await;
                false
            }
        }
    }
}

async fn served(serve: &dyn Serve, metrics: &Metrics, work: Work) -> Result<(), CannotServe> {
    let waited = SystemClock.now().seconds_since(work.created_at);
    let (id, session) = (work.id.clone(), work.data.id.clone());
    tracing::info!(work = %id, %session, waited, "claimed");
    metrics.claimed(waited);
    let ended = serve.serve(Claim::from(work.clone()), work).await;
    let cause = *ended.as_ref().unwrap_or(&"failed");
    tracing::info!(work = %id, %session, cause, "ended");
    metrics.ended(cause);
    ended.map(drop)
}

/// A task that panicked has lost its item, not the worker.
fn flat(ended: Result<Result<(), CannotServe>, tokio::task::JoinError>) -> Result<(), CannotServe> {
    match ended {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "serving an item failed");
            Ok(())
        }
    }
}

/// Whether a text can be a worker's id: it goes into a header.
pub fn is_worker_id(text: &str) -> bool {
    (1..=MAX_WORKER_ID).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
}
