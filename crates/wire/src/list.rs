//! The queries of the list endpoints, read and checked.

use freehold_base::limits::page;
use freehold_base::{AgentId, FileId, SessionId, ThreadId};

use crate::ApiError;
use crate::cursor::{Cursor, List, Order, Scope, TimeRange};
use crate::event::FILTERABLE;
use crate::models::Lifecycle;
use crate::query::{Query, error};
use crate::session::Status;

/// Values of `ids[]` of a file list, after repeats are dropped (contract 72).
const MAX_IDS: usize = 100;

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

/// `GET /v1/agents`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListAgents {
    /// `gte` and `lte` only.
    pub created_at: TimeRange,
    /// Also archived ones.
    pub include_archived: bool,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListAgents {
    /// The scope of its cursors.
    pub const SCOPE: Scope<'static> = Scope {
        list: List::Agents,
        parent: "",
        order: Order::Desc,
    };
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        for key in ["created_at[gt]", "created_at[lt]"] {
            if query.has(key) {
                // Ignoring it would answer another question than was asked.
                return Err(error(key, "Only created_at[gte] and created_at[lte] are supported"));
            }
        }
        let created_at = created_at(query)?;
        let page = cursor(query, Self::SCOPE)?;
        page.as_ref().map_or(Ok(()), |page| created_at.check(page))?;
        Ok(Self {
            created_at,
            include_archived: query.boolean("include_archived")?,
            limit: query.limit(page::AGENTS)?,
            page,
        })
    }
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

/// `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSessions {
    /// Of this agent.
    pub agent_id: Option<AgentId>,
    /// At this version; `None` also without `agent_id`, where the contract gives it no meaning.
    pub agent_version: Option<u64>,
    /// Created when.
    pub created_at: TimeRange,
    /// Made by this deployment.
    pub deployment_id: Option<String>,
    /// Also archived ones.
    pub include_archived: bool,
    /// With this memory store attached.
    pub memory_store_id: Option<String>,
    /// Any of these; empty is all.
    pub statuses: Vec<Status>,
    /// Newest first unless said otherwise.
    pub order: Order,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListSessions {
    /// The scope of its cursors.
    pub const fn scope(order: Order) -> Scope<'static> {
        Scope {
            list: List::Sessions,
            parent: "",
            order,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let order = query
            .one_of("order", &Order::NAMES)?
            .unwrap_or(Order::Desc);
        let created_at = created_at(query)?;
        let page = cursor(query, Self::scope(order))?;
        page.as_ref().map_or(Ok(()), |page| created_at.check(page))?;
        let agent_id = query.id("agent_id")?;
        let agent_version = query.integer("agent_version", 1, i64::MAX as u64)?;
        Ok(Self {
            agent_version: agent_version.filter(|_| agent_id.is_some()),
            agent_id,
            created_at,
            deployment_id: query.text("deployment_id")?.map(str::to_owned),
            include_archived: query.boolean("include_archived")?,
            memory_store_id: query.text("memory_store_id")?.map(str::to_owned),
            statuses: query.many_of("statuses", &STATUSES)?,
            order,
            limit: query.limit(page::SESSIONS)?,
            page,
        })
    }
}

/// `GET /v1/sessions/{id}/events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEvents {
    /// Compared with `processed_at`.
    pub created_at: TimeRange,
    /// Any of these; empty is all.
    pub types: Vec<&'static str>,
    /// Oldest first unless said otherwise.
    pub order: Order,
    /// Page size.
    pub limit: usize,
    /// Where to start.
    pub page: Option<Cursor>,
}

impl ListEvents {
    /// The scope of its cursors.
    pub fn scope(session: &SessionId, order: Order) -> Scope<'_> {
        Scope {
            list: List::Events,
            parent: session.as_str(),
            order,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter; an unknown event type is named too.
    pub fn read(query: &Query, session: &SessionId) -> Result<Self, ApiError> {
        let order = query.one_of("order", &Order::NAMES)?.unwrap_or(Order::Asc);
        let mut types = Vec::new();
        for given in query.list("types") {
            let Some(known) = FILTERABLE.into_iter().find(|t| *t == given) else {
                return Err(error(
                    "types",
                    format_args!(
                        "'{}' is not an event type that can be filtered by",
                        crate::decode::echo(given)
                    ),
                ));
            };
            if !types.contains(&known) {
                types.push(known);
            }
        }
        Ok(Self {
            created_at: created_at(query)?,
            types,
            order,
            limit: query.limit(page::EVENTS)?,
            page: cursor(query, Self::scope(session, order))?,
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

/// `GET /v1/files`, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListFiles {
    /// These files, in one page; unknown ids are left out.
    Ids(Vec<FileId>),
    /// A page of all files, or of a session's.
    Page {
        /// Of this session.
        scope_id: Option<SessionId>,
        /// Page size.
        limit: usize,
        /// Where to start.
        page: Option<Cursor>,
    },
}

impl ListFiles {
    /// The scope of its cursors.
    pub fn scope(scope_id: Option<&SessionId>) -> Scope<'_> {
        Scope {
            list: List::Files,
            parent: scope_id.map_or("", SessionId::as_str),
            order: Order::Desc,
        }
    }
    /// Reads it.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        let scope_id: Option<SessionId> = query.id("scope_id")?;
        if query.has("ids") {
            for key in ["page", "limit", "scope_id"] {
                if query.has(key) {
                    return Err(error("ids", format_args!("Cannot be combined with {key}")));
                }
            }
            let mut distinct = query.list("ids");
            distinct.sort_unstable();
            distinct.dedup();
            if MAX_IDS < distinct.len() {
                return Err(error(
                    "ids",
                    format_args!("At most {MAX_IDS} ids are allowed, not {}", distinct.len()),
                ));
            }
            // What is no file id names no file: dropped like an unknown one.
            let ids = distinct.into_iter().filter_map(|id| id.parse().ok());
            return Ok(Self::Ids(ids.collect()));
        }
        let page = cursor(query, Self::scope(scope_id.as_ref()))?;
        Ok(Self::Page {
            scope_id,
            limit: query.limit(page::FILES)?,
            page,
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
