//! Whether an answer to a tool call can be taken: the call exists in this session, is of the right
//! kind, and is unanswered. The same answer again is no error, since clients retry a post whose
//! reply was lost; another answer is a 400, never a 409, which the SDKs would retry (contract 90 E).

use freehold_base::EventId;
use freehold_store::{SessionRow, StoredEvent};
use freehold_wire::ApiError;
use freehold_wire::event::{
    CustomToolResult, EventBody, Permission, ToolConfirmation, ToolResult, ToolUse, Verdict,
};
use freehold_wire::tool::BuiltinTool;

use crate::app::App;
use crate::http::Fail;

/// How an answer stands.
pub(crate) enum Standing {
    /// To be taken.
    New,
    /// Given before, word for word: the event as it was answered then.
    Repeated(String),
}

/// What refers to a call, in the log or waiting.
struct Given {
    kind: String,
    payload: String,
    wire: String,
}

/// Checks an inbound event; anything but an answer stands as new.
pub(crate) async fn standing(
    app: &App,
    session: &SessionRow,
    self_hosted: bool,
    body: &EventBody,
) -> Result<Standing, Fail> {
    match body {
        EventBody::UserToolConfirmation(c) => confirmation(app, session, c).await,
        EventBody::UserCustomToolResult(r) => custom_result(app, session, r).await,
        EventBody::UserToolResult(r) => tool_result(app, session, self_hosted, r).await,
        _ => Ok(Standing::New),
    }
}

async fn confirmation(
    app: &App,
    session: &SessionRow,
    sent: &ToolConfirmation,
) -> Result<Standing, Fail> {
    let id = &sent.tool_use_id;
    let call = call(
        app,
        session,
        "tool_use_id",
        id,
        &["agent.tool_use", "agent.mcp_tool_use"],
    )
    .await?;
    if used(&call)?.evaluated_permission != Permission::Ask {
        return Err(refuse("tool_use_id", id, "does not wait for a confirmation").into());
    }
    let given = given(app, session, id).await?;
    if let Some(before) = given.iter().find(|g| g.kind == "user.tool_confirmation") {
        let same = read::<ToolConfirmation>(&before.payload)? == *sent;
        return repeated(same, before, "tool_use_id", id);
    }
    if given.iter().any(|g| is_result(&g.kind)) {
        return Err(refuse("tool_use_id", id, "is already closed").into());
    }
    Ok(Standing::New)
}

async fn custom_result(
    app: &App,
    session: &SessionRow,
    sent: &CustomToolResult,
) -> Result<Standing, Fail> {
    let id = &sent.custom_tool_use_id;
    call(
        app,
        session,
        "custom_tool_use_id",
        id,
        &["agent.custom_tool_use"],
    )
    .await?;
    let given = given(app, session, id).await?;
    let Some(before) = given.iter().find(|g| is_result(&g.kind)) else {
        return Ok(Standing::New);
    };
    let stored: CustomToolResult = read(&before.payload)?;
    let same = stored.content == sent.content && failed(stored.is_error) == failed(sent.is_error);
    repeated(same, before, "custom_tool_use_id", id)
}

async fn tool_result(
    app: &App,
    session: &SessionRow,
    self_hosted: bool,
    sent: &ToolResult,
) -> Result<Standing, Fail> {
    let id = &sent.tool_use_id;
    if !self_hosted {
        return Err(ApiError::invalid(
            "user.tool_result is only accepted in sessions of a self-hosted environment; \
             in this session the server runs the tools",
        )
        .into());
    }
    let call = call(app, session, "tool_use_id", id, &["agent.tool_use"]).await?;
    let used = used(&call)?;
    if BuiltinTool::from_name(&used.name).is_none_or(BuiltinTool::is_server_side) {
        return Err(refuse("tool_use_id", id, "is run by the server").into());
    }
    let given = given(app, session, id).await?;
    if let Some(before) = given.iter().find(|g| is_result(&g.kind)) {
        let stored: ToolResult = read(&before.payload)?;
        let same = before.kind == "user.tool_result"
            && stored.content == sent.content
            && failed(stored.is_error) == failed(sent.is_error);
        return repeated(same, before, "tool_use_id", id);
    }
    match used.evaluated_permission {
        Permission::Allow => Ok(Standing::New),
        Permission::Deny => Err(refuse("tool_use_id", id, "was denied").into()),
        Permission::Ask => {
            let confirmed = given.iter().find(|g| g.kind == "user.tool_confirmation");
            match confirmed
                .map(|g| read::<ToolConfirmation>(&g.payload))
                .transpose()?
            {
                Some(c) if c.result == Verdict::Allow => Ok(Standing::New),
                Some(_) => Err(refuse("tool_use_id", id, "was denied").into()),
                None => Err(refuse("tool_use_id", id, "waits for a confirmation").into()),
            }
        }
    }
}

/// The use event of this id, if the session has one of the right kind.
async fn call(
    app: &App,
    session: &SessionRow,
    field: &str,
    id: &EventId,
    kinds: &[&str],
) -> Result<StoredEvent, Fail> {
    match app.store.event(&session.id, id).await? {
        Some(event) if kinds.contains(&event.kind.as_str()) => Ok(event),
        Some(_) => {
            let kinds = kinds.join(" or ");
            Err(ApiError::invalid(format!("{field}: `{id}` is not an {kinds} event")).into())
        }
        None => Err(ApiError::invalid(format!("{field}: no event `{id}` in this session")).into()),
    }
}

async fn given(app: &App, session: &SessionRow, id: &EventId) -> Result<Vec<Given>, Fail> {
    let (events, waiting) = app.store.references(&session.id, id).await?;
    let events = events.into_iter().map(|e| Given {
        wire: e.wire(),
        kind: e.kind,
        payload: e.payload,
    });
    let waiting = waiting.into_iter().map(|i| Given {
        wire: i.wire(),
        kind: i.kind,
        payload: i.payload,
    });
    Ok(events.chain(waiting).collect())
}

fn repeated(same: bool, before: &Given, field: &str, id: &EventId) -> Result<Standing, Fail> {
    if same {
        return Ok(Standing::Repeated(before.wire.clone()));
    }
    Err(refuse(field, id, "is already answered").into())
}

fn refuse(field: &str, id: &EventId, why: &str) -> ApiError {
    ApiError::invalid(format!("{field}: the call `{id}` {why}"))
}

fn is_result(kind: &str) -> bool {
    matches!(
        kind,
        "agent.tool_result"
            | "user.tool_result"
            | "user.custom_tool_result"
            | "agent.mcp_tool_result"
    )
}

/// Left out, null and false all mean success.
fn failed(is_error: Option<bool>) -> bool {
    is_error.unwrap_or(false)
}

fn used(call: &StoredEvent) -> Result<ToolUse, Fail> {
    read(&call.payload)
}

fn read<T: serde::de::DeserializeOwned>(payload: &str) -> Result<T, Fail> {
    serde_json::from_str(payload).map_err(|error| Fail::internal(&error))
}
