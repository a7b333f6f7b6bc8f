//! From the store to what a driver works with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use freehold_base::SessionId;
use freehold_engine::{Detail, Facts, Folded, Placement, Queued, SkillNote, State};
use freehold_model::ModelEntry;
use freehold_store::{Inbox, InboxItem, SessionRow, StoreError, StoredEvent};
use freehold_wire::agent::SessionAgent;
use freehold_wire::event::EventBody;
use freehold_wire::resource::{Access, MemoryStoreResource};
use freehold_wire::tool::BuiltinTool;

use crate::credentials::{self, EnvironmentCredential};
use crate::executor::{MemoryMount, Place, Skill, ToolExecutor, Upload};
use crate::mcp::session;
use crate::runtime::Shared;

/// Why a session cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// What is stored cannot be read: a fault of ours, or of whoever edited the file.
    #[error("stored {what} is unreadable")]
    Unreadable {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
}

pub(crate) fn unreadable(what: &'static str) -> impl FnOnce(serde_json::Error) -> LoadError {
    move |source| LoadError::Unreadable { what, source }
}

/// States of resting sessions, least recently used first to go.
pub(crate) struct StateCache {
    capacity: usize,
    inner: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    /// With the sequence number each state stands at.
    states: HashMap<SessionId, (i64, State)>,
    /// Least recently used first.
    order: VecDeque<SessionId>,
}

impl StateCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            inner: Mutex::default(),
        }
    }
    /// Takes a session's state out, with the sequence number it stands at.
    pub(crate) fn take(&self, session: &SessionId) -> Option<(i64, State)> {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.order.retain(|s| s != session);
        inner.states.remove(session)
    }
    /// Keeps a session's state.
    pub(crate) fn put(&self, session: &SessionId, head: i64, state: State) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.order.retain(|s| s != session);
        inner.order.push_back(session.clone());
        inner.states.insert(session.clone(), (head, state));
        while inner.order.len() > self.capacity {
            if let Some(oldest) = inner.order.pop_front() {
                inner.states.remove(&oldest);
            }
        }
    }
    /// Drops a session's state.
    pub(crate) fn forget(&self, session: &SessionId) {
        self.take(session);
    }
}

/// Events folded at a time.
const TAIL_PAGE: usize = 1000;
/// Events that others may have appended during a turn, usually.
const FEW: usize = 32;

/// Folds everything after `head` into the state; gives the new head.
pub(crate) async fn catch_up(
    shared: &Shared,
    session: &SessionId,
    state: &mut State,
    mut head: i64,
) -> Result<i64, LoadError> {
    loop {
        let page = shared.store.tail(session, head, TAIL_PAGE).await?;
        fold_all(state, &page, &mut head)?;
        if page.len() < TAIL_PAGE {
            return Ok(head);
        }
    }
}

/// Takes in what others appended or queued; gives the new head and the inbox.
pub(crate) async fn news(
    shared: &Shared,
    session: &SessionId,
    state: &mut State,
    mut head: i64,
) -> Result<(i64, (i64, Vec<Queued>)), LoadError> {
    if let Some((events, inbox)) = shared.store.news(session, head, FEW).await? {
        fold_all(state, &events, &mut head)?;
        return Ok((head, waiting(inbox)?));
    }
    let head = catch_up(shared, session, state, head).await?;
    Ok((head, inbox(shared, session).await?))
}

fn fold_all(state: &mut State, events: &[StoredEvent], head: &mut i64) -> Result<(), LoadError> {
    for event in events {
        fold(state, event)?;
        *head = event.seq;
    }
    Ok(())
}

fn fold(state: &mut State, event: &StoredEvent) -> Result<(), LoadError> {
    let body = EventBody::parse(&event.kind, &event.payload).map_err(unreadable("event"))?;
    let Some(body) = body else { return Ok(()) }; // Unknown types are inert.
    let detail: Option<Detail> = match &event.detail {
        Some(text) => Some(serde_json::from_str(text).map_err(unreadable("event detail"))?),
        None => None,
    };
    state.fold(Folded {
        epoch: event.epoch,
        id: &event.id,
        body: &body,
        detail: detail.as_ref(),
        at: event.processed_at,
    });
    Ok(())
}

/// The state before any event, from the session's row and what is attached to it.
pub(crate) async fn initial(shared: &Shared, row: &SessionRow) -> Result<State, LoadError> {
    let agent: SessionAgent = serde_json::from_str(&row.agent).map_err(unreadable("agent"))?;
    let budget = match &row.budget {
        Some(text) => Some(serde_json::from_str(text).map_err(unreadable("budget"))?),
        None => None,
    };
    let skills = shared.store.session_skills(&row.id).await?;
    let skills = skills.into_iter().map(|skill| SkillNote {
        name: skill.name,
        description: skill.description,
    });
    let state = State::new(row.thread_id.clone(), agent, placement(row)?, budget)
        .with_skills(skills.collect())
        .with_memory(memory(shared, &row.id).await?);
    Ok(state)
}

