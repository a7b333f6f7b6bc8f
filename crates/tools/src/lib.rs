//! The tools of `agent_toolset_20260401` that touch a workspace: bash, read, write, edit, glob and
//! grep (contract 55 §5-11), one file each. Synchronous: they run inside a sandbox, a thread a call.
//! Texts are those of the official workers, so that a model cannot tell which one it works with.
//!
//! The file tools reach the workspace and its extra roots and nothing else ([`path`]); bash is bound
//! only by the sandbox around it.

mod bash;
mod cancel;
mod edit;
mod failure;
mod file;
mod glob;
mod grep;
mod ignoring;
mod input;
mod output;
mod path;
mod read;
mod replace;
mod walk;
mod write;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::value::RawValue;

pub use cancel::{Cancel, CancelHook};
pub use output::ToolOutput;

use failure::Failure;

/// Where the tools work.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Where bash starts and relative paths begin; absolute.
    pub root: PathBuf,
    /// Other directories the file tools may reach.
    pub extra_roots: Vec<Root>,
}

/// A directory outside the workspace that the file tools may reach. Where roots lie in each other,
/// the innermost decides.
#[derive(Debug, Clone)]
pub struct Root {
    /// Absolute.
    pub path: PathBuf,
    /// Whether `write` and `edit` refuse it.
    pub read_only: bool,
}

/// What is done to a program before it is started; nothing by default.
#[derive(Clone, Default)]
pub struct Prepare(Option<Arc<Change>>);

type Change = dyn Fn(&mut Command) + Send + Sync;

impl Prepare {
    /// With `change`.
    pub fn with(change: impl Fn(&mut Command) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(change)))
    }

    fn apply(&self, command: &mut Command) {
        if let Some(change) = &self.0 {
            change(command);
        }
    }
}

impl std::fmt::Debug for Prepare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Prepare").field(&self.0.is_some()).finish()
    }
}

/// The six tools over one workspace, and the shell that lives between calls of bash. Dropping it
/// kills the shell and its process group.
#[derive(Debug)]
pub struct ToolSet {
    workspace: Workspace,
    bash: bash::Bash,
}

impl ToolSet {
    /// Tools over `workspace`. `env` is all of bash's environment, save `PS1`, `PS2` and `TERM`.
    pub fn new(workspace: Workspace, env: Vec<(OsString, OsString)>) -> Self {
        Self::prepared(workspace, env, Prepare::default())
    }

    /// As [`ToolSet::new`], with a last word on every program before it is started.
    pub fn prepared(
        workspace: Workspace,
        env: Vec<(OsString, OsString)>,
        prepare: Prepare,
    ) -> Self {
        let bash = bash::Bash::new(workspace.root.clone(), env, prepare);
        Self { workspace, bash }
    }

    /// Runs the tool `name` and blocks until it is done. Calls of bash wait for each other, others
    /// run side by side. Soon after `cancel` fires the call returns an error and leaves nothing
    /// running. Inputs that do not fit the tool's schema and unknown tools are error outputs too.
    pub fn call(&self, name: &str, input: &RawValue, cancel: &Cancel) -> ToolOutput {
        let workspace = &self.workspace;
        let done = match name {
            "bash" => input::parse(name, input).and_then(|i| self.bash.call(&i, cancel)),
            "read" => input::parse(name, input).and_then(|i| read::call(workspace, &i)),
            "write" => input::parse(name, input).and_then(|i| write::call(workspace, &i)),
            "edit" => input::parse(name, input).and_then(|i| edit::call(workspace, &i)),
            "glob" => input::parse(name, input).and_then(|i| glob::call(workspace, &i, cancel)),
            "grep" => input::parse(name, input).and_then(|i| grep::call(workspace, &i, cancel)),
            _ => Err(Failure::new(format!(
                "unknown tool {}",
                failure::quote(name)
            ))),
        };
        done.unwrap_or_else(ToolOutput::from)
    }
}
