//! Every way a sandbox can fail its caller.

use std::io;

use serde::{Deserialize, Serialize};

use crate::{Isolation, Operation};

/// Why a sandbox operation failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The spec itself is wrong.
    #[error("invalid sandbox spec: {0}")]
    InvalidSpec(String),
    /// The host offers less than the spec demands.
    #[error("this host offers isolation '{offered}' but '{wanted}' is required: {why}")]
    TooWeak {
        /// What the spec asked for.
        wanted: Isolation,
        /// What could be had.
        offered: Isolation,
        /// What is missing.
        why: String,
    },
    /// A sandbox with this id or directory is open already.
    #[error("the sandbox is already open")]
    AlreadyOpen,
    /// Setting it up failed.
    #[error("starting the sandbox failed at '{stage}': {detail}")]
    Start {
        /// Which step.
        stage: String,
        /// What the system said, and how to mend it where known.
        detail: String,
    },
    /// The sandbox ended or broke the protocol; its processes are gone, its files remain.
    #[error("the sandbox was lost: {reason}")]
    Lost {
        /// Why, for people; never content.
        reason: String,
    },
    /// The call was cancelled and did not answer in time; the sandbox was ended.
    #[error("the call was cancelled")]
    Cancelled,
    /// Too many calls, or no process left inside to serve this one.
    #[error("the sandbox is busy: {0}")]
    Busy(String),
    /// A request larger than the protocol allows.
    #[error("the request is {len} bytes, more than the {max} allowed")]
    RequestTooLarge {
        /// Its size.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// A file operation was refused.
    #[error("file operation refused: {problem}")]
    File {
        /// What was wrong.
        problem: FileProblem,
    },
    /// A program could not be started.
    #[error("the program could not be started: {0}")]
    Exec(String),
    /// The provider cannot do this; its capabilities list it.
    #[error("the {provider} provider cannot {operation}")]
    Unsupported {
        /// Its name.
        provider: &'static str,
        /// What was asked.
        operation: Operation,
    },
    /// A snapshot is damaged, hostile or of another kind; nothing of it was kept.
    #[error("the snapshot is refused: {0}")]
    Snapshot(String),
    /// A host system call failed.
    #[error("{what} failed")]
    Host {
        /// What was being done.
        what: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl SandboxError {
    pub(crate) fn host(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }
    pub(crate) fn lost(reason: impl Into<String>) -> Self {
        Self::Lost {
            reason: reason.into(),
        }
    }
}

impl From<FileProblem> for SandboxError {
    fn from(problem: FileProblem) -> Self {
        Self::File { problem }
    }
}

/// What is wrong with a file inside a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum FileProblem {
    /// It does not exist.
    #[error("no such file or directory")]
    NotFound,
    /// A directory, pipe, socket, device, or a symbolic link on the way.
    #[error("not a regular file")]
    NotRegular,
    /// Larger than the caller allows.
    #[error("larger than allowed")]
    TooLarge,
    /// Outside the directories that are served.
    #[error("outside the sandbox's directories")]
    Outside,
    /// The system refused.
    #[error("permission denied")]
    Denied,
    /// No room left.
    #[error("no space left")]
    NoSpace,
    /// Anything else.
    #[error("i/o error")]
    Io,
}
