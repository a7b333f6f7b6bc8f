//! `POST /v1/sessions/{id}/events`: everything is checked first and taken at once, all or nothing.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_store::{AcceptError, Accepted, Input, SessionRow};
use freehold_wire::agent::SessionAgent;
use freehold_wire::environment::EnvironmentConfig;
use freehold_wire::event::params::{EventParams, SendEvents};
use freehold_wire::event::{EventBody, with_processed_at};
use freehold_wire::session::Status;
use freehold_wire::usage::Budget;
use freehold_wire::{ApiError, ErrorKind, budget, parse};

use super::{input, open, summary};
use crate::app::App;
use crate::auth::Principal;
use crate::http::{Fail, Payload, Reply, raw_json};
use crate::routes::answers::{Standing, standing};
use crate::routes::files;
use crate::routes::query::stored;

/// Looks at the session again when another answer to the same call came between the look and the
/// write; the second look finds that answer.
const LOOKS: usize = 3;

/// `POST /v1/sessions/{id}/events`
pub(crate) async fn send(
    State(app): State<Arc<App>>,
    principal: Principal,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let mut row = principal.session(&app, &id).await?;
    let request: SendEvents = parse(&body)?;
    check_sender(&principal, &request)?;
    for _ in 0..LOOKS {
        let prepared = prepare(&app, &row, &request).await?;
        let inputs = prepared.inputs;
        let accepted = if inputs.is_empty() {
            Vec::new()
        } else {
            match app.store.accept(&row.id, inputs).await {
                Ok(accepted) => {
                    app.runtime.wake(&row.id);
                    accepted
                }
                Err(AcceptError::AlreadyAnswered(_)) => {
                    row = principal.session(&app, &id).await?;
                    continue;
                }
                Err(error) => return Err(refusal(error, &row)),
            }
        };
        return Ok(raw_json(listed(prepared.slots, &accepted)));
    }
    Err(ApiError::invalid("a tool call of this request was answered by somebody else").into())
}

/// A worker answers calls and no more: what runs inside its sandboxes must not be able to speak for
/// the user, nor to allow its own calls.
fn check_sender(principal: &Principal, request: &SendEvents) -> Result<(), ApiError> {
    let answers = |e: &EventParams| {
        matches!(
            e,
            EventParams::ToolResult(_) | EventParams::CustomToolResult(_)
        )
    };
    if principal.is_workspace() {
        return Ok(());
    }
    if request.events.iter().any(|e| e.file_ids().next().is_some()) {
        // The model would read it to them, whoever's it is.
        return Err(ApiError::new(
            ErrorKind::Permission,
            "an environment key or session token opens no file, so its results cannot refer to \
             any: send the content itself",
        ));
    }
    if request.events.iter().all(answers) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorKind::Permission,
        "an environment key or session token may send only user.tool_result and \
         user.custom_tool_result; anything else needs an API key",
    ))
}

/// Where each event of the reply comes from.
enum Slot {
    /// Taken now: the next of the accepted.
    Taken,
    /// Known before, or not kept.
    Shown(String),
}

struct Prepared {
    slots: Vec<Slot>,
    inputs: Vec<Input>,
}

async fn prepare(app: &App, row: &SessionRow, request: &SendEvents) -> Result<Prepared, Fail> {
    open(row)?;
    let capped = at_cap(app, row)?;
    if let Some(n) = request
        .events
        .iter()
        .position(|e| capped && !e.is_accepted_at_cap())
    {
        return Err(ApiError::invalid(format!(
            "events.{n}: the session's budget is spent; until it is raised or removed only \
             user.tool_confirmation, user.tool_result, user.custom_tool_result and user.interrupt \
             are accepted"
        ))
        .into());
    }
    check_system(app, row, request)?;
    let self_hosted = matches!(
        stored::<EnvironmentConfig>(&row.environment)?,
        EnvironmentConfig::SelfHosted
    );
    let mut answered = HashSet::new();
    let mut prepared = Prepared {
        slots: Vec::new(),
        inputs: Vec::new(),
    };
    for (n, event) in request.events.iter().enumerate() {
        let at = |fail: Fail| fail.within(&format!("events.{n}"));
        if event
            .answers()
            .is_some_and(|id| !answered.insert((event.kind(), id)))
        {
            let twice = "the same call is answered twice in this request";
            return Err(ApiError::invalid(format!("events.{n}: {twice}")).into());
        }
        check_thread(row, event).map_err(at)?;
        files::check_references(app, &row.workspace_id, event.file_ids())
            .await
            .map_err(at)?;
        let body = event.clone().into_body().map_err(Fail::from).map_err(at)?;
        let standing = standing(app, row, self_hosted, &body).await.map_err(at)?;
        match standing {
            Standing::Repeated(event) => prepared.slots.push(Slot::Shown(event)),
            Standing::New if capped && is_ignored(row, &body) => {
                let event = body.payload(&app.ids.next());
                prepared
                    .slots
                    .push(Slot::Shown(with_processed_at(&event, None)));
            }
            Standing::New => {
                prepared.slots.push(Slot::Taken);
                prepared.inputs.push(input(app, &body));
            }
        }
    }
    Ok(prepared)
}

