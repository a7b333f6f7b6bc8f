//! What the worker reads of an event. Lenient: servers may be newer, and a field that is not
//! understood must not stop a session, nor let a call run that may not.

use freehold_base::Timestamp;
use freehold_client::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The fields of all events that count here.
#[derive(Debug, Deserialize)]
pub(super) struct Note {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    processed_at: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    input: Option<Box<RawValue>>,
    #[serde(default)]
    evaluated_permission: Option<String>,
    #[serde(default)]
    pub(super) session_thread_id: Option<String>,
    #[serde(default)]
    pub(super) tool_use_id: Option<String>,
    #[serde(default)]
    pub(super) custom_tool_use_id: Option<String>,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    stop_reason: Option<Reason>,
}

#[derive(Debug, Deserialize)]
struct Reason {
    #[serde(rename = "type")]
    kind: String,
}

/// A call as the agent made it.
#[derive(Debug, Clone)]
pub(super) struct Use {
    /// `sevt_…`.
    pub(super) id: String,
    pub(super) name: String,
    /// Of a custom tool.
    pub(super) custom: bool,
    pub(super) input: Box<RawValue>,
    pub(super) permission: Permission,
    /// `None` on the primary thread.
    pub(super) thread: Option<String>,
    /// Since when it may run: when it was made, or allowed. `None` if that cannot be read.
    pub(super) free_at: Option<Timestamp>,
}

/// What was decided about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permission {
    Allow,
    /// Also every word that is not known.
    Ask,
    Deny,
}

impl Note {
    /// Reads an event; `None` if it has another shape than any that counts.
    pub(super) fn read(event: &Event) -> Option<Self> {
        match serde_json::from_str(event.raw()) {
            Ok(note) => Some(note),
            Err(_) => {
                tracing::warn!(event = %event.id, kind = %event.kind, "an event cannot be read");
                None
            }
        }
    }

    /// When it was processed, by the server's clock.
    pub(super) fn at(&self) -> Option<Timestamp> {
        self.processed_at.as_deref()?.parse().ok()
    }

    /// The call, if it is one that a worker may be asked to run.
    pub(super) fn tool_use(self) -> Option<Use> {
        let custom = match self.kind.as_str() {
            "agent.tool_use" => false,
            "agent.custom_tool_use" => true,
            _ => return None,
        };
        Some(Use {
            free_at: self.at(),
            id: self.id,
            name: self.name?,
            custom,
            input: self.input?,
            permission: match self.evaluated_permission.as_deref() {
                None | Some("allow") => Permission::Allow,
                Some("deny") => Permission::Deny,
                Some(_) => Permission::Ask,
            },
            thread: self.session_thread_id,
        })
    }

    /// The call this event is the result of.
    pub(super) fn answers(&self) -> Option<&str> {
        match self.kind.as_str() {
            "user.tool_result" => self.tool_use_id.as_deref(),
            "user.custom_tool_result" => self.custom_tool_use_id.as_deref(),
            // Of a built-in tool on a worker's thread the server speaks only when it ended the
            // call itself, for example after an interrupt.
            "agent.tool_result" => self.tool_use_id.as_deref(),
            _ => None,
        }
    }

    /// A person's verdict: the call, and whether it may run. Unknown words deny.
    pub(super) fn verdict(&self) -> Option<(&str, bool)> {
        if self.kind != "user.tool_confirmation" {
            return None;
        }
        let allowed = self.result.as_deref() == Some("allow");
        Some((self.tool_use_id.as_deref()?, allowed))
    }

    /// Whether a turn is over; only `requires_action` leaves it open.
    pub(super) fn ends_turn(&self) -> bool {
        self.kind == "session.status_idle"
            && self.stop_reason.as_ref().map(|r| r.kind.as_str()) != Some("requires_action")
    }

    /// Whether it says nothing about the session being at rest.
    pub(super) fn is_neutral(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "user.tool_confirmation" | "session.thread_status_terminated"
        )
    }

    /// Whether nothing can follow.
    pub(super) fn ends_session(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "session.status_terminated" | "session.deleted"
        )
    }
}
