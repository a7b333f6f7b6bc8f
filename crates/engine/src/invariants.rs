//! What must hold of every history, whatever crashed while it was written. Used by the crash
//! tests; a checker that sees no work says so, so that an empty history never counts as a good one.

use std::collections::{HashMap, HashSet};

use freehold_base::Timestamp;
use serde_json::Value;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

/// How much work a history shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Events.
    pub events: usize,
    /// User messages.
    pub messages: usize,
    /// Tool uses.
    pub uses: usize,
    /// Turns that ended.
    pub idles: usize,
}

/// Checks a complete history, oldest first, as `GET events` lists it. `settled` means the session
/// is at rest: then nothing may be open.
///
/// # Errors
/// Every invariant that does not hold.
pub fn check(history: &[Value], settled: bool) -> Result<Work, Vec<Violation>> {
    let mut bad = Vec::new();
    let mut work = Work {
        events: history.len(),
        ..Work::default()
    };
    let mut ids = HashSet::new();
    let mut last_at: Option<Timestamp> = None;
    let mut uses: HashMap<&str, usize> = HashMap::new();
    let mut open_request: Option<&str> = None;
    let mut running = false;
    let mut previous = "";
    for event in history {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let (kind, id) = (text("type"), text("id"));
        if !ids.insert(id) {
            bad.push(Violation(format!("{id} ({kind}) is listed twice")));
        }
        match text("processed_at").parse::<Timestamp>() {
            Ok(at) => {
                if last_at.is_some_and(|last| at <= last) {
                    bad.push(Violation(format!(
                        "{id} ({kind}) is not later than the one before"
                    )));
                }
                last_at = Some(at);
            }
            Err(_) if settled => bad.push(Violation(format!("{id} ({kind}) was never processed"))),
            Err(_) => continue,
        }
        let mut answered = |use_id: &str| match uses.get_mut(use_id) {
            None => bad.push(Violation(format!(
                "{id} answers {use_id}, which nobody asked for"
            ))),
            Some(results @ 0) => *results = 1,
            Some(_) => bad.push(Violation(format!("{use_id} has more than one result"))),
        };
        match kind {
            "user.message" => work.messages += 1,
            "agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use" => {
                work.uses += 1;
                uses.insert(id, 0);
            }
            "agent.tool_result" | "user.tool_result" => answered(text("tool_use_id")),
            "agent.mcp_tool_result" => answered(text("mcp_tool_use_id")),
            "user.custom_tool_result" => answered(text("custom_tool_use_id")),
            "span.model_request_start" => {
                if let Some(open) = open_request.replace(id) {
                    bad.push(Violation(format!("{id} starts while {open} is open")));
                }
                if !running {
                    bad.push(Violation(format!("{id} starts while the session is idle")));
                }
            }
            "span.model_request_end" => {
                let start = text("model_request_start_id");
                if open_request.take() != Some(start) {
                    bad.push(Violation(format!("{id} ends {start}, which is not open")));
                }
            }
            "session.status_running" => running = true,
            "session.status_idle" => {
                running = false;
                work.idles += 1;
                if previous != "session.usage" {
                    bad.push(Violation(format!(
                        "{id}: no session.usage directly before the idle"
                    )));
                }
                if open_request.is_some() {
                    bad.push(Violation(format!(
                        "{id} idles while a model request is open"
                    )));
                }
            }
            "session.status_rescheduled" | "session.status_terminated" => running = false,
            _ => {}
        }
        previous = kind;
    }
    if settled {
        if running {
            bad.push(Violation("the last status is running".into()));
        }
        if open_request.is_some() {
            bad.push(Violation("a model request never ended".into()));
        }
        if let Some((open, _)) = uses.iter().find(|(_, n)| **n == 0) {
            bad.push(Violation(format!("{open} never got a result")));
        }
    }
    if bad.is_empty() { Ok(work) } else { Err(bad) }
}