/// An interrupt of a session that is fully paused by its budget is accepted and changes nothing
/// (contract 30, "Budgets").
fn is_ignored(row: &SessionRow, body: &EventBody) -> bool {
    matches!(body, EventBody::UserInterrupt(_)) && row.status == Status::Idle && !row.blocked
}

/// Whether the session has spent its budget.
fn at_cap(app: &App, row: &SessionRow) -> Result<bool, Fail> {
    let Some(cap) = &row.budget else {
        return Ok(false);
    };
    let cap = budget::cap(&stored::<Budget>(cap)?);
    let summary = summary(row)?;
    // A cost that cannot be known cannot be kept within a budget: the engine pauses it too.
    Ok(summary
        .list_cost(app.now(), app.rates)
        .is_none_or(|cost| cost >= cap))
}

fn check_system(app: &App, row: &SessionRow, request: &SendEvents) -> Result<(), Fail> {
    let [.., EventParams::System(_)] = request.events.as_slice() else {
        return Ok(());
    };
    let agent: SessionAgent = stored(&row.agent)?;
    let entry = app.models.resolve(&agent.model.id);
    if !entry.is_some_and(|e| e.supports.system_messages) {
        return Err(ApiError::invalid(format!(
            "system.message: the model `{}` does not support messages of role system in the \
             middle of a conversation (model_does_not_support_mid_conversation_system)",
            agent.model.id
        ))
        .with_code("model_does_not_support_mid_conversation_system")
        .into());
    }
    let follows_result = matches!(
        request.events.as_slice(),
        [
            ..,
            EventParams::ToolResult(_) | EventParams::CustomToolResult(_),
            _
        ]
    );
    if row.blocked && !follows_result {
        return Err(ApiError::invalid(
            "system.message: while the session waits for a client it is accepted only directly \
             after a tool result",
        )
        .into());
    }
    Ok(())
}

fn check_thread(row: &SessionRow, event: &EventParams) -> Result<(), Fail> {
    match event.thread() {
        Some(thread) if *thread != row.thread_id => Err(ApiError::invalid(format!(
            "session_thread_id: no thread `{thread}` in this session"
        ))
        .into()),
        _ => Ok(()),
    }
}

fn refusal(error: AcceptError, row: &SessionRow) -> Fail {
    match error {
        AcceptError::SessionGone => ApiError::not_found("Session", row.id.as_str()).into(),
        AcceptError::Closed => ApiError::invalid(format!(
            "Session `{}` is archived or terminated and takes no more events.",
            row.id
        ))
        .into(),
        AcceptError::InboxFull => {
            let mut error = ApiError::new(
                ErrorKind::RateLimit,
                "too many events wait in this session; let it work first",
            );
            error.retry_after_ms = Some(5_000);
            error.into()
        }
        AcceptError::AlreadyAnswered(id) => {
            ApiError::invalid(format!("the call `{id}` is already answered")).into()
        }
        AcceptError::Store(error) => error.into(),
    }
}

fn listed(slots: Vec<Slot>, accepted: &[Accepted]) -> String {
    let mut accepted = accepted.iter();
    let events = slots.into_iter().filter_map(|slot| match slot {
        Slot::Shown(event) => Some(event),
        Slot::Taken => accepted.next().map(Accepted::wire),
    });
    format!("{{\"data\":[{}]}}", events.collect::<Vec<_>>().join(","))
}
