//! The queries of the list endpoints, read and checked.

mod agents;
mod events;
mod files;
mod memories;
mod sessions;
mod skills;
mod tunnels;
mod vaults;

pub use agents::ListAgents;
pub use events::ListEvents;
pub use files::ListFiles;
pub use memories::{ListMemories, ListMemoryStores, ListMemoryVersions, view};
pub use sessions::ListSessions;
pub use skills::ListSkills;
pub use tunnels::ListTunnels;
pub use vaults::ListVaults;

use freehold_base::limits::page;
use freehold_base::{AgentId, EnvironmentId, SessionId, ThreadId};

use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope, TimeRange};
use crate::models::Lifecycle;
use crate::query::{Query, error};
use crate::session::Status;

const STATUSES: [(&str, Status); 4] = [
    ("idle", Status::Idle),
    ("running", Status::Running),
    ("rescheduling", Status::Rescheduling),
    ("terminated", Status::Terminated),
];

fn cursor(query: &Query, scope: Scope<'_>) -> Result<Option<Cursor>, ApiError> {
    query
        .text("page")?
        .map(|text| scope.decode(text))
        .transpose()
}

fn created_at(query: &Query) -> Result<TimeRange, ApiError> {
    Ok(TimeRange {
        gt: query.timestamp("created_at[gt]")?,
        gte: query.timestamp("created_at[gte]")?,
        lt: query.timestamp("created_at[lt]")?,
        lte: query.timestamp("created_at[lte]")?,
    })
}

/// A list with nothing but `limit` and `page`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPlain {
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListPlain {
    fn read(query: &Query, limit: (usize, usize), scope: Scope<'_>) -> Result<Self, ApiError> {
        Ok(Self {
            limit: query.limit(limit)?,
            page: cursor(query, scope)?,
        })
    }

    /// The scope of the cursors of an agent's versions, newest first.
    pub fn versions_scope(agent: &AgentId) -> Scope<'_> {
        Scope {
            list: List::AgentVersions,
            parent: agent.as_str(),
            order: Order::Desc,
        }
    }
    /// `GET /v1/agents/{id}/versions`.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn versions(query: &Query, agent: &AgentId) -> Result<Self, ApiError> {
        Self::read(query, page::AGENTS, Self::versions_scope(agent))
    }

    /// The scope of the cursors of an environment's work, newest first.
    pub fn work_scope(environment: &EnvironmentId) -> Scope<'_> {
        Scope {
            list: List::Work,
            parent: environment.as_str(),
            order: Order::Desc,
        }
    }
    /// `GET /v1/environments/{id}/work`.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn work(query: &Query, environment: &EnvironmentId) -> Result<Self, ApiError> {
        Self::read(query, page::WORK, Self::work_scope(environment))
    }

    /// The scope of the cursors of a session's resources, oldest first.
    pub fn resources_scope(session: &SessionId) -> Scope<'_> {
        Scope {
            list: List::Resources,
            parent: session.as_str(),
            order: Order::Asc,
        }
    }
    /// `GET /v1/sessions/{id}/resources`.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn resources(query: &Query, session: &SessionId) -> Result<Self, ApiError> {
        Self::read(query, page::RESOURCES, Self::resources_scope(session))
    }

    /// The scope of the cursors of a thread's events, oldest first.
    pub fn thread_events_scope(thread: &ThreadId) -> Scope<'_> {
        Scope {
            list: List::ThreadEvents,
            parent: thread.as_str(),
            order: Order::Asc,
        }
    }
    /// `GET /v1/sessions/{id}/threads/{id}/events`.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn thread_events(query: &Query, thread: &ThreadId) -> Result<Self, ApiError> {
        Self::read(query, page::EVENTS, Self::thread_events_scope(thread))
    }
}

/// `GET /v1/environments`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEnvironments {
    /// Also archived ones.
    pub include_archived: bool,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListEnvironments {
    /// The scope of its cursors.
    pub const SCOPE: Scope<'static> = Scope {
        list: List::Environments,
        parent: "",
        order: Order::Desc,
    };
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            include_archived: query.boolean("include_archived")?,
            limit: query.limit(page::ENVIRONMENTS)?,
            page: cursor(query, Self::SCOPE)?,
        })
    }
}

/// `GET /v1/sessions/{id}/threads`, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListThreads {
    /// Any of these; empty is all.
    pub statuses: Vec<Status>,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListThreads {
    /// The scope of its cursors.
    pub fn scope(session: &SessionId) -> Scope<'_> {
        Scope {
            list: List::Threads,
            parent: session.as_str(),
            order: Order::Asc,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query, session: &SessionId) -> Result<Self, ApiError> {
        Ok(Self {
            statuses: query.many_of("statuses", &STATUSES)?,
            limit: query.limit(page::THREADS)?,
            page: cursor(query, Self::scope(session))?,
        })
    }
}

/// `GET /v1/models`, newest release first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListModels {
    /// Items after this id.
    pub after_id: Option<String>,
    /// Items before this id.
    pub before_id: Option<String>,
    /// Any of these; active and deprecated when left out.
    pub lifecycle: Vec<Lifecycle>,
    /// Page size.
    pub limit: usize,
}

impl ListModels {
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let after_id = query.text("after_id")?.map(str::to_owned);
        let before_id = query.text("before_id")?.map(str::to_owned);
        if after_id.is_some() && before_id.is_some() {
            return Err(error("before_id", "Cannot be combined with after_id"));
        }
        let mut lifecycle = query.many_of("lifecycle", &Lifecycle::NAMES)?;
        if lifecycle.is_empty() {
            lifecycle = vec![Lifecycle::Active, Lifecycle::Deprecated];
        }
        Ok(Self {
            after_id,
            before_id,
            lifecycle,
            limit: query.limit(page::MODELS)?,
        })
    }
}
