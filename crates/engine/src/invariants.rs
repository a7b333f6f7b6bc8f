//! What must hold of every history, whatever crashed while it was written. Used by the crash tests and
//! by `freehold doctor --history`; a checker that sees no work says so, so that an empty history never
//! counts as a good one.

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
    /// Results of tool uses.
    pub results: usize,
    /// Model requests.
    pub requests: usize,
    /// Turns that ended.
    pub idles: usize,
}

/// Checks a complete history, oldest first, as `GET events` lists it. `settled` means the session
/// is at rest: then nothing may be open.
///
/// # Errors
/// Every invariant that does not hold.
pub fn check(history: &[Value], settled: bool) -> Result<Work, Vec<Violation>> {
    let mut checker = Checker::default();
    for event in history {
        checker.event(event);
    }
    let (work, bad) = checker.finish(settled);
    if bad.is_empty() { Ok(work) } else { Err(bad) }
}

/// [`check`] of a history that is too long to be held.
#[derive(Debug, Default)]
pub struct Checker {
    work: Work,
    bad: Vec<Violation>,
    ids: HashSet<String>,
    last_at: Option<Timestamp>,
    /// Whether each tool use has its result.
    uses: HashMap<String, bool>,
    open_request: Option<String>,
    unprocessed: Vec<String>,
    running: bool,
    previous: String,
}

impl Checker {
    fn say(&mut self, violation: String) {
        self.bad.push(Violation(violation));
    }

    /// The next event, as `GET events` shows it.
    pub fn event(&mut self, event: &Value) {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        let (kind, id) = (text("type"), text("id"));
        self.work.events += 1;
        if !self.ids.insert(id.to_owned()) {
            self.say(format!("{id} ({kind}) is listed twice"));
        }
        let Ok(at) = text("processed_at").parse::<Timestamp>() else {
            self.unprocessed.push(format!("{id} ({kind})"));
            return;
        };
        if self.last_at.is_some_and(|last| at <= last) {
            self.say(format!("{id} ({kind}) is not later than the one before"));
        }
        self.last_at = Some(at);
        match kind {
            "user.message" => self.work.messages += 1,
            "agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use" => {
                self.work.uses += 1;
                self.uses.insert(id.to_owned(), false);
            }
            "agent.tool_result" | "user.tool_result" => self.answer(id, text("tool_use_id")),
            "agent.mcp_tool_result" => self.answer(id, text("mcp_tool_use_id")),
            "user.custom_tool_result" => self.answer(id, text("custom_tool_use_id")),
            "span.model_request_start" => {
                self.work.requests += 1;
                if let Some(open) = self.open_request.replace(id.to_owned()) {
                    self.say(format!("{id} starts while {open} is open"));
                }
                if !self.running {
                    self.say(format!("{id} starts while the session is idle"));
                }
            }
            "span.model_request_end" => {
                let start = text("model_request_start_id");
                if self.open_request.take().as_deref() != Some(start) {
                    self.say(format!("{id} ends {start}, which is not open"));
                }
            }
            "session.status_running" => self.running = true,
            "session.status_idle" => self.idle(id),
            "session.status_rescheduled" | "session.status_terminated" => self.running = false,
            _ => {}
        }
        kind.clone_into(&mut self.previous);
    }

    fn answer(&mut self, id: &str, use_id: &str) {
        self.work.results += 1;
        match self.uses.get_mut(use_id) {
            None => self.say(format!("{id} answers {use_id}, which nobody asked for")),
            Some(answered @ false) => *answered = true,
            Some(true) => self.say(format!("{use_id} has more than one result")),
        }
    }

    fn idle(&mut self, id: &str) {
        self.running = false;
        self.work.idles += 1;
        if self.previous != "session.usage" {
            self.say(format!("{id}: no session.usage directly before the idle"));
        }
        if self.open_request.is_some() {
            self.say(format!("{id} idles while a model request is open"));
        }
    }

    /// What the history shows, and every invariant that does not hold.
    pub fn finish(mut self, settled: bool) -> (Work, Vec<Violation>) {
        if settled {
            for event in std::mem::take(&mut self.unprocessed) {
                self.say(format!("{event} was never processed"));
            }
            if self.running {
                self.say("the last status is running".into());
            }
            if self.open_request.is_some() {
                self.say("a model request never ended".into());
            }
            let open = self.uses.iter().find(|(_, answered)| !**answered);
            if let Some(open) = open.map(|(open, _)| open.clone()) {
                self.say(format!("{open} never got a result"));
            }
        }
        (self.work, self.bad)
    }
}
