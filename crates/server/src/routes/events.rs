//! `/v1/sessions/{id}/events`: send, list, stream (contract 40).

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use freehold_engine::Summary;
use freehold_store::{AcceptError, Accepted, EventQuery, Input, NewEvent, SessionRow};
use freehold_wire::cursor::{Cursor, Order, Position, TimeRange};
use freehold_wire::environment::EnvironmentConfig;
use freehold_wire::event::params::{EventParams, SendEvents, event_deltas};
use freehold_wire::event::{EventBody, with_processed_at};
use freehold_wire::list::ListEvents;
use freehold_wire::session::Status;
use freehold_wire::usage::Budget;
use freehold_wire::{ApiError, ErrorKind, Scope, budget, parse};

use super::answers::{Standing, standing};
use super::files;
use super::query::{Asked, session, stored};
use super::stream::frames;
use crate::app::App;
use crate::auth::Caller;
use crate::http::{Fail, Payload, Reply, path_id, raw_json, sse};

/// Looks at the session again when another answer to the same call came between the look and the
/// write; the second look finds that answer.
const LOOKS: usize = 3;

/// `POST /v1/sessions/{id}/events`
pub(crate) async fn send(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Payload(body): Payload,
) -> Reply {
    let mut row = session(&app, &caller, &id).await?;
    let request: SendEvents = parse(&body)?;
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
                    row = session(&app, &caller, &id).await?;
                    continue;
                }
                Err(error) => return Err(refusal(error, &row)),
            }
        };
        return Ok(raw_json(listed(prepared.slots, &accepted)));
    }
    Err(ApiError::invalid("a tool call of this request was answered by somebody else").into())
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

/// How an event enters the session: results at once, the rest through the driver.
pub(super) fn input(app: &App, body: &EventBody) -> Input {
    let event = NewEvent::new(app.ids.next(), body);
    match body {
        EventBody::UserToolResult(_) | EventBody::UserCustomToolResult(_) => {
            Input::Record { event }
        }
        _ => {
            let starts_turn = matches!(
                body,
                EventBody::UserMessage(_) | EventBody::UserToolConfirmation(_)
            );
            Input::Queue { event, starts_turn }
        }
    }
}

/// Refuses a session that takes nothing more.
pub(super) fn open(row: &SessionRow) -> Result<(), ApiError> {
    let state = if row.archived_at.is_some() {
        "archived"
    } else if row.status == Status::Terminated {
        "terminated"
    } else {
        return Ok(());
    };
    Err(ApiError::invalid(format!(
        "Session `{}` is {state} and takes no more events.",
        row.id
    )))
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

/// The totals of a session.
pub(super) fn summary(row: &SessionRow) -> Result<Summary, Fail> {
    row.summary
        .as_deref()
        .map_or_else(|| Ok(Summary::default()), stored)
}

fn check_system(app: &App, row: &SessionRow, request: &SendEvents) -> Result<(), Fail> {
    let [.., EventParams::System(_)] = request.events.as_slice() else {
        return Ok(());
    };
    let agent: freehold_wire::agent::SessionAgent = stored(&row.agent)?;
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

/// `GET /v1/sessions/{id}/events`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let row = session(&app, &caller, &id).await?;
    let asked = ListEvents::read(&query, &row.id)?;
    let scope = ListEvents::scope(&row.id, asked.order);
    let query = EventQuery {
        types: asked.types.iter().map(|t| (*t).to_owned()).collect(),
        descending: asked.order == Order::Desc,
        ..ranged(&asked.created_at)
    };
    page(
        &app,
        &row,
        scope,
        asked.page,
        EventQuery {
            limit: asked.limit,
            ..query
        },
    )
    .await
}

fn ranged(range: &TimeRange) -> EventQuery {
    EventQuery {
        gt: range.gt,
        gte: range.gte,
        lt: range.lt,
        lte: range.lte,
        ..EventQuery::default()
    }
}

/// Bytes after which a page ends early; the next one goes on from there. One event may be as large
/// as a request, so a page is bounded by more than its number of events.
const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
/// Events read before their size is known.
const FIRST_READ: usize = 64;

/// One page of a session's events.
pub(super) async fn page(
    app: &App,
    row: &SessionRow,
    scope: Scope<'_>,
    cursor: Option<Cursor>,
    mut query: EventQuery,
) -> Reply {
    query.after = cursor.and_then(|c| match c.position {
        Position::Sequence(log, inbox) => Some((log, inbox)),
        _ => None,
    });
    let limit = query.limit;
    let mut out = String::from("{\"data\":[");
    let mut n = 0;
    let more = loop {
        // Few at first, then as many as fit by the size of those.
        let room = MAX_PAGE_BYTES.saturating_sub(out.len());
        let fitting = match out.len().checked_div(n) {
            None => FIRST_READ,
            Some(average) => (room / (average + 1)).max(1),
        };
        query.limit = fitting.min(limit - n);
        let mut found = app.store.list_events(&row.id, query.clone()).await?;
        let mut more = found.len() > query.limit;
        found.truncate(query.limit);
        for (read, event) in found.iter().enumerate() {
            if out.len() >= MAX_PAGE_BYTES {
                more = true;
                found.truncate(read);
                break;
            }
            if n > 0 {
                out.push(',');
            }
            out.push_str(&event.wire());
            n += 1;
        }
        query.after = query.position(&found).or(query.after);
        if !more || n >= limit || out.len() >= MAX_PAGE_BYTES {
            break more;
        }
    };
    out.push_str("],\"next_page\":");
    match query.after.filter(|_| more) {
        Some((log, inbox)) => {
            out.push('"');
            out.push_str(&scope.next(Position::Sequence(log, inbox)));
            out.push('"');
        }
        None => out.push_str("null"),
    }
    out.push('}');
    Ok(raw_json(out))
}

/// `GET /v1/sessions/{id}/events/stream`
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Asked(query): Asked,
) -> Reply {
    let deltas = event_deltas(&query.list("event_deltas"))?;
    // Subscribed before the look at the log's head, so that nothing lies between the two.
    let live = app.runtime.hub().subscribe(&path_id("Session", &id)?);
    let row = session(&app, &caller, &id).await?;
    let over = row.status == Status::Terminated;
    Ok(sse::response(frames(
        &app,
        live,
        row.id,
        row.head_seq,
        deltas,
        over,
    )))
}
