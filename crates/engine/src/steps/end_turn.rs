//! The end of a turn.

use freehold_base::EventId;
use freehold_wire::event::{EventBody, StopReason};
use freehold_wire::session::Status;

use crate::decide::{Step, View};
use crate::draft::Draft;
use crate::state::State;

/// Nothing is owed, open or queued: the session idles.
pub(crate) fn end_turn(
    state: &State,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) -> Option<Step> {
    if state.status == Status::Idle {
        return None;
    }
    let mut draft = Draft::default();
    let (reason, details) = state.ending.clone();
    super::idle(state, &mut draft, reason, details, view, new_id);
    Some(Step::Append(draft))
}

/// The turn is dead. Queued messages are recorded, so that none is lost, but answered only with
/// the next turn: the contract's "queued inputs flushed".
pub(crate) fn give_up(
    state: &State,
    draft: &mut Draft,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) {
    for item in view.inbox {
        if matches!(
            item.body,
            EventBody::UserMessage(_) | EventBody::SystemMessage(_)
        ) {
            draft.push(item.id.clone(), item.body.clone());
            draft.consume.push(item.seq);
        }
    }
    super::idle(
        state,
        draft,
        StopReason::RetriesExhausted,
        None,
        view,
        new_id,
    );
}
