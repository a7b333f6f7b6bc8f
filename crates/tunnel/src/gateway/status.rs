//! How a gateway is, for people and for probes.

mod serve;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use freehold_base::Timestamp;
use serde::{Deserialize, Serialize};

pub(super) use serve::serve;

/// What a gateway says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether requests can come in.
    pub ready: bool,
    /// Whether it was told to stop; it is not ready any more.
    #[serde(default)]
    pub stopping: bool,
    /// The tunnel's domain, once the edge has told it.
    pub domain: Option<String>,
    /// Each connection to the edge, by its number.
    pub connections: BTreeMap<u32, ConnectionStatus>,
    /// Routes: name and target.
    pub routes: BTreeMap<String, String>,
    /// Days the certificate is still valid; negative if it is not any more.
    pub certificate_days_left: i64,
    /// Requests that have ended, by how: `ok`, `unparsed` (answered, but not read for the audit),
    /// `refused` by the server, `cut`, `not_forwarded`.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
    /// What a person should look at.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What last went wrong, and when.
    pub last_error: Option<(Timestamp, String)>,
}

/// One connection to the edge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// The edge's name of it; `None` while there is none.
    pub id: Option<String>,
    /// Since when it is as it is.
    pub since: Option<Timestamp>,
    /// Why there is none.
    pub error: Option<String>,
}

/// The status, shared.
#[derive(Default)]
pub struct Board(Mutex<Status>);

impl Board {
    /// The status now.
    pub fn now(&self) -> Status {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes it.
    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut status);
        let connected = status.connections.values().any(|c| c.id.is_some());
        status.ready = connected && !status.stopping;
    }

    /// Counts a request.
    pub(super) fn ended(&self, how: &str) {
        self.change(|status| match status.requests.get_mut(how) {
            Some(count) => *count += 1,
            None => _ = status.requests.insert(how.to_owned(), 1),
        });
    }

    /// Notes what went wrong.
    pub fn failed(&self, at: Timestamp, what: String) {
        self.change(|status| status.last_error = Some((at, what)));
    }
}
