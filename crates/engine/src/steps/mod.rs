//! The steps a decision can take, one file each, in the order `decide` asks them.

mod accept;
mod answer;
mod calls;
mod confirm;
mod end_turn;
mod interrupt;
mod repair;

use freehold_base::EventId;
use freehold_wire::event::{
    Empty, EventBody, Idle, StopDetails, StopReason, ThreadIdle, ThreadStatus, UsageEvent,
};
use freehold_wire::session::Status;

pub(crate) use accept::accept;
pub(crate) use answer::answer;
pub(crate) use calls::calls;
pub(crate) use confirm::confirm;
pub(crate) use end_turn::{end_turn, give_up};
pub(crate) use interrupt::interrupt;
pub(crate) use repair::repair;

use crate::decide::View;
use crate::draft::Draft;
use crate::state::State;

/// Adds the events that make the session run, unless it does.
fn run(state: &State, draft: &mut Draft, new_id: &mut dyn FnMut() -> EventId) {
    if state.status == Status::Running {
        return;
    }
    draft.push(new_id(), EventBody::StatusRunning(Empty {}));
    draft.push(
        new_id(),
        EventBody::ThreadRunning(ThreadStatus {
            session_thread_id: state.thread.clone(),
            agent_name: state.agent.name.clone(),
        }),
    );
    draft.status = Some(Status::Running);
    draft.blocked = Some(false);
}

/// Adds the events that end a turn: the thread's idle, the usage directly before the session's
/// idle, and that as the last.
fn idle(
    state: &State,
    draft: &mut Draft,
    stop_reason: StopReason,
    stop_details: Option<StopDetails>,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) {
    draft.push(
        new_id(),
        EventBody::ThreadIdle(ThreadIdle {
            session_thread_id: state.thread.clone(),
            agent_name: state.agent.name.clone(),
            stop_reason: stop_reason.clone(),
            stop_details: stop_details.clone(),
        }),
    );
    let mut summary = state.summary.clone();
    summary.stop(view.now);
    draft.push(
        new_id(),
        EventBody::Usage(UsageEvent {
            usage: summary.usage(view.now, view.rates),
            budget: state.budget.clone(),
        }),
    );
    draft.blocked = Some(matches!(stop_reason, StopReason::RequiresAction { .. }));
    draft.push(
        new_id(),
        EventBody::StatusIdle(Idle {
            stop_reason,
            stop_details,
        }),
    );
    draft.status = Some(Status::Idle);
}
