//! Takes the record of requests and decisions to the store, off the path of whoever makes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_base::{SharedClock, Timestamp, WorkspaceId};
use freehold_mcp::AuditRecord;
use freehold_store::{NewMcpAudit, Store};
use freehold_wire::credential::normalise;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

/// Entries that wait to be written. Beyond it they are counted and lost: a store that does not keep
/// up must not stop the calls.
const WAITING: usize = 10_000;
/// Entries written at once.
const BATCH: usize = 256;

/// Takes entries. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct AuditLog {
    messages: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
    clock: SharedClock,
}

enum Message {
    Entry(NewMcpAudit),
    Flush(oneshot::Sender<()>),
}

/// An entry, as it is made. Neither arguments nor results belong in it, nor anything secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// On whose behalf.
    pub workspace: WorkspaceId,
    /// When it began; none: now.
    pub at: Option<Timestamp>,
    /// The server's URL; query and fragment are left out.
    pub server: String,
    /// A method such as `tools/call`, or a decision such as `approve`.
    pub action: String,
    /// The tool, if it concerns one.
    pub tool: Option<String>,
    /// What came of it: a word.
    pub outcome: String,
    /// All else: `owner`, `request_id`, `fingerprint`, …
    pub body: Map<String, Value>,
}

impl freehold_mcp::Audit for AuditLog {
    fn record(&self, record: AuditRecord) {
        let mut body = Map::new();
        body.insert("owner".into(), record.owner.into());
        body.insert("request_id".into(), record.request_id.to_string().into());
        let arguments = record.arguments_sha256;
        body.extend(arguments.map(|hash| ("arguments_sha256".to_owned(), hash.into())));
        body.insert("sent".into(), record.request_bytes.into());
        body.insert("received".into(), record.response_bytes.into());
        body.insert("millis".into(), record.millis.into());
        if record.credential_echoed {
            body.insert("credential_echoed".into(), true.into());
        }
        let entry = Entry {
            workspace: record.workspace,
            at: Some(record.started_at),
            server: record.server_url,
            action: record.method,
            tool: record.tool,
            outcome: record.outcome.as_str().to_owned(),
            body,
        };
        AuditLog::record(self, entry);
    }
}

impl AuditLog {
    /// Starts the task that writes. It ends with the last clone.
    pub fn start(store: Store, clock: SharedClock) -> Self {
        let (messages, waiting) = mpsc::channel(WAITING);
        tokio::spawn(write(store, waiting));
        Self {
            messages,
            lost: Arc::default(),
            clock,
        }
    }

    /// Takes an entry.
    pub fn record(&self, entry: Entry) {
        let server = normalise(entry.server.split(['?', '#']).next().unwrap_or_default());
        let new = NewMcpAudit {
            workspace: entry.workspace,
            at: entry.at.unwrap_or_else(|| self.clock.now()),
            server,
            action: entry.action,
            tool: entry.tool,
            outcome: entry.outcome,
            body: Value::Object(entry.body).to_string(),
        };
        if self.messages.try_send(Message::Entry(new)).is_err() {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            if lost.is_power_of_two() {
                tracing::error!(
                    lost,
                    "entries of the MCP audit are lost: the store is behind"
                );
            }
        }
    }

    /// Comes back when everything that was taken before is written, or has failed to be.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.messages.send(Message::Flush(done)).await.is_ok() {
            let _ = written.await; // An error: the task is gone, and nothing waits.
        }
    }
}

/// What has gathered while the last batch was written is the next one.
async fn write(store: Store, mut waiting: mpsc::Receiver<Message>) {
    let mut messages = Vec::with_capacity(BATCH);
    while 0 < waiting.recv_many(&mut messages, BATCH).await {
        let (mut entries, mut flushes) = (Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Entry(entry) => entries.push(entry),
                Message::Flush(done) => flushes.push(done),
            }
        }
        let n_entries = entries.len();
        if 0 < n_entries
            && let Err(error) = store.add_mcp_audit(entries).await
        {
            tracing::error!(%error, n_entries, "entries of the MCP audit are lost");
        }
        for done in flushes {
            let _ = done.send(()); // Whoever waited may be gone.
        }
    }
}
