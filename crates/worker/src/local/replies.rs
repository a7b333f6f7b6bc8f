//! What the model reads when a call did not come to its end.

use freehold_base::SessionId;
use freehold_sandbox::{SandboxError, ToolRequest};

use super::SandboxUnavailable;
use crate::content::Reply;
use crate::floor::Floor;

/// What a tool call that was stopped says (contract 40, "Interrupt").
pub(super) const INTERRUPTED: &str =
    "Tool execution was interrupted before completion. Please retry.";

pub(super) fn unavailable(session: &SessionId, error: &SandboxUnavailable) -> Reply {
    tracing::warn!(%session, error = error as &dyn std::error::Error, "no sandbox");
    let mut text = format!("The tool could not run: {error}.");
    if let SandboxUnavailable::Packages(error) = error
        && !error.output().is_empty()
    {
        text.push_str(&format!(" Its last lines:\n{}", error.output()));
    }
    Reply::error(text)
}

/// A call lost its sandbox for want of space.
pub(super) fn ended(floor: &Floor) -> Reply {
    let why = floor
        .check()
        .map_or_else(|full| format!(": {full}"), |()| String::new());
    Reply::error(format!(
        "The sandbox was ended while the tool ran{why}. What the call was writing may be \
         incomplete; other files are kept."
    ))
}

pub(super) fn failed(session: &SessionId, request: &ToolRequest, error: &SandboxError) -> Reply {
    tracing::warn!(
        %session, call = %request.id, error = error as &dyn std::error::Error, "tool call failed"
    );
    match error {
        SandboxError::Cancelled => Reply::error(INTERRUPTED),
        SandboxError::Lost { .. } => Reply::error(
            "The sandbox ended while the tool ran. Whether the call took effect is unknown. \
             Files are kept; running processes and shell state are gone. The next call starts \
             a new sandbox.",
        ),
        other => Reply::error(format!("The tool could not run: {other}.")),
    }
}
