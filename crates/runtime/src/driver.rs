//! One session's driver: decide, append, execute, until there is nothing to do.
//!
//! The state is folded ahead of the append, so that everything one decision leads to, up to the
//! next effect, is committed together. If the store refuses because somebody appended or queued
//! something meanwhile, the copy from before is caught up and the decision made again; what an
//! effect produced is carried over and never lost.

use std::collections::{BTreeSet, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use freehold_base::{EventId, SessionId, chain, crash_point};
use freehold_engine::reply::{self, Spent};
use freehold_engine::{Draft, Facts, Folded, McpTool, Purpose, Queued, State, Step, View, decide};
use freehold_model::ModelEntry;
use freehold_store::{Append, AppendError, Claim, NewEvent, StoreError, Then};
use freehold_wire::event::{Empty, EventBody};
use freehold_wire::session::Status;
use futures_util::FutureExt;

use crate::bells::Bell;
use crate::credentials;
use crate::executor::Place;
use crate::load::{self, LoadError};
use crate::log_clock::LogClock;
use crate::mcp::dispatch::{self, Decision};
use crate::mcp::session;
use crate::model_call::{self, Asking, Meter, Outcome};
use crate::outputs;
use crate::runtime::Shared;
use crate::tools::{self, Running};

/// Why a driver stops before the session rests.
enum Stop {
    /// The session is gone, or another driver holds it: nothing left to do here.
    Lost,
    /// The server is stopping.
    Stopping,
    /// Something failed that a later attempt may survive.
    Failed(LoadError),
}

impl From<LoadError> for Stop {
    fn from(error: LoadError) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// How long to wait before a driver that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Drives the session until it rests, is lost, or the server stops.
pub(crate) async fn drive(shared: &Arc<Shared>, session: &SessionId, bell: &Bell) {
    loop {
        // A panic must not leave a session that looks driven and never goes on. What it may have
        // left half changed is the driver's own, and read from the log again.
        match AssertUnwindSafe(attempt(shared, session, bell))
            .catch_unwind()
            .await
        {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => {
                tracing::error!(%session, error = %chain(&failure), "session stalled");
            }
            Err(_) => tracing::error!(%session, "session stalled: its driver panicked"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shared.stopping.cancelled() => return,
        }
    }
}

/// Drives the session until there is nothing to do here.
async fn attempt(shared: &Arc<Shared>, session: &SessionId, bell: &Bell) -> Result<(), LoadError> {
    let Some(mut driver) = Driver::claim(shared, session, bell).await? else {
        return Ok(());
    };
    match driver.run().await {
        Ok(()) => {
            shared.cache.put(session, driver.head, driver.state);
            shared.executor.rested(session);
        }
        Err(Stop::Lost) => {}
        Err(Stop::Stopping) => driver.hand_over().await,
        Err(Stop::Failed(error)) => return Err(error),
    }
    Ok(())
}

struct Driver<'a> {
    shared: &'a Arc<Shared>,
    bell: &'a Bell,
    session: SessionId,
    epoch: i64,
    head: i64,
    inbox_head: i64,
    inbox: Vec<Queued>,
    state: State,
    clock: LogClock,
    place: Option<Arc<Place>>,
    /// Files may have been attached since: it still says where this round's tools ran, and is not for the next.
    place_is_old: bool,
    running: Running,
    /// Tools of the agent's MCP servers, once they were asked in this turn.
    mcp: Option<Arc<[McpTool]>>,
    /// Servers that failed in this turn: they are asked again in the next.
    failed: BTreeSet<String>,
    /// Decisions over calls of MCP tools that the next append takes in.
    decisions: Vec<Decision>,
}

/// What to do once the decision's events are committed.
enum Effect {
    Connect,
    Model(Purpose, EventId),
    Tools(Vec<EventId>),
    /// For so long, or until something arrives.
    Sleep(Duration),
    Wait,
    Park,
}

impl<'a> Driver<'a> {
    async fn claim(
        shared: &'a Arc<Shared>,
        session: &SessionId,
        bell: &'a Bell,
    ) -> Result<Option<Self>, LoadError> {
        let Some(Claim { epoch, .. }) = shared.store.claim(session, &shared.replica).await? else {
            return Ok(None);
        };
        let Some(row) = shared.store.session_any(session).await? else {
            return Ok(None);
        };
        let (head, state) = match shared.cache.take(session) {
            Some(cached) => cached,
            None => (0, load::initial(shared, &row).await?),
        };
        let mut driver = Self {
            shared,
            bell,
            session: session.clone(),
            epoch,
            head,
            inbox_head: 0,
            inbox: Vec::new(),
            state,
            clock: LogClock::new(Arc::clone(shared.ids.clock())),
            place: None,
            place_is_old: false,
            running: Running::default(),
            mcp: None,
            failed: BTreeSet::new(),
            decisions: Vec::new(),
        };
        driver.sync().await?;
        Ok(Some(driver))
    }

    /// Takes in what others appended or queued.
    async fn sync(&mut self) -> Result<(), LoadError> {
        let news = load::news(self.shared, &self.session, &mut self.state, self.head).await?;
        (self.head, (self.inbox_head, self.inbox)) = news;
        Ok(())
    }

    async fn run(&mut self) -> Result<(), Stop> {
        let mut carry = Draft::default();
        loop {
            let effect = self.settle(std::mem::take(&mut carry)).await?;
            if self.shared.stopping.is_cancelled() && !matches!(effect, Effect::Park) {
                return self.wind_down(effect).await;
            }
            match effect {
                Effect::Park => return Ok(()),
                Effect::Connect => carry = self.connect().await?,
                Effect::Model(purpose, request) => carry = self.model(purpose, &request).await?,
                Effect::Tools(calls) => carry = self.start_tools(calls).await?,
                Effect::Wait => carry = self.wait_for_tools().await?,
                Effect::Sleep(wait) => self.sleep(wait).await?,
            }
        }
    }

    /// Decides and commits until an effect is due. `carry` is what the last effect produced.
    async fn settle(&mut self, mut carry: Draft) -> Result<Effect, Stop> {
        loop {
            let (head, state) = (self.head, self.state.clone());
            let mut draft = carry.clone();
            self.decisions.clear();
            self.fold(&carry);
            self.inbox.retain(|item| !carry.consume.contains(&item.seq));
            let effect = self.decide_all(&mut draft);
            match self.commit(draft, &effect).await {
                Ok(()) => {
                    let decisions = std::mem::take(&mut self.decisions);
                    dispatch::decided(self.shared, &self.session, &self.state.agent, decisions)
                        .await?;
                    return Ok(effect);
                }
                Err(AppendError::HeadMoved | AppendError::InputArrived) => {
                    (self.head, self.state) = (head, state);
                    self.sync().await?;
                }
                Err(AppendError::AlreadyAnswered(call)) => {
                    // Somebody else's result is in the log, so ours is not wanted any more.
                    tracing::warn!(session = %self.session, %call, "result dropped: already answered");
                    carry = Draft::default();
                    (self.head, self.state) = (head, state);
                    self.sync().await?;
                }
                Err(AppendError::Fenced | AppendError::SessionGone) => return Err(Stop::Lost),
                Err(AppendError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Runs the decision to the next effect, folding its events ahead of their append.
    fn decide_all(&mut self, draft: &mut Draft) -> Effect {
        let shared = Arc::clone(self.shared);
        let mut new_id = || shared.ids.next();
        let facts = self.facts();
        loop {
            let in_flight: HashSet<EventId> = self.running.ids();
            let view = View {
                now: self.clock.now(self.state.latest),
                epoch: self.epoch,
                inbox: &self.inbox,
                in_flight: &in_flight,
                facts: &facts,
                rates: shared.rates,
            };
            let step = decide(&self.state, &view, &mut new_id);
            let (more, effect) = match step {
                Step::Append(more) => (more, None),
                Step::CallModel(purpose, mut more) => {
                    let request = new_id();
                    more.push(request.clone(), EventBody::ModelRequestStart(Empty {}));
                    (more, Some(Effect::Model(purpose, request)))
                }
                Step::Connect => (Draft::default(), Some(Effect::Connect)),
                Step::RunTools(calls) => (Draft::default(), Some(Effect::Tools(calls))),
                Step::WaitUntil(at) => (Draft::default(), Some(Effect::Sleep(at.since(view.now)))),
                Step::Wait => (Draft::default(), Some(Effect::Wait)),
                Step::Park => (Draft::default(), Some(Effect::Park)),
            };
            self.fold(&more);
            self.inbox.retain(|item| !more.consume.contains(&item.seq));
            draft.merge(more);
            if let Some(effect) = effect {
                return effect;
            }
        }
    }

    /// Folds events that are about to be appended.
    fn fold(&mut self, draft: &Draft) {
        let at = self.clock.now(self.state.latest);
        for event in &draft.events {
            self.decisions
                .extend(Decision::of(&self.state, &event.body));
            self.state.fold(Folded {
                epoch: self.epoch,
                id: &event.id,
                body: &event.body,
                detail: event.detail.as_ref(),
                at,
            });
        }
    }

    async fn commit(&mut self, draft: Draft, effect: &Effect) -> Result<(), AppendError> {
        let then = match effect {
            Effect::Park => Then::Idle {
                inbox_head: self.inbox_head,
            },
            Effect::Sleep(wait) => {
                Then::WakeAfter(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
            }
            _ => Then::Stay,
        };
        if draft.is_empty() && matches!(then, Then::Stay) {
            return Ok(());
        }
        let resting = matches!(effect, Effect::Park) && self.state.status != Status::Terminated;
        let events = draft.events.into_iter().map(|e| {
            let event = NewEvent::new(e.id, &e.body);
            match e.detail {
                // Serialising our own closed types to a string cannot fail.
                Some(detail) => {
                    event.with_detail(serde_json::to_string(&detail).unwrap_or_default())
                }
                None => event,
            }
        });
        let append = Append {
            session: self.session.clone(),
            epoch: self.epoch,
            expected_head: Some(self.head),
            events: events.collect(),
            consume: draft.consume,
            // A resting session shows idle even if accepted input had already announced work.
            status: draft.status.or(resting.then_some(Status::Idle)),
            blocked: draft.blocked,
            agent: None,
            summary: serde_json::to_string(&self.state.summary).ok(),
            then,
        };
        crash_point!("driver.append.before");
        let appended = self.shared.store.append(append).await?;
        crash_point!("driver.append.after");
        self.head = appended.head;
        Ok(())
    }

    fn entry(&self) -> Option<Arc<ModelEntry>> {
        self.shared.catalog.resolve(&self.state.agent.model.id)
    }

    fn facts(&self) -> Facts {
        Facts {
            mcp: self.mcp.clone(),
            ..load::facts(self.entry().as_ref(), &*self.shared.executor)
        }
    }

    /// Asks the agent's MCP servers for their tools; gives what is to be said of those that fail.
    async fn connect(&mut self) -> Result<Draft, Stop> {
        let asked = {
            let asking = session::ask(self.shared, &self.session, &self.state, &self.failed);
            tokio::pin!(asking);
            loop {
                tokio::select! {
                    asked = &mut asking => break asked?,
                    () = self.shared.stopping.cancelled() => return Ok(Draft::default()),
                    () = self.bell.wait() => {
                        self.bell.heard();
                        let (head, inbox) = load::inbox(self.shared, &self.session).await?;
                        (self.inbox_head, self.inbox) = (head, inbox);
                        let stop = |i: &Queued| matches!(i.body, EventBody::UserInterrupt(_));
                        if self.inbox.iter().any(stop) {
                            return Ok(Draft::default());
                        }
                    }
                }
            }
        };
        self.failed.extend(asked.failed);
        self.mcp = Some(asked.tools);
        self.sync().await?;
        Ok(asked.draft)
    }

    async fn model(&mut self, purpose: Purpose, request: &EventId) -> Result<Draft, Stop> {
        crash_point!("driver.model.before");
        let (entry, facts, meter) = (self.entry(), self.facts(), Meter::default());
        let outcome = {
            let asked = model_call::ask(Asking {
                shared: self.shared,
                session: &self.session,
                entry: entry.as_deref(),
                state: &self.state,
                facts: &facts,
                purpose,
                meter: &meter,
            });
            tokio::pin!(asked);
            loop {
                tokio::select! {
                    outcome = &mut asked => break outcome,
                    () = self.shared.stopping.cancelled() => break Outcome::CutOff,
                    () = self.bell.wait() => {
                        self.bell.heard();
                        let (head, inbox) = load::inbox(self.shared, &self.session).await?;
                        (self.inbox_head, self.inbox) = (head, inbox);
                        if self.inbox.iter().any(|i| matches!(i.body, EventBody::UserInterrupt(_))) {
                            break Outcome::CutOff;
                        }
                    }
                }
            }
        };
        crash_point!("driver.model.after");
        self.shared.hub.previewed(&self.session).await;
        // What others appended meanwhile comes before the answer in the log, and in the state.
        self.sync().await?;
        let shared = Arc::clone(self.shared);
        let mut new_id = || shared.ids.next();
        Ok(match outcome {
            Outcome::Answer(answer, layout) if purpose == Purpose::Turn => {
                reply::events(&self.state, request, answer, &layout, &facts, &mut new_id)
            }
            Outcome::Answer(answer, _) => reply::compaction(request, &answer, &mut new_id),
            Outcome::CutOff => reply::cut_off(request, meter.spent(), false, &mut new_id),
            Outcome::Failed(failure) => {
                let view = View {
                    now: self.clock.now(self.state.latest),
                    epoch: self.epoch,
                    inbox: &self.inbox,
                    in_flight: &HashSet::new(),
                    facts: &facts,
                    rates: shared.rates,
                };
                let backoff = shared.options.backoff;
                let state = &self.state;
                reply::failed(
                    state,
                    request,
                    &failure,
                    purpose,
                    backoff,
                    &view,
                    &mut new_id,
                )
            }
        })
    }

    /// Starts a round of calls; gives what is to be said of the session's credentials.
    async fn start_tools(&mut self, calls: Vec<EventId>) -> Result<Draft, Stop> {
        let place = self.place().await?;
        let (config, credentials) = (&place.config, &place.credentials);
        let draft = credentials::unreachable(self.shared, &self.state, config, credentials)?;
        // What a server says of its tools may be another by the time the model is asked again.
        self.mcp = None;
        for id in calls {
            if let Some(call) = self.state.call(&id) {
                self.running
                    .start(self.shared, &place, call, &self.state.agent);
            }
        }
        Ok(draft)
    }

    /// Where this round's tools run. Credentials are looked up for each round, so that a change
    /// reaches a session that runs.
    async fn place(&mut self) -> Result<Arc<Place>, Stop> {
        let old = std::mem::take(&mut self.place_is_old);
        let place = match self.place.take().filter(|_| !old) {
            Some(mut place) => {
                let credentials =
                    load::credentials(self.shared, &self.session, &place.config).await?;
                if place.credentials != credentials {
                    Arc::make_mut(&mut place).credentials = credentials;
                }
                place
            }
            None => {
                let row = self.shared.store.session_any(&self.session).await?;
                Arc::new(load::place_of(self.shared, &row.ok_or(Stop::Lost)?).await?)
            }
        };
        Ok(Arc::clone(self.place.insert(place)))
    }

    /// Waits for a call to finish or for input.
    async fn wait_for_tools(&mut self) -> Result<Draft, Stop> {
        tokio::select! {
            finished = self.running.next() => {
                crash_point!("driver.tool.after");
                let Some((call, reply)) = finished else { return Ok(Draft::default()) };
                if self.running.is_empty()
                    && let Some(place) = &self.place
                {
                    self.shared.executor.settle(place).await;
                    outputs::capture(self.shared, place).await;
                }
                Ok(tools::result(&call, reply, self.shared))
            }
            () = self.shared.stopping.cancelled() => Ok(Draft::default()),
            () = self.bell.wait() => {
                self.bell.heard();
                self.place_is_old = true;
                self.sync().await?;
                if self.inbox.iter().any(|i| matches!(i.body, EventBody::UserInterrupt(_))) {
                    self.running.cancel_all().await;
                    if let Some(place) = &self.place {
                        self.shared.executor.settle(place).await;
                    }
                }
                Ok(Draft::default())
            }
        }
    }

    async fn sleep(&mut self, wait: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.stopping.cancelled() => {}
            () = self.bell.wait() => { self.bell.heard(); }
        }
        self.sync().await?;
        Ok(())
    }

    /// The server stops: closes what is open, so that the next process starts from a clean log.
    async fn wind_down(&mut self, effect: Effect) -> Result<(), Stop> {
        let shared = Arc::clone(self.shared);
        let mut draft = match effect {
            Effect::Model(_, request) => {
                reply::cut_off(&request, Spent::NOTHING, false, &mut || shared.ids.next())
            }
            _ => Draft::default(),
        };
        for (call, reply) in self.running.drain(shared.options.drain).await {
            draft.merge(tools::result(&call, reply, &shared));
        }
        if let Some(place) = &self.place {
            shared.executor.settle(place).await;
        }
        self.sync().await?;
        match self.commit(draft, &Effect::Wait).await {
            // Whoever moved the log is a client: what is lost here is found open, and repaired.
            Ok(()) | Err(AppendError::HeadMoved) => Err(Stop::Stopping),
            Err(AppendError::Store(error)) => Err(error.into()),
            Err(_) => Err(Stop::Lost),
        }
    }

    async fn hand_over(&mut self) {
        let released = self.shared.store.release(&self.session, self.epoch).await;
        if let Err(error) = released {
            tracing::warn!(session = %self.session, %error, "lease not released");
        }
    }
}
