//! What comes next. Pure: the same state and view give the same step.

use std::collections::HashSet;

use freehold_base::{EventId, Timestamp};
use freehold_wire::event::EventBody;
use freehold_wire::session::Status;

use crate::draft::Draft;
use crate::request::Facts;
use crate::state::State;
use crate::steps;
use crate::summary::Rates;

/// Input that was accepted and not yet processed.
#[derive(Debug, Clone)]
pub struct Queued {
    /// Its place in the inbox.
    pub seq: i64,
    /// Its id, which its event keeps.
    pub id: EventId,
    /// The event.
    pub body: EventBody,
}

/// What the decision may look at beside the state.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The time.
    pub now: Timestamp,
    /// The lease epoch of whoever asks.
    pub epoch: i64,
    /// Open inbox items, oldest first.
    pub inbox: &'a [Queued],
    /// Calls that are running.
    pub in_flight: &'a HashSet<EventId>,
    /// What is known of the agent's model.
    pub facts: &'a Facts,
    /// Prices that are not per token.
    pub rates: Rates,
}

/// What a model request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To answer.
    Turn,
    /// To summarise the context.
    Compact,
}

/// One step.
#[derive(Debug)]
pub enum Step {
    /// Append this and decide again.
    Append(Draft),
    /// Append this (it may be empty) with a `span.model_request_start` and ask the model.
    CallModel(Purpose, Draft),
    /// Ask the agent's MCP servers for their tools, and decide again with [`Facts::mcp`].
    Connect,
    /// Start these calls, which are use ids in `state.calls`.
    RunTools(Vec<EventId>),
    /// Wait until then, or for input.
    WaitUntil(Timestamp),
    /// Wait for a running call, or for input.
    Wait,
    /// Nothing to do until new input: give up the lease.
    Park,
}

/// Decides. The order is the priority of things: repair, interrupts, permissions, the open round,
/// the answer that is owed, new input, the end of the turn.
pub fn decide(state: &State, view: &View<'_>, new_id: &mut dyn FnMut() -> EventId) -> Step {
    if state.status == Status::Terminated {
        return Step::Park;
    }
    steps::repair(state, new_id)
        .or_else(|| steps::interrupt(state, view, new_id))
        .or_else(|| steps::confirm(state, view, new_id))
        .or_else(|| steps::calls(state, view, new_id))
        .or_else(|| steps::answer(state, view, new_id))
        .or_else(|| steps::accept(state, view, new_id))
        .or_else(|| steps::end_turn(state, view, new_id))
        .unwrap_or(Step::Park)
}
