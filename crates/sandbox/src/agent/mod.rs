//! The in-sandbox program: sets up the isolation it was told to, locks itself down, then serves
//! tool calls and files. Tool logic is the caller's, behind [`Handler`].

mod archive;
mod cancel;
mod exec;
mod fence;
mod files;
mod listing;
mod roots;
mod serve;
mod spares;
mod spawn;
mod still;
mod supervise;
mod transfer;
mod unpack;

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::value::RawValue;

pub use cancel::{Cancel, CancelHook};
pub use fence::Fence;
pub(crate) use roots::Roots;

use crate::launch;

/// Runs tools. One handler serves all calls of a sandbox, several at the same time.
pub trait Handler: Send + Sync + 'static {
    /// Runs the tool `name`, blocking this thread until it is done. Must return soon after
    /// `cancel` fires, killing what it started.
    fn call(&self, name: &str, input: &RawValue, cancel: &Cancel) -> Reply;
}

/// What a tool came to.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Content blocks as JSON objects; more than 1,000 or 40 MiB in all become an error.
    pub content: Vec<serde_json::Value>,
    /// Whether the tool failed.
    pub is_error: bool,
}

impl Reply {
    /// An error with one text block.
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            content: vec![serde_json::json!({"type": "text", "text": text.into()})],
            is_error: true,
        }
    }
}

/// Where the handler finds itself.
#[derive(Debug, Clone)]
pub struct AgentContext {
    /// The directory tools work in: `/workspace` when isolated.
    pub workspace: PathBuf,
    /// Other directories tools may use, and whether each is read-only.
    pub extra_roots: Vec<(PathBuf, bool)>,
    /// The environment for processes that tools start; nothing else of the environment is fit.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the process is isolated from the host.
    pub isolated: bool,
    /// To be applied to every program a handler starts.
    pub fence: Fence,
}

/// The body of the hidden subcommand that [`crate::Launcher`] names. Call it first thing in `main`,
/// while the process has one thread and no open files of its own. Does not return.
///
/// The control socket is standard input; started by hand, the program says so and exits with 2.
pub fn main(make: impl FnOnce(AgentContext) -> Box<dyn Handler> + Send + 'static) -> ! {
    // Threads here wait for other things than memory, and one arena is forked and touched at less cost.
    #[cfg(target_env = "gnu")]
    // SAFETY: takes numbers only, before there is another thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    let code = match launch::enter() {
        Ok(inside) => serve::run(inside, make),
        Err(launch::NotStarted) => {
            eprintln!("this command is started by the server, not by hand");
            2
        }
    };
    std::process::exit(code)
}
