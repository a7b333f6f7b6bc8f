//! New input, in the order it was accepted: one user message at a time, each with the system
//! messages that directly follow it.

use freehold_base::EventId;
use freehold_wire::event::EventBody;

use crate::decide::{Step, View};
use crate::draft::Draft;
use crate::state::State;

pub(crate) fn accept(
    state: &State,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) -> Option<Step> {
    let mut draft = leading_system_messages(view);
    let rest = &view.inbox[draft.consume.len()..];
    if let Some(item) = rest.first() {
        draft.push(item.id.clone(), item.body.clone());
        draft.consume.push(item.seq);
        for item in rest[1..].iter().take_while(|i| is_system(&i.body)) {
            draft.push(item.id.clone(), item.body.clone());
            draft.consume.push(item.seq);
        }
        super::run(state, &mut draft, new_id);
    }
    (!draft.is_empty()).then_some(Step::Append(draft))
}

/// System messages at the head of the inbox: they join the context without starting a turn.
pub(super) fn leading_system_messages(view: &View<'_>) -> Draft {
    let mut draft = Draft::default();
    for item in view.inbox.iter().take_while(|i| is_system(&i.body)) {
        draft.push(item.id.clone(), item.body.clone());
        draft.consume.push(item.seq);
    }
    draft
}

fn is_system(body: &EventBody) -> bool {
    matches!(body, EventBody::SystemMessage(_))
}
