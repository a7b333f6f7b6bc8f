//! Which calls of a session are to run, in which order: what the official runner does with the
//! events it sees (contract 90 E), as a fold without time or network.
//!
//! History and live stream overlap, and a history is read again after each reconnection, so every
//! step here is idempotent by the call's id.

use std::collections::{HashMap, HashSet, VecDeque};

use freehold_base::Timestamp;

use super::idle::Idle;
use super::note::{Note, Permission, Use};

/// The calls of a session, as far as they are known.
pub(super) struct Calls {
    owned: fn(&Use) -> bool,
    pub(super) idle: Idle,
    seen: HashSet<String>,
    answered: HashSet<String>,
    verdicts: HashMap<String, Verdict>,
    held: HashMap<String, Use>,
    terminated: HashSet<String>,
    ready: VecDeque<Ready>,
    /// Set while a history is read.
    reading: Option<Reading>,
}

/// A call that may run.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) call: Use,
    /// A person allowed it; it holds the idle countdown until [`Calls::done`].
    confirmed: bool,
}

/// A person's word on a call, and when it came.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    allowed: bool,
    at: Option<Timestamp>,
}

#[derive(Default)]
struct Reading {
    /// Calls without a result so far, in order.
    open: Vec<Use>,
    ended_turn: bool,
}

impl Calls {
    /// `owned` says which calls this worker runs; others are left to whoever owns them.
    pub(super) fn new(idle: Idle, owned: fn(&Use) -> bool) -> Self {
        Self {
            owned,
            idle,
            seen: HashSet::new(),
            answered: HashSet::new(),
            verdicts: HashMap::new(),
            held: HashMap::new(),
            terminated: HashSet::new(),
            ready: VecDeque::new(),
            reading: None,
        }
    }

    /// A history is about to be read from its start.
    pub(super) fn begin_history(&mut self) {
        self.reading = Some(Reading::default());
    }

    /// The next event of the history.
    pub(super) fn past(&mut self, note: Note) {
        let Some(mut reading) = self.reading.take() else {
            return;
        };
        if !note.is_neutral() {
            reading.ended_turn = note.ends_turn();
        }
        self.learn(&note);
        if let Some(id) = note.answers() {
            reading.open.retain(|open| open.id != id);
        }
        if let Some(call) = note.tool_use() {
            reading.open.push(call);
        }
        self.reading = Some(reading);
    }

    /// The history could not be read to its end: what was not reached may hold the results, so
    /// nothing is run from it.
    pub(super) fn fail_history(&mut self) {
        self.reading = None;
        self.idle.disarm();
        self.drop_terminated();
    }

    /// The history is complete.
    pub(super) fn end_history(&mut self) {
        let Some(reading) = self.reading.take() else {
            return;
        };
        self.drop_terminated();
        self.idle.disarm();
        let mut outstanding = false;
        for call in reading.open {
            if self.answered.contains(&call.id) {
                continue;
            }
            let id = call.id.clone();
            let owned = (self.owned)(&call);
            self.seen.insert(id.clone());
            if self.ready.iter().any(|ready| ready.call.id == id) {
                outstanding = true;
                continue;
            }
            outstanding |= match self.route(call) {
                Routed::Ready { confirmed } => !(confirmed && owned),
                Routed::Waits | Routed::Settled => false,
            };
        }
        if reading.ended_turn && !outstanding {
            self.idle.arm();
        }
    }

    /// An event of the live stream.
    pub(super) fn live(&mut self, note: Note) {
        if !note.is_neutral() {
            if note.ends_turn() {
                self.idle.arm();
            } else {
                self.idle.disarm();
            }
        }
        self.learn(&note);
        if note.kind == "session.thread_status_terminated" {
            self.drop_terminated();
        }
        if let Some((id, allowed)) = note.verdict()
            && let Some(call) = self.held.remove(id)
        {
            let at = note.at();
            self.judge(call, Verdict { allowed, at }, true);
        }
        if let Some(call) = note.tool_use()
            && self.seen.insert(call.id.clone())
        {
            self.route(call);
        }
    }

