//! The program inside a sandbox: the sandbox's agent with the built-in tools.

use freehold_sandbox::agent::{AgentContext, Cancel, Handler, Reply};
use freehold_tools::{Prepare, Root, ToolSet, Workspace};
use serde_json::value::RawValue;

/// The tools of one sandbox.
struct Tools(ToolSet);

/// Makes the handler that serves a sandbox's calls.
pub fn handler(context: AgentContext) -> Box<dyn Handler> {
    let extra_roots = context
        .extra_roots
        .into_iter()
        .map(|(path, read_only)| Root { path, read_only })
        .collect();
    let workspace = Workspace {
        root: context.workspace,
        extra_roots,
    };
    let fence = context.fence;
    let prepare = Prepare::with(move |program| fence.apply(program));
    Box::new(Tools(ToolSet::prepared(workspace, context.env, prepare)))
}

impl Handler for Tools {
    fn call(&self, name: &str, input: &RawValue, cancel: &Cancel) -> Reply {
        let inner = freehold_tools::Cancel::new();
        let outer = inner.clone();
        // Dropped with the call, so that a late cancellation reaches nothing.
        let _hook = cancel.on_cancel(move || outer.cancel());
        let output = self.0.call(name, input, &inner);
        Reply {
            content: output.content,
            is_error: output.is_error,
        }
    }
}
