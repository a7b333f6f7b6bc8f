//! Limits and deadlines, each in one place.

use std::sync::Arc;
use std::time::Duration;

use freehold_base::IdSource;

use crate::audit::{Audit, NoAudit};

/// Longest JSON body, and longest event of a stream.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;
/// Most bytes read for one request, over all its streams.
pub(crate) const MAX_CALL: u64 = 64 << 20;
/// Most bytes of an error's body.
pub(crate) const MAX_ERROR: usize = 64 << 10;
/// Longest URL.
pub(crate) const MAX_URL: usize = 2048;
/// Longest session id.
pub(crate) const MAX_SESSION_ID: usize = 1024;
/// Most tools of a server.
pub const MAX_TOOLS: usize = 512;
/// Most pages of a listing.
pub(crate) const MAX_PAGES: usize = 20;
/// Longest definition of a tool, as JSON.
pub const MAX_DEFINITION: usize = 64 << 10;
/// Deepest schema.
pub(crate) const MAX_SCHEMA_DEPTH: usize = 32;
/// Longest time a listing is kept, whatever the server says.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(3600);
/// How often a server may ask for input before it answers.
pub(crate) const MAX_ROUNDS: usize = 8;
/// Longest state a server may have us carry between rounds.
pub(crate) const MAX_REQUEST_STATE: usize = 64 << 10;
/// How often a broken stream is resumed.
pub(crate) const MAX_RESUMES: usize = 5;
/// Most blocks of a result; what exceeds it is left out, and the result says so.
pub(crate) const MAX_BLOCKS: usize = 1000;

/// Answers what a server asks of a person.
pub trait Elicit: Send + Sync + 'static {
    /// The result of `elicitation/create` with these parameters.
    fn elicit(&self, params: &serde_json::Value) -> serde_json::Value;
}

/// How a connector behaves. The defaults are what is documented; tests shorten the waits.
#[derive(Clone)]
pub struct Options {
    /// Makes ids of requests that have none yet, and tells the time.
    pub ids: IdSource,
    /// Takes a record of each request.
    pub audit: Arc<dyn Audit>,
    /// Longest wait for a connection.
    pub connect: Duration,
    /// Longest wait for the answer that tells which era a server is of.
    pub probe: Duration,
    /// Longest wait for an answer.
    pub call: Duration,
    /// How far news of progress can extend that, counted from the start.
    pub call_with_progress: Duration,
    /// How long a listing is kept when its server does not say.
    pub ttl: Duration,
    /// Answers elicitation. Without it the client does not declare it, and declines.
    pub elicit: Option<Arc<dyn Elicit>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ids: IdSource::system(),
            audit: Arc::new(NoAudit),
            connect: Duration::from_secs(10),
            probe: Duration::from_secs(5),
            call: Duration::from_secs(60),
            call_with_progress: Duration::from_secs(300),
            ttl: Duration::from_secs(300),
            elicit: None,
        }
    }
}
