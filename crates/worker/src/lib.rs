//! Runs tools for sessions: one sandbox per session, made when first needed, kept while the
//! session lives. [`local`] is the part inside the server process, for `cloud` environments;
//! [`agent`] is the program inside each sandbox.
//!
//! Nothing here knows the store or the engine: a session's place is given with each call, and what
//! comes out of a sandbox is checked before anyone else sees it.

pub mod agent;
mod content;
mod files;
mod floor;
pub mod local;
pub mod memory;
mod network;
mod packages;
pub mod service;
pub mod skills;
mod slot;
mod uploads;
mod variables;

pub use content::Reply;
pub use files::{FileSource, OutputFile, OutputReader};
pub use floor::NoSpace;
pub use local::{
    Call, Entered, Keeper, MemorySource, Options, Place, SandboxUnavailable, Save, Saved,
    SessionSandboxes,
};
pub use memory::MemoryMount;
pub use packages::PackagesError;
pub use skills::{Skill, SkillError};
pub use uploads::Upload;
pub use variables::Variable;
