//! An interrupt goes ahead of everything queued: open calls are closed, the turn ends. On a
//! session that is not working it changes nothing but is acknowledged, with the idle repeated, so
//! that a client waiting for the idle after its interrupt always gets one.

use freehold_base::EventId;
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{CustomToolResult, EventBody, StopReason, ToolResult};

use crate::call::{Call, CallKind};
use crate::decide::{Step, View};
use crate::draft::Draft;
use crate::state::State;

/// Contract 40, "Interrupt while blocked", literally.
const INTERRUPTED: &str = "Tool execution was interrupted before completion. Please retry.";

pub(crate) fn interrupt(
    state: &State,
    view: &View<'_>,
    new_id: &mut dyn FnMut() -> EventId,
) -> Option<Step> {
    let mut draft = Draft::default();
    for item in view.inbox {
        if let EventBody::UserInterrupt(_) = item.body {
            draft.push(item.id.clone(), item.body.clone());
            draft.consume.push(item.seq);
        }
    }
    if draft.consume.is_empty() {
        return None;
    }
    for call in state.calls.iter().filter(|c| c.result.is_none()) {
        draft.push(new_id(), closing(call));
    }
    super::idle(state, &mut draft, StopReason::EndTurn, None, view, new_id);
    Some(Step::Append(draft))
}

/// Closes a call in the kind of event its answerer would have sent, so that a client's or worker's
/// own bookkeeping sees it answered.
fn closing(call: &Call) -> EventBody {
    let content = vec![ContentBlock::text(INTERRUPTED)];
    let is_error = Some(true);
    let tool_use_id = call.use_id.clone();
    match call.kind {
        CallKind::Custom => EventBody::UserCustomToolResult(CustomToolResult {
            custom_tool_use_id: tool_use_id,
            content,
            is_error,
        }),
        CallKind::Worker(_) => EventBody::UserToolResult(ToolResult {
            tool_use_id,
            content,
            is_error,
        }),
        CallKind::Server(_) | CallKind::Mcp | CallKind::Refused => call.answer(content, true),
    }
}
