//! Sessions and threads (contracts 30 and 45).

use serde::{Deserialize, Serialize};

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
