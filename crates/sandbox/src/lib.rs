//! Isolation for tool calls: one persistent sandbox per session, held by a small agent inside it.
//!
//! The host side ([`Provider`], [`Sandbox`]) starts an agent and talks to it over one socket; the
//! inside ([`agent`]) runs named tool handlers and serves files. Which tools exist is not known
//! here. Invariants:
//!
//! - nothing of the host is visible inside but read-only system directories and the sandbox's own
//!   state directories; no secret of the server ever enters
//! - the host treats every byte from the agent as hostile: bounded, and a violation ends the sandbox
//! - when the server goes, the control socket closes and every process inside dies; files stay
//! - a sandbox weaker than its spec's `min_isolation` is refused, never run

pub mod agent;
mod capability;
mod cgroup;
mod disk;
pub mod egress;
mod error;
mod exec;
mod host;
mod launch;
mod microvm;
mod namespaces;
mod network;
mod oci;
mod process;
mod program;
mod protocol;
mod provider;
mod report;
mod snapshot;
mod spec;
mod stack;
mod trash;

pub use capability::{Capabilities, Feature, Operation, Status};
pub use error::{FileProblem, SandboxError};
pub use exec::{ExecEvent, ExecHandle, ExecRequest, Exit, Finished};
pub use launch::plan::PATH;
pub use microvm::{Accelerator, MicrovmConfig, MicrovmProvider};
pub use namespaces::{IdMapping, NamespaceConfig, NamespaceProvider};
pub use network::{HostPattern, Injection, InvalidHostPattern, Network, NetworkPolicy};
pub use oci::{OciConfig, OciProvider, Runtime, RuntimeKind};
pub use process::{ProcessConfig, ProcessProvider};
pub use provider::{
    FileEntry, FileStream, Launcher, Listing, Provider, Sandbox, Stats, ToolReply, ToolRequest,
};
pub use snapshot::Snapshot;
pub use spec::{Access, Isolation, Limits, MAX_LAYERS, MAX_SHARES, SandboxSpec, Share, footprint};
