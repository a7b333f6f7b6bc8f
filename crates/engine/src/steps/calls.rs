//! The open round: deny what was denied, give up what a dead driver may have started, run what may
//! run, and wait for clients once nothing else moves.

use freehold_base::EventId;
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{EventBody, StopReason, Verdict};
use freehold_wire::session::Status;

use crate::call::{Call, CallKind};
use crate::decide::{Step, View};
use crate::draft::Draft;
use crate::state::State;

/// Told to the agent about a call that was running when the server stopped.
const OUTCOME_UNKNOWN: &str = "The server stopped while this call was running, and its outcome is \
     unknown: it may have taken full, partial or no effect. Check before repeating it.";

pub(crate) fn calls(
    state: &State,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) -> Option<Step> {
    if state.calls.is_empty() {
        return None;
    }
    if state.calls.iter().any(|c| is_of_another(c, view)) {
        // Nothing may be run here. Parking is an append, and its refusal ends this driver.
        return Some(Step::Park);
    }
    let mut draft = Draft::default();
    for call in &state.calls {
        if call.is_denied() {
            draft.push(new_id(), error(call, denial(call)));
        } else if is_lost(call, view) {
            draft.push(new_id(), error(call, OUTCOME_UNKNOWN.to_owned()));
        }
    }
    if !draft.is_empty() {
        let mut first = Draft::default();
        super::run(state, &mut first, new_id);
        first.merge(draft);
        return Some(Step::Append(first));
    }
    let runnable: Vec<_> = state
        .calls
        .iter()
        .filter(|c| c.is_runnable() && !view.in_flight.contains(&c.use_id))
        .map(|c| c.use_id.clone())
        .collect();
    if !runnable.is_empty() {
        let mut first = Draft::default();
        super::run(state, &mut first, new_id);
        return Some(if first.is_empty() {
            Step::RunTools(runnable)
        } else {
            Step::Append(first)
        });
    }
    if !view.in_flight.is_empty() {
        return Some(Step::Wait);
    }
    let awaited = state.awaited();
    if state.status == Status::Idle && state.blocked_on == awaited {
        return Some(Step::Park);
    }
    let reason = StopReason::RequiresAction { event_ids: awaited };
    super::idle(state, &mut draft, reason, None, view, new_id);
    Some(Step::Append(draft))
}

/// A call that became free to run under an earlier lease and has no result may have been running
/// when that driver died. Only calls that can be repeated are run again.
fn is_lost(call: &Call, view: &View<'_>) -> bool {
    call.is_runnable()
        && call.runnable_epoch < view.epoch
        && !view.in_flight.contains(&call.use_id)
        && match call.kind {
            CallKind::Server(tool) => !tool.is_repeatable(),
            // What its server says of repeating it is a claim, not a fact.
            _ => true,
        }
}

/// A call that became free to run under a later lease: this driver has lost its own and does not know it
/// yet, because it stood still. Whoever has the lease runs it.
fn is_of_another(call: &Call, view: &View<'_>) -> bool {
    call.is_runnable() && view.epoch < call.runnable_epoch
}

fn denial(call: &Call) -> String {
    match &call.verdict {
        Some((Verdict::Deny, Some(why))) => {
            format!("The user denied permission to run this tool, with this message: {why}")
        }
        _ => "The user denied permission to run this tool.".to_owned(),
    }
}

fn error(call: &Call, text: String) -> EventBody {
    call.answer(vec![ContentBlock::text(text)], true)
}
