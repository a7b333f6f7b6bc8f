//! Asking whether a call may run.

use std::io::{BufRead, IsTerminal, Write};

use freehold_wire::event::{CustomToolUse, McpToolUse, ToolUse};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::terminal::clean_line;

/// Characters of a call that are shown before it is confirmed.
const MAX_SHOWN: usize = 2_000;

/// A call that may wait for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    name: String,
    input: String,
    /// Whether the client would have to run it; this command cannot.
    custom: bool,
}

impl Waiting {
    pub(super) fn built_in(call: &ToolUse) -> Self {
        Self {
            name: call.name.clone(),
            input: call.input.get().to_owned(),
            custom: false,
        }
    }
    pub(super) fn mcp(call: &McpToolUse) -> Self {
        Self {
            name: format!("{}: {}", call.mcp_server_name, call.name),
            input: call.input.get().to_owned(),
            custom: false,
        }
    }
    pub(super) fn custom(call: &CustomToolUse) -> Self {
        Self {
            name: call.name.clone(),
            input: call.input.get().to_owned(),
            custom: true,
        }
    }
}

/// Asks for each call; the events that answer them. `None` where nobody can be asked, or a call
/// needs more than a yes or a no.
pub(super) async fn ask(calls: &[(&str, &Waiting)]) -> Result<Option<Vec<Value>>, Failure> {
    let people = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    if !people || calls.is_empty() || calls.iter().any(|(_, call)| call.custom) {
        for (id, call) in calls {
            let kind = if call.custom {
                "a result"
            } else {
                "a confirmation"
            };
            let name = clean_line(&call.name, 100);
            eprintln!("waiting for {kind} for {name} ({})", clean_line(id, 100));
        }
        return Ok(None);
    }
    let mut answers = Vec::new();
    for (id, call) in calls {
        let shown = format!("{} {}", call.name, call.input);
        let question = format!("allow {}? [y/N] ", clean_line(&shown, MAX_SHOWN));
        let allowed = tokio::task::spawn_blocking(move || yes(&question))
            .await
            .map_err(|e| Failure::because("cannot ask", &e))?;
        answers.push(json!({
            "type": "user.tool_confirmation",
            "tool_use_id": id,
            "result": if allowed { "allow" } else { "deny" },
        }));
    }
    Ok(Some(answers))
}

/// Anything but a clear yes is a no.
fn yes(question: &str) -> bool {
    eprint!("{question}");
    // If it cannot be shown, it is not answered.
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.is_ok() && matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