async fn memory(
    shared: &Shared,
    session: &SessionId,
) -> Result<Vec<MemoryStoreResource>, LoadError> {
    let attached = shared.store.session_memory_stores(session).await?;
    let stores = attached.iter().map(|a| serde_json::from_str(&a.body));
    stores
        .collect::<Result<_, _>>()
        .map_err(unreadable("memory store resource"))
}

fn environment(row: &SessionRow) -> Result<serde_json::Value, LoadError> {
    serde_json::from_str(&row.environment).map_err(unreadable("environment"))
}

fn placement(row: &SessionRow) -> Result<Placement, LoadError> {
    Ok(if is_self_hosted(&environment(row)?) {
        Placement::SelfHosted
    } else {
        Placement::Cloud
    })
}

pub(crate) fn is_self_hosted(config: &serde_json::Value) -> bool {
    config["type"] == "self_hosted"
}

/// The open inbox as the engine sees it, with the inbox's head.
pub(crate) async fn inbox(
    shared: &Shared,
    session: &SessionId,
) -> Result<(i64, Vec<Queued>), LoadError> {
    waiting(shared.store.inbox(session).await?)
}

fn waiting((head, items): Inbox) -> Result<(i64, Vec<Queued>), LoadError> {
    let queued = items
        .into_iter()
        .filter_map(|item| queued(item).transpose());
    Ok((head, queued.collect::<Result<_, _>>()?))
}

fn queued(item: InboxItem) -> Result<Option<Queued>, LoadError> {
    let body = EventBody::parse(&item.kind, &item.payload).map_err(unreadable("input"))?;
    Ok(body.map(|body| Queued {
        seq: item.seq,
        id: item.id,
        body,
    }))
}

/// Where the session's tools run; `None` if the session is gone or is not run here.
pub(crate) async fn place(
    shared: &Shared,
    session: &SessionId,
) -> Result<Option<Place>, LoadError> {
    match shared.store.session_any(session).await? {
        Some(row) if placement(&row)? == Placement::Cloud => place_of(shared, &row).await.map(Some),
        _ => Ok(None),
    }
}

/// Where a session's tools run.
pub(crate) async fn place_of(shared: &Shared, row: &SessionRow) -> Result<Place, LoadError> {
    let mut uploads = Vec::new();
    for (mount_path, blob) in shared.store.session_uploads(&row.id).await? {
        uploads.push(Upload { mount_path, blob });
    }
    let skills = shared.store.session_skills(&row.id).await?;
    let skills = skills.into_iter().map(|skill| Skill {
        name: skill.name,
        blob: skill.blob,
    });
    let memory = memory(shared, &row.id).await?.into_iter().map(|store| {
        let mount_path = store.mount_path.unwrap_or_default();
        MemoryMount {
            store: store.memory_store_id,
            mount_path,
            read_only: store.access == Access::ReadOnly,
        }
    });
    let mut config = environment(row)?;
    let agent: SessionAgent = serde_json::from_str(&row.agent).map_err(unreadable("agent"))?;
    session::allow_servers(&mut config, &agent.mcp_servers);
    let credentials = credentials(shared, &row.id, &config).await?;
    Ok(Place {
        session: row.id.clone(),
        workspace: row.workspace_id.clone(),
        config,
        uploads,
        skills: skills.collect(),
        memory: memory.collect(),
        credentials,
    })
}

/// The variables of a session's vaults; none where the sandbox is not ours, since nothing of ours
/// stands between it and the network (contract 64 §6).
pub(crate) async fn credentials(
    shared: &Shared,
    session: &SessionId,
    config: &serde_json::Value,
) -> Result<Vec<EnvironmentCredential>, LoadError> {
    if is_self_hosted(config) {
        return Ok(Vec::new());
    }
    credentials::resolve(shared, session).await
}

/// What the engine needs to know of a model and of this server's tools.
pub(crate) fn facts(entry: Option<&Arc<ModelEntry>>, executor: &dyn ToolExecutor) -> Facts {
    let unavailable = BuiltinTool::ALL
        .into_iter()
        .filter(|t| executor.unavailable(*t).is_some())
        .collect();
    Facts {
        // A model that is no longer configured fails at the request, with a clear error.
        context_window: entry.map_or(u64::MAX, |e| e.context_window),
        max_output_tokens: entry.map_or(1, |e| e.max_output_tokens),
        system_messages: entry.is_some_and(|e| e.supports.system_messages),
        effort: entry.is_some_and(|e| e.supports.effort),
        unavailable,
        mcp: None,
    }
}