    /// The next call to run, if any.
    pub(super) fn next(&mut self) -> Option<Ready> {
        while let Some(ready) = self.ready.pop_front() {
            if self.is_settled(&ready.call) {
                self.done(&ready);
            } else if (self.owned)(&ready.call) {
                return Some(ready);
            } else {
                tracing::debug!(call = %ready.call.id, "left to another client");
                if ready.confirmed {
                    // Its owner still has to answer.
                    self.idle.disarm();
                }
                self.done(&ready);
            }
        }
        None
    }

    /// Calls that may run and have not been given out.
    pub(super) fn waiting(&self) -> Vec<String> {
        let ids = self.ready.iter().map(|ready| ready.call.id.clone());
        ids.collect()
    }

    /// A call given by [`Calls::next`] is disposed of.
    pub(super) fn done(&mut self, ready: &Ready) {
        if ready.confirmed {
            self.idle.release();
        }
    }

    /// The server has the call's result.
    pub(super) fn answered(&mut self, id: &str) {
        self.answered.insert(id.to_owned());
    }

    /// Whether the server has the call's result.
    pub(super) fn is_answered(&self, id: &str) -> bool {
        self.answered.contains(id)
    }

    /// Whether a result would reach nobody: there is one, or the call's thread is over.
    pub(super) fn is_settled(&self, call: &Use) -> bool {
        self.answered.contains(&call.id)
            || call
                .thread
                .as_ref()
                .is_some_and(|thread| self.terminated.contains(thread))
    }

    fn learn(&mut self, note: &Note) {
        if let Some(id) = note.answers() {
            self.answered.insert(id.to_owned());
            self.verdicts.remove(id);
        }
        if let Some((id, allowed)) = note.verdict()
            && !self.answered.contains(id)
        {
            let at = note.at();
            self.verdicts.insert(id.to_owned(), Verdict { allowed, at });
        }
        if note.kind == "session.thread_status_terminated"
            && let Some(thread) = &note.session_thread_id
        {
            self.terminated.insert(thread.clone());
        }
    }

    /// Puts a call in line, or not: only what is allowed runs, and any sign of a denial wins.
    fn route(&mut self, call: Use) -> Routed {
        if self.is_settled(&call) {
            return Routed::Settled;
        }
        match (call.permission, self.verdicts.get(&call.id).copied()) {
            (Permission::Deny, _) | (_, Some(Verdict { allowed: false, .. })) => {
                if self.held.remove(&call.id).is_some() {
                    self.idle.release();
                }
                self.deny(&call);
                Routed::Settled
            }
            (_, Some(verdict)) => {
                let was_held = self.held.remove(&call.id).is_some();
                self.judge(call, verdict, was_held);
                Routed::Ready { confirmed: true }
            }
            (Permission::Allow, None) => {
                self.ready.push_back(Ready {
                    call,
                    confirmed: false,
                });
                Routed::Ready { confirmed: false }
            }
            (Permission::Ask, None) => {
                let id = call.id.clone();
                if self.held.insert(id, call).is_none() {
                    self.idle.hold();
                }
                Routed::Waits
            }
        }
    }

    fn judge(&mut self, mut call: Use, verdict: Verdict, was_held: bool) {
        if verdict.allowed && call.permission != Permission::Deny {
            if !was_held {
                self.idle.hold();
            }
            // Before the verdict nobody could run it.
            call.free_at = verdict.at;
            self.ready.push_back(Ready {
                call,
                confirmed: true,
            });
            return;
        }
        if was_held {
            self.idle.release();
        }
        self.deny(&call);
    }

    /// The denial itself answers the call, on the server.
    fn deny(&mut self, call: &Use) {
        tracing::info!(call = %call.id, tool = %call.name, "denied; not run");
        self.answered.insert(call.id.clone());
    }

    fn drop_terminated(&mut self) {
        let over: Vec<String> = self
            .held
            .iter()
            .filter(|(_, call)| self.is_settled(call))
            .map(|(id, _)| id.clone())
            .collect();
        for id in over {
            self.held.remove(&id);
            self.idle.release();
        }
    }
}

enum Routed {
    Ready { confirmed: bool },
    Waits,
    Settled,
}
