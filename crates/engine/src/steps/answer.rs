//! The answer the model owes: within the budget and the limits, compacting first when the context
//! no longer fits.

use freehold_base::{EventId, limits};
use freehold_wire::event::{
    EventBody, RetryStatus, SessionError, SessionErrorEvent, SessionErrorKind, StopReason,
};
use freehold_wire::session::Status;
use freehold_wire::usage::Budget;

use crate::decide::{Purpose, Step, View};
use crate::draft::Draft;
use crate::state::State;
use crate::summary::{PICO_PER_CENT, PicoUsd};

/// The context is compacted when it fills this share of the window, in percent.
const COMPACT_AT_PERCENT: u64 = 80;

pub(crate) fn answer(
    state: &State,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) -> Option<Step> {
    if !state.owes_reply {
        return None;
    }
    // System messages that came with the results belong to this request.
    let mut draft = super::accept::leading_system_messages(view);
    if !draft.is_empty() {
        return Some(Step::Append(draft));
    }
    if state.out_of_budget {
        return Some(Step::Park);
    }
    if budget_is_spent(state, view) {
        super::idle(
            state,
            &mut draft,
            StopReason::BudgetReached,
            None,
            view,
            new_id,
        );
        return Some(Step::Append(draft));
    }
    if let Some(at) = state.retry_at
        && at > view.now
    {
        return Some(Step::WaitUntil(at));
    }
    if state.rounds >= limits::MAX_TOOL_ROUNDS {
        let message = format!("the turn made {} rounds of tool calls", state.rounds);
        return Some(limit(
            state,
            view,
            SessionErrorKind::ToolUseLimitReached,
            message,
            new_id,
        ));
    }
    super::run(state, &mut draft, new_id);
    if view.facts.mcp.is_none() && !state.agent.mcp_servers.is_empty() {
        return Some(if draft.is_empty() {
            Step::Connect
        } else {
            Step::Append(draft)
        });
    }
    if !needs_compaction(state, view) {
        return Some(Step::CallModel(Purpose::Turn, draft));
    }
    if state.compactions >= limits::MAX_CONSECUTIVE_COMPACTIONS {
        let message = "the context does not fit the model however often it is compacted".to_owned();
        return Some(limit(
            state,
            view,
            SessionErrorKind::CompactionLimitReached,
            message,
            new_id,
        ));
    }
    Some(Step::CallModel(Purpose::Compact, draft))
}

fn needs_compaction(state: &State, view: &View<'_>) -> bool {
    let expected = state.context_tokens + state.conversation.added_tokens();
    let room = view.facts.context_window.saturating_mul(COMPACT_AT_PERCENT) / 100;
    // A context of one entry is a fresh question or a summary: there is nothing left to shorten.
    state.context_exceeded || (expected > room && state.conversation.entries().len() > 1)
}

fn budget_is_spent(state: &State, view: &View<'_>) -> bool {
    let Some(Budget::Limit(limit)) = &state.budget else {
        return false;
    };
    let cap = limit.max_list_cost.amount.parse::<PicoUsd>().unwrap_or(0) * PICO_PER_CENT;
    // A cost that cannot be known cannot be kept within a budget.
    state
        .summary
        .list_cost(view.now, view.rates)
        .is_none_or(|cost| cost >= cap)
}

fn limit(
    state: &State,
    view: &View<'_>,
    kind: SessionErrorKind,
    message: String,
    new_id: &mut dyn FnMut() -> EventId,
) -> Step {
    let mut draft = Draft::default();
    let error = SessionError::new(kind, message, RetryStatus::Exhausted);
    draft.push(new_id(), EventBody::Error(SessionErrorEvent { error }));
    super::give_up(state, &mut draft, view, new_id);
    debug_assert!(draft.status == Some(Status::Idle));
    Step::Append(draft)
}
