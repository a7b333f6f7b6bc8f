//! Sessions and threads (contracts 30 and 45).

use freehold_base::{EnvironmentId, SessionId, Timestamp, VaultId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub mod request;

pub use request::{
    AgentOverrides, AgentParam, CreateSession, SessionChanges, Updatable, UpdateSession,
};

use crate::agent::{Metadata, SessionAgent};
use crate::resource::Resource;
use crate::usage::{Budget, SessionUsage};

/// The constant `session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionTag {
    /// `session`.
    #[default]
    Session,
}

/// A session as shown; every key is always present. `A` is its agent: typed, or the stored JSON
/// ([`serde_json::value::RawValue`]) passed through unread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session<A = SessionAgent> {
    /// `sesn_…`.
    pub id: SessionId,
    /// Always `session`.
    pub r#type: SessionTag,
    /// The snapshot in force.
    pub agent: A,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The status.
    pub status: Status,
    /// The title.
    pub title: Option<String>,
    /// Metadata.
    pub metadata: Metadata,
    /// What is attached.
    pub resources: Vec<Resource>,
    /// `vlt_…`.
    pub vault_ids: Vec<VaultId>,
    /// The cap on list cost.
    pub budget: Option<Budget>,
    /// Totals.
    pub usage: SessionUsage,
    /// Times.
    pub stats: SessionStats,
    /// One for each `user.define_outcome`; kept as JSON, run in a later version.
    pub outcome_evaluations: Vec<Value>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
    /// The deployment that made it.
    pub deployment_id: Option<String>,
}

/// Times of a session, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct SessionStats {
    /// Sum of every thread's running time.
    pub active_seconds: f64,
    /// Since creation; frozen once terminated.
    pub duration_seconds: f64,
}

/// Status of a session and of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waiting for input.
    Idle,
    /// Working.
    Running,
    /// Waiting to retry a failed model request.
    Rescheduling,
    /// Over for good.
    Terminated,
}

impl Status {
    /// The wire value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Rescheduling => "rescheduling",
            Self::Terminated => "terminated",
        }
    }
    /// The status of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Idle,
            Self::Running,
            Self::Rescheduling,
            Self::Terminated,
        ]
        .into_iter()
        .find(|s| s.as_str() == name)
    }
}
