//! Confirmations are processed as soon as they arrive, whatever else is queued.

use freehold_base::EventId;
use freehold_wire::event::EventBody;

use crate::decide::{Step, View};
use crate::draft::Draft;
use crate::state::State;

pub(crate) fn confirm(
    state: &State,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) -> Option<Step> {
    let mut draft = Draft::default();
    let mut moves = false;
    for item in view.inbox {
        if let EventBody::UserToolConfirmation(c) = &item.body {
            moves |= state
                .call(&c.tool_use_id)
                .is_some_and(|c| c.verdict.is_none());
            draft.push(item.id.clone(), item.body.clone());
            draft.consume.push(item.seq);
        }
    }
    if draft.consume.is_empty() {
        return None;
    }
    // A call of a worker's is only released: the session keeps waiting, now for its result.
    let worker_only = state
        .calls
        .iter()
        .all(|c| matches!(c.kind, crate::CallKind::Worker(_)));
    if moves && !worker_only {
        super::run(state, &mut draft, new_id);
    }
    Some(Step::Append(draft))
}
