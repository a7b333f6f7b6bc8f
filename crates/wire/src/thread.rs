//! Threads of a session (contract 45, "Thread object").

use freehold_base::{SessionId, ThreadId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::agent::ThreadAgent;
use crate::session::Status;
use crate::usage::SessionUsage;

/// The constant `session_thread`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreadTag {
    /// `session_thread`.
    #[default]
    SessionThread,
}

/// A thread as shown; every key is always present. `A` is its agent, which of the primary thread is
/// the session's without `multiagent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread<A = ThreadAgent> {
    /// `sthr_…`.
    pub id: ThreadId,
    /// Always `session_thread`.
    pub r#type: ThreadTag,
    /// Its session.
    pub session_id: SessionId,
    /// Who spawned it; null for the primary.
    pub parent_thread_id: Option<ThreadId>,
    /// The workflow run it belongs to.
    pub workflow_run_id: Option<String>,
    /// What it runs.
    pub agent: A,
    /// Its status.
    pub status: Status,
    /// Null until its first transition.
    pub stats: Option<ThreadStats>,
    /// Null until it is first idle.
    pub usage: Option<SessionUsage>,
    /// When it was spawned.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// Times of a thread, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ThreadStats {
    /// Time spent running.
    pub active_seconds: f64,
    /// Since creation; frozen once archived.
    pub duration_seconds: f64,
    /// From creation to the first model request; 0 for children.
    pub startup_seconds: f64,
}
