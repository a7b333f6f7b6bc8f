//! Every limit a client or an operator can meet, in one place. Sizes in bytes unless named
//! otherwise; where a number comes from the contract its file is named.

/// Body of a JSON request: 32 MB (contract 00 §8); above it 413 `request_too_large`.
pub const MAX_JSON_BODY: usize = 32 * 1024 * 1024;
/// Body of one file: 500 MB (contract 72 §3).
pub const MAX_FILE: u64 = 500 * 1024 * 1024;
/// Metadata pairs (contract 00 §7).
pub const MAX_METADATA_PAIRS: usize = 16;
/// Characters of a metadata key.
pub const MAX_METADATA_KEY: usize = 64;
/// Characters of a metadata value.
pub const MAX_METADATA_VALUE: usize = 512;
/// Characters of an agent's or environment's name (contract 10).
pub const MAX_NAME: usize = 256;
/// Characters of a description (contract 10).
pub const MAX_DESCRIPTION: usize = 2048;
/// Characters of a system prompt (contract 10).
pub const MAX_SYSTEM: usize = 100_000;
/// Tools counted over all toolsets of an agent (contract 10).
pub const MAX_TOOLS: usize = 256;
/// MCP servers of an agent (contract 10).
pub const MAX_MCP_SERVERS: usize = 20;
/// MCP servers whose tools a workspace remembers; beyond it those go that nobody decided over.
pub const MAX_MCP_CATALOGUE_SERVERS: usize = 1000;
/// Tools of one MCP server that are remembered, also of those that it no longer lists.
pub const MAX_MCP_CATALOGUE_TOOLS: usize = 2048;
/// Definitions of one tool of an MCP server that are remembered, beside those decided over.
pub const MAX_MCP_TOOL_VERSIONS: usize = 50;
/// Days for which requests to MCP servers are remembered.
pub const MCP_AUDIT_DAYS: i64 = 90;
/// Of a workspace's requests to MCP servers, as many are remembered.
pub const MAX_MCP_AUDIT: usize = 500_000;
/// Roster entries of a multiagent configuration (contract 10).
pub const MAX_ROSTER: usize = 20;
/// Skills of a session (contract 00 §8).
pub const MAX_SKILLS: usize = 500;
/// Bytes of all files of a skill together: 30 MB (contract 70 §4).
pub const MAX_SKILL: u64 = 30 * 1024 * 1024;
/// Files of a skill; our own bound, the contract names none.
pub const MAX_SKILL_FILES: usize = 1000;
/// Characters of a skill's name (contract 70 §4).
pub const MAX_SKILL_NAME: usize = 64;
/// Characters of a skill's description (contract 70 §4).
pub const MAX_SKILL_DESCRIPTION: usize = 1024;
/// Characters of a skill's display name (contract 70 §2).
pub const MAX_SKILL_DISPLAY_NAME: usize = 255;
/// Files attached to a session (contract 30).
pub const MAX_SESSION_FILES: usize = 500;
/// Vaults of a session (contract 64 §5).
pub const MAX_SESSION_VAULTS: usize = 50;
/// Active credentials of a vault (contract 64 §5).
pub const MAX_CREDENTIALS: usize = 20;
/// Events in `initial_events` (contract 30).
pub const MAX_INITIAL_EVENTS: usize = 50;
/// Events in one `POST events`; our own bound, the contract names none.
pub const MAX_EVENTS_PER_SEND: usize = 1000;
/// Events waiting in a session for its agent; our own bound, the contract names none.
pub const MAX_QUEUED_EVENTS: usize = 10_000;
/// Bytes of the events waiting in a session; our own bound.
pub const MAX_QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// Content blocks in one event; our own bound, as for `system.message` in contract 40.
pub const MAX_CONTENT_BLOCKS: usize = 1000;
/// Values of `event_deltas[]` (contract 40).
pub const MAX_EVENT_DELTAS: usize = 100;
/// Characters of a tool's output above which it is written to a file in the sandbox (contract 55 §12).
pub const TOOL_OUTPUT_SPILL_CHARS: usize = 100_000;
/// Characters of a spilled output that the model still sees.
pub const TOOL_OUTPUT_PREVIEW_CHARS: usize = 4_000;
/// Rounds of tool calls in one turn before it ends with `tool_use_limit_reached_error`.
pub const MAX_TOOL_ROUNDS: u32 = 500;
/// Compactions without output between them before `compaction_limit_reached_error`.
pub const MAX_CONSECUTIVE_COMPACTIONS: u32 = 3;
/// Attempts at one model request before a retryable failure is `exhausted`.
pub const MAX_MODEL_ATTEMPTS: u32 = 5;
/// Frames a slow event stream may fall behind before it is caught up from the log.
pub const HUB_BACKLOG: usize = 1024;
/// Bytes of an event above which event streams read it from the log, so that what is kept for a
/// slow stream is bounded in bytes too.
pub const HUB_FRAME: usize = 64 * 1024;
/// Characters of a memory store's name (contract 74).
pub const MAX_MEMORY_STORE_NAME: usize = 255;
/// Characters of a memory store's description (contract 74).
pub const MAX_MEMORY_STORE_DESCRIPTION: usize = 1024;
/// Bytes of a memory's content (contract 74).
pub const MAX_MEMORY: usize = 102_400;
/// Bytes of a memory's path (contract 74).
pub const MAX_MEMORY_PATH: usize = 1024;
/// Segments of a memory's path (contract 74).
pub const MAX_MEMORY_SEGMENTS: usize = 20;
/// Memories of a store (contract 74).
pub const MAX_MEMORIES: usize = 2000;
/// Memory stores of a session (contract 00 §8).
pub const MAX_SESSION_MEMORY_STORES: usize = 8;
/// Characters of `Anthropic-Worker-ID`; our own bound.
pub const MAX_WORKER_ID: usize = 256;
/// Work items handed out and not acknowledged for this long, in milliseconds, are handed out again
/// unless the poll says otherwise (contract 50 §2).
pub const WORK_RECLAIM_MS: u64 = 5_000;
/// Longest `reclaim_older_than_ms`: a day; our own bound.
pub const MAX_WORK_RECLAIM_MS: u64 = 24 * 60 * 60 * 1000;
/// Greatest `block_ms` of a poll (contract 50 §2).
pub const MAX_WORK_BLOCK_MS: u64 = 999;
/// Seconds a heartbeat extends a lease by (least, default, greatest). The default is the contract's
/// (50 §5); the bounds are our own.
pub const WORK_LEASE_SECONDS: (u64, u64, u64) = (5, 300, 3600);
/// Seconds from an acknowledgement to the first heartbeat; the lease helpers assume (contract 50 §5).
pub const WORK_START_SECONDS: u64 = 90;
/// Seconds a worker has to wind down once its item is asked to stop: the helpers take up to 60.
pub const WORK_STOP_SECONDS: u64 = 90;
/// Milliseconds in which a repeated heartbeat or acknowledgement is answered as the first was.
pub const WORK_REPLAY_MS: i64 = 10_000;
/// Milliseconds a stopped work item is kept: 7 days; our own bound.
pub const WORK_RETENTION_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Active tunnels of the organization (contract 60 §3).
pub const MAX_TUNNELS: usize = 10;
/// Active certificates of a tunnel (contract 60 §3).
pub const MAX_TUNNEL_CERTIFICATES: usize = 2;
/// Page sizes (default, greatest) of list endpoints.
pub mod page {
    /// Agents and agent versions (contract 10).
    pub const AGENTS: (usize, usize) = (20, 100);
    /// Environments; the contract leaves it open.
    pub const ENVIRONMENTS: (usize, usize) = (20, 100);
    /// Work items; the contract leaves it open.
    pub const WORK: (usize, usize) = (20, 100);
    /// Sessions; the contract leaves it open.
    pub const SESSIONS: (usize, usize) = (20, 100);
    /// Events and thread events (contract 00 §6).
    pub const EVENTS: (usize, usize) = (1000, 1000);
    /// Threads (contract 45).
    pub const THREADS: (usize, usize) = (1000, 1000);
    /// Session resources (contract 30): omitted means all.
    pub const RESOURCES: (usize, usize) = (1000, 1000);
    /// Files (contract 72).
    pub const FILES: (usize, usize) = (20, 1000);
    /// Skills and their versions (contract 70).
    pub const SKILLS: (usize, usize) = (20, 1000);
    /// Vaults, and the credentials of one (contract 64).
    pub const VAULTS: (usize, usize) = (20, 100);
    /// Tunnels, and the certificates of one (contract 60).
    pub const TUNNELS: (usize, usize) = (20, 1000);
    /// Models (contract 82).
    pub const MODELS: (usize, usize) = (20, 1000);
    /// MCP servers and their tools; ours.
    pub const MCP_SERVERS: (usize, usize) = (20, 100);
    /// Entries of the record of what was asked of MCP servers; ours.
    pub const MCP_AUDIT: (usize, usize) = (100, 1000);
    /// Memory stores, memories and their versions (contract 74).
    pub const MEMORIES: (usize, usize) = (20, 100);
    /// Memories and versions shown with their content, whatever `limit` says (contract 74).
    pub const MEMORIES_FULL: usize = 20;
}
