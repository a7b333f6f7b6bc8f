//! Keeping an item's lease by heartbeats (contract 50 §5, 90 D).

use std::time::Duration;

use freehold_base::EnvironmentId;
use freehold_client::{Client, ClientError};
use freehold_wire::work::WorkState;
use tokio::sync::watch;
use tokio::time::Instant;

/// Between two heartbeats, until the server says how long a lease lasts, and at most.
const INTERVAL: Duration = Duration::from_secs(30);
/// Assumed length of a lease until the server says.
const TTL: Duration = Duration::from_secs(90);
/// Length of a lease for the window in which results are sent, until the server says.
const SEND_WINDOW: Duration = Duration::from_secs(300);

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The server wants the item stopped.
    Stopped,
    /// Someone else holds the item, or the queue does.
    Lost,
    /// No heartbeat was answered for the length of a lease: someone else may hold it.
    AssumedLost,
    /// The server does not accept this worker any more.
    Rejected,
}

impl LeaseEnd {
    /// Whether the item is someone else's now, so that this worker must touch nothing of it.
    pub(super) fn is_lost(self) -> bool {
        matches!(self, Self::Lost | Self::AssumedLost)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Lost => "lease_lost",
            Self::AssumedLost => "lease_assumed_lost",
            Self::Rejected => "rejected",
        }
    }
}

/// What is known of a lease.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lease {
    pub(super) end: Option<LeaseEnd>,
    ttl: Option<Duration>,
}

impl Lease {
    /// How long a result is sent again: no longer than the lease can still be ours.
    pub(super) fn send_window(&self) -> Duration {
        self.ttl.unwrap_or(SEND_WINDOW)
    }
}

/// Whose heartbeats.
pub(super) struct Item<'a> {
    pub(super) client: &'a Client,
    pub(super) environment: &'a EnvironmentId,
    pub(super) work: &'a str,
    /// The first `expected_last_heartbeat`.
    pub(super) expected: &'a str,
    /// Seconds a lease shall last; `None` leaves it to the server.
    pub(super) ttl_seconds: Option<u64>,
}

/// Sends heartbeats until the lease ends. To be dropped when the item has been served.
pub(super) async fn keep(item: Item<'_>, lease: &watch::Sender<Lease>) {
    let mut beats = Beats {
        expected: item.expected.to_owned(),
        interval: INTERVAL,
        ends: Instant::now() + TTL,
    };
    // Not a moment longer than the lease can be ours, whatever hangs.
    let end = loop {
        let ends = beats.ends;
        match tokio::time::timeout_at(ends, beats.beat(&item, lease)).await {
            Ok(Some(end)) => break end,
            Ok(None) => {}
            Err(_) if beats.ends == ends => break LeaseEnd::AssumedLost,
            Err(_) => {}
        }
    };
    tracing::info!(work = item.work, end = end.as_str(), "the lease ended");
    lease.send_modify(|lease| lease.end = Some(end));
}

struct Beats {
    expected: String,
    interval: Duration,
    /// When the lease is over unless the server is heard of.
    ends: Instant,
}

impl Beats {
    /// One heartbeat and the wait after it; the end of the lease if it was said.
    async fn beat(&mut self, item: &Item<'_>, lease: &watch::Sender<Lease>) -> Option<LeaseEnd> {
        let sent = Instant::now();
        let beat = item.client.heartbeat_work(
            item.environment,
            item.work,
            &self.expected,
            item.ttl_seconds,
        );
        match tokio::time::timeout(self.interval, beat).await {
            Ok(Ok(answer)) => {
                self.expected = answer.last_heartbeat;
                if answer.ttl_seconds > 0 {
                    let ttl = Duration::from_secs(answer.ttl_seconds);
                    self.interval = (ttl / 2).clamp(Duration::from_secs(1), INTERVAL);
                    // From when it was sent: the server's count may have begun then.
                    self.ends = sent + ttl;
                    lease.send_modify(|lease| lease.ttl = Some(ttl));
                } else {
                    self.ends = sent + lease.borrow().ttl.unwrap_or(TTL);
                }
                let stopping = matches!(answer.state, WorkState::Stopping | WorkState::Stopped);
                if stopping || !answer.lease_extended {
                    return Some(LeaseEnd::Stopped);
                }
            }
            Ok(Err(error)) if error.status() == Some(412) => return Some(LeaseEnd::Lost),
            Ok(Err(error)) if is_fatal(&error) => {
                tracing::error!(work = item.work, %error, "a heartbeat was refused");
                return Some(LeaseEnd::Rejected);
            }
            Ok(Err(error)) => tracing::warn!(work = item.work, %error, "a heartbeat failed"),
            Err(_) => tracing::warn!(work = item.work, "a heartbeat was not answered in time"),
        }
        tokio::time::sleep(self.interval).await;
        None
    }
}

/// Whether sending the same again cannot help: a refusal, but for those that ask for patience.
pub(super) fn is_fatal(error: &ClientError) -> bool {
    match error {
        ClientError::Configuration(_) => true,
        _ => matches!(error.status(), Some(400..=407 | 410..=428 | 430..=499)),
    }
}
