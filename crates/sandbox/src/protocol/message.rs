//! The headers of frames. Bodies: tool input and output as JSON, file content raw.

use serde::{Deserialize, Serialize};

use crate::{FileEntry, FileProblem};

/// Host to agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ToAgent {
    pub id: u64,
    pub ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    /// Run a tool; the body is its input. Answered by `Reply`.
    Call { name: String },
    /// Kill the call with id `call`, or the program with that handle, which is forgotten; itself not
    /// answered, the call is.
    Cancel { call: u64 },
    /// Answered by `Listing`, the entries in the body.
    List { dir: String },
    /// Open a file for reading; the ask's id becomes its handle. Answered by `Opened`.
    Open { path: String, max: u64 },
    /// The next chunk of an open file. Answered by `Chunk`.
    Pull { handle: u64 },
    /// Begin a new file; the ask's id becomes its handle.
    Create { path: String },
    /// Append the body to it.
    Push { handle: u64 },
    /// Put the new file in place.
    Commit { handle: u64 },
    /// Forget a handle; an uncommitted file goes, a program is killed.
    Close { handle: u64 },
    /// Delete a file.
    Delete { path: String },
    /// Start a program; the body is a [`Command`] of `command` bytes, then its input. The ask's id
    /// becomes its handle.
    Exec { command: u32 },
    /// Wait for output or the end of a program. Answered by `Output` or `Exited`.
    Next { handle: u64 },
    /// Kill a program and all it started.
    Kill { handle: u64 },
    /// Begin an archive of what is kept, within bounds; the ask's id becomes its handle.
    Pack { bytes: u64, entries: u64 },
    /// The next piece of it. Answered by `Chunk` or `Packed`.
    PackNext { handle: u64 },
    /// Begin to unpack an archive, within bounds; the ask's id becomes its handle.
    Unpack { bytes: u64, entries: u64 },
    /// The body is the next piece of it; an empty one ends it.
    UnpackPush { handle: u64 },
    /// Answered by `Usage`.
    Usage,
    /// Stop every process but the agent, or let them go on.
    Still { on: bool },
}

/// A program to start.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Command {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    /// Bytes of output to pass on.
    pub output: u64,
}

/// Agent to host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FromAgent {
    pub id: u64,
    pub answer: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Answer {
    Reply {
        is_error: bool,
    },
    Listing {
        truncated: bool,
    },
    Opened {
        size: u64,
    },
    Chunk {
        last: bool,
    },
    Done,
    /// Some output of a program in the body.
    Output {
        error: bool,
    },
    /// An archive ended, and its handle is forgotten.
    Packed {
        skipped: u64,
    },
    /// Disk in use by what is kept.
    Usage {
        bytes: u64,
        inodes: u64,
    },
    /// It ended, and its handle is forgotten.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
        truncated: bool,
    },
    Failed {
        problem: Problem,
    },
}

/// Why the agent could not do what was asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Problem {
    /// No thread or too many calls.
    Busy,
    /// The file system's answer.
    File(FileProblem),
    /// A program could not be started; the body says why.
    Exec,
    /// An archive is refused or could not be made; the body says why.
    Refused,
    /// The host asked for something that makes no sense.
    Protocol,
}

/// What the inside reports once it is locked down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Handshake {
    /// The Landlock state of the agent, in words; empty when unused.
    pub landlock: String,
    /// Whether tools cannot signal the agent at all.
    pub agent_fenced: bool,
    /// Whether tools cannot signal the agent's first thread.
    pub agent_protected: bool,
    /// Whether seccomp filters are installed.
    pub seccomp: bool,
    /// Whether further user namespaces are also refused by the kernel's own limit.
    pub namespaces_capped: bool,
    /// Why connections to only a few ports are carried out; `None` if all are, or none.
    pub ports_missing: Option<String>,
    /// Whether the host's uptime is hidden.
    pub time_namespace: bool,
    /// Whether the mounts of kept folders say nothing of where they lie on the host.
    pub hidden_paths: bool,
    /// Whether what is kept is limited in bytes and inodes.
    pub disk_quota: bool,
}

/// Why set-up failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub stage: String,
    pub detail: String,
}

/// The body of a `Listing`.
pub(crate) type Entries = Vec<FileEntry>;
