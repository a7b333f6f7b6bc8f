//! The work queue of self-hosted environments (contract 50).

mod request;

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use freehold_base::{EnvironmentId, Secret, Timestamp, WorkId};
use serde::{Deserialize, Serialize};

use crate::agent::Metadata;
pub use request::{BeatQuery, PollQuery, StopWork, UpdateWork};

/// First value of `expected_last_heartbeat`: no heartbeat was stored yet (contract 50 §5).
pub const NO_HEARTBEAT: &str = "NO_HEARTBEAT";

/// Metadata keys that begin with this are the queue's own.
pub const RESERVED: &str = "freehold_";
/// Metadata of an item whose session had items that ended because their workers were not
/// heard of: when the last of them ended. Calls that were free to run by then may have run.
pub const LAPSED_AT: &str = "freehold_lapsed_at";
/// With [`LAPSED_AT`]: the ids of those items, comma-separated; empty if they are too many.
pub const LAPSED_WORK: &str = "freehold_lapsed_work";

/// The constant `work`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkTag {
    /// `work`.
    #[default]
    Work,
}

/// Where an item is on its way (contract 50 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkState {
    /// Waiting; also while handed out and not acknowledged.
    Queued,
    /// Acknowledged.
    Starting,
    /// Its worker sends heartbeats.
    Active,
    /// Asked to stop.
    Stopping,
    /// Done, for good.
    Stopped,
}

impl WorkState {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Active => "active",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
    /// The state of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Starting,
            Self::Active,
            Self::Stopping,
            Self::Stopped,
        ]
        .into_iter()
        .find(|state| state.as_str() == name)
    }
}

/// What an item is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkData {
    /// `session`; a worker skips what it does not know.
    pub r#type: String,
    /// The session's id.
    pub id: String,
}

/// An item as shown. Every key is always there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// `work_…`.
    pub id: WorkId,
    /// Always `work`.
    pub r#type: WorkTag,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// What it is about.
    pub data: WorkData,
    /// Where it is.
    pub state: WorkState,
    /// A credential, see [`WorkSecret`]; only in the answer to a poll.
    pub secret: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// When it was queued first.
    pub created_at: Timestamp,
    /// When a worker acknowledged it.
    pub acknowledged_at: Option<Timestamp>,
    /// When its first heartbeat came.
    pub started_at: Option<Timestamp>,
    /// When its latest heartbeat came.
    pub latest_heartbeat_at: Option<Timestamp>,
    /// When it was asked to stop.
    pub stop_requested_at: Option<Timestamp>,
    /// When it stopped.
    pub stopped_at: Option<Timestamp>,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work")
            .field("id", &self.id)
            .field("data", &self.data)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// The lease as a failed heartbeat shows it: `details.current_state` of the 412 (contract 50 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// The item's state.
    pub state: WorkState,
    /// The latest heartbeat.
    pub last_heartbeat: Option<String>,
    /// Always false.
    pub lease_extended: bool,
    /// Seconds the latest heartbeat extended the lease by.
    pub ttl_seconds: u64,
}

/// What `secret` holds: base64url of this object's JSON (contract 50 §3).
#[derive(Debug, Clone)]
pub struct WorkSecret {
    /// Opens exactly the item's session, for as long as the item lives.
    pub sessions_token: Secret<String>,
}

#[derive(Serialize, Deserialize)]
struct SecretPayload {
    sessions_token: String,
}

/// The text is not a work secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a work secret")]
pub struct InvalidWorkSecret;

impl WorkSecret {
    /// The text for `secret`.
    ///
    /// # Errors
    /// Never in practice: a string always has a JSON form.
    pub fn encode(&self) -> serde_json::Result<Secret<String>> {
        let payload = SecretPayload {
            sessions_token: self.sessions_token.expose().clone(),
        };
        let json = serde_json::to_vec(&payload)?;
        Ok(Secret::new(URL_SAFE_NO_PAD.encode(json)))
    }

    /// Reads `secret`, with or without padding. Keys it does not know are ignored.
    ///
    /// # Errors
    /// [`InvalidWorkSecret`]; it says nothing of the text.
    pub fn decode(text: &str) -> Result<Self, InvalidWorkSecret> {
        let engine = if text.ends_with('=') {
            URL_SAFE
        } else {
            URL_SAFE_NO_PAD
        };
        let json = engine.decode(text).map_err(|_| InvalidWorkSecret)?;
        let payload: SecretPayload =
            serde_json::from_slice(&json).map_err(|_| InvalidWorkSecret)?;
        Ok(Self {
            sessions_token: Secret::new(payload.sessions_token),
        })
    }
}

/// The constant `work_heartbeat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeartbeatTag {
    /// `work_heartbeat`.
    #[default]
    WorkHeartbeat,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Always `work_heartbeat`.
    pub r#type: HeartbeatTag,
    /// To be sent back byte for byte with the next one; empty if none is stored.
    pub last_heartbeat: String,
    /// Whether the lease goes on.
    pub lease_extended: bool,
    /// The item's state.
    pub state: WorkState,
    /// Seconds the lease lasts from now.
    pub ttl_seconds: u64,
}

/// The constant `work_queue_stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatsTag {
    /// `work_queue_stats`.
    #[default]
    WorkQueueStats,
}

/// How a queue stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkStats {
    /// Always `work_queue_stats`.
    pub r#type: StatsTag,
    /// Items waiting, not handed out.
    pub depth: u64,
    /// Items handed out, not acknowledged.
    pub pending: u64,
    /// The oldest of both.
    pub oldest_queued_at: Option<Timestamp>,
    /// Distinct workers that polled in the last 30 seconds.
    pub workers_polling: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_back_and_is_not_shown() {
        let secret = WorkSecret {
            sessions_token: Secret::new("sk-ant-req-example".into()),
        };
        let text = secret.encode().unwrap();
        for padded in [false, true] {
            let mut text = text.expose().clone();
            while padded && !text.len().is_multiple_of(4) {
                text.push('=');
            }
            let back = WorkSecret::decode(&text).unwrap();
            assert_eq!(back.sessions_token, secret.sessions_token);
        }
        assert!(!format!("{secret:?}").contains("example"));
        for bad in ["", "!", "e30", "eyJzZXNzaW9uc190b2tlbiI6MX0"] {
            assert_eq!(WorkSecret::decode(bad).unwrap_err(), InvalidWorkSecret);
        }
    }
}
