//! A model request without an end: its driver died. Close it; the answer is still owed and is
//! asked for again.

use freehold_base::EventId;

use crate::decide::Step;
use crate::reply::{self, Spent};
use crate::state::State;

pub(crate) fn repair(state: &State, new_id: &mut dyn FnMut() -> EventId) -> Option<Step> {
    let open = state.open_request.as_ref()?;
    Some(Step::Append(reply::cut_off(
        open,
        Spent::NOTHING,
        false,
        new_id,
    )))
}
