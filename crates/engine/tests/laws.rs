//! The laws of the engine, over random sessions: it never gets stuck, every history it writes is a
//! good one, and a driver that dies anywhere leaves a session that another finishes.

use std::collections::HashSet;
use std::sync::Arc;

use freehold_base::{EventId, Timestamp};
use freehold_engine::reply::{self, Backoff, Spent};
use freehold_engine::{
    Detail, Draft, Facts, Failure, Folded, Layout, McpTool, Placement, Purpose, Queued, Rates,
    Reply, State, Step, View, decide, invariants,
};
use freehold_wire::agent::SessionAgent;
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{
    ContentOnly, CustomToolResult, Empty, EventBody, SessionErrorKind, ToolConfirmation,
    ToolResult, UserInterrupt, Verdict, with_processed_at,
};
use freehold_wire::session::Status;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// What the outside world does next.
#[derive(Debug, Clone)]
enum Action {
    Message,
    System,
    Interrupt,
    /// Answers everything the session waits for: confirmations by the flag, results as they are.
    Answer {
        allow: bool,
    },
    /// The driver dies; another takes over.
    Crash,
    /// The driver takes one step.
    Step(World),
}

/// How the next effect turns out.
#[derive(Debug, Clone)]
enum World {
    Text,
    Tools(Vec<u8>),
    Refuse,
    Overloaded,
    BadRequest,
    TooLong,
}

fn world() -> impl Strategy<Value = World> {
    prop_oneof![
        4 => Just(World::Text),
        4 => prop::collection::vec(0u8..6, 1..4).prop_map(World::Tools),
        1 => Just(World::Refuse),
        1 => Just(World::Overloaded),
        1 => Just(World::BadRequest),
        1 => Just(World::TooLong),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => Just(Action::Message),
        1 => Just(Action::System),
        1 => Just(Action::Interrupt),
        3 => any::<bool>().prop_map(|allow| Action::Answer { allow }),
        2 => Just(Action::Crash),
        12 => world().prop_map(Action::Step),
    ]
}

fn agent() -> SessionAgent {
    let always = |policy: &str| json!({ "enabled": true, "permission_policy": { "type": policy } });
    serde_json::from_value(json!({
        "type": "agent", "id": "agent_1", "version": 1, "name": "a", "description": null,
        "system": "be brief",
        "model": { "id": "m", "effort": { "type": "high" }, "speed": "standard" },
        "tools": [
            { "type": "agent_toolset_20260401", "default_config": always("always_allow"),
              "configs": [{ "name": "write", "type": "write", "enabled": true,
                            "permission_policy": { "type": "always_ask" } }] },
            { "type": "custom", "name": "ask_me", "description": "d",
              "input_schema": { "type": "object" } },
            { "type": "mcp_toolset", "mcp_server_name": "s", "default_config": always("always_ask"),
              "configs": [{ "name": "free", "enabled": true,
                            "permission_policy": { "type": "always_allow" } }] },
        ],
        "mcp_servers": [{ "type": "url", "name": "s", "url": "https://mcp.example.com" }], "skills": [], "multiagent": null,
        "execution_identity": { "type": "service_account" },
    }))
    .expect("a valid agent")
}

/// One stored event.
struct Entry {
    id: EventId,
    epoch: i64,
    body: EventBody,
    detail: Option<Detail>,
    at: Timestamp,
}

struct Session {
    log: Vec<Entry>,
    inbox: Vec<Queued>,
    next_inbox: i64,
    next_id: u64,
    now: i64,
    epoch: i64,
    state: State,
    in_flight: HashSet<EventId>,
    placement: Placement,
    /// Whether the MCP server was asked since the last park or crash.
    connected: bool,
}

const BACKOFF: Backoff = Backoff {
    base_ms: 1,
    max_ms: 10,
    attempts: 3,
};

fn facts() -> Facts {
    Facts {
        context_window: 100_000,
        max_output_tokens: 1000,
        system_messages: true,
        effort: true,
        unavailable: Vec::new(),
        mcp: None,
    }
}

/// The tools of the agent's MCP server.
fn mcp_tools() -> Arc<[McpTool]> {
    let tool = |name: &str| McpTool {
        server: "s".into(),
        name: name.into(),
        shown: format!("mcp__s__{name}"),
        description: "d".into(),
        input_schema: Map::new(),
        fingerprint: "f".into(),
        ask: false,
    };
    Arc::from([tool("free"), tool("asked")])
}

fn fresh(placement: Placement) -> State {
    State::new("sthr_1".parse().expect("an id"), agent(), placement, None)
}

impl Session {
    fn new(placement: Placement) -> Self {
        Self {
            log: Vec::new(),
            inbox: Vec::new(),
            next_inbox: 0,
            next_id: 0,
            now: 0,
            epoch: 1,
            state: fresh(placement),
            in_flight: HashSet::new(),
            placement,
            connected: false,
        }
    }

    fn id(&mut self) -> EventId {
        self.next_id += 1;
        format!("sevt_{}", self.next_id).parse().expect("an id")
    }

    fn append(&mut self, draft: Draft, epoch: i64) {
        for event in draft.events {
            self.now += 10_000;
            let entry = Entry {
                id: event.id,
                epoch,
                body: event.body,
                detail: event.detail,
                at: Timestamp::from_micros(self.now),
            };
            fold(&mut self.state, &entry);
            self.log.push(entry);
        }
        self.inbox.retain(|i| !draft.consume.contains(&i.seq));
    }

    fn queue(&mut self, body: EventBody) {
        let id = self.id();
        self.next_inbox += 1;
        self.inbox.push(Queued {
            seq: self.next_inbox,
            id,
            body,
        });
    }

    /// One step of the driver; `false` when it parks.
    fn step(&mut self, world: &World) -> bool {
        self.now += 1_000_000;
        let facts = Facts {
            mcp: self.connected.then(mcp_tools),
            ..facts()
        };
        let (inbox, in_flight) = (self.inbox.clone(), self.in_flight.clone());
        let view = View {
            now: Timestamp::from_micros(self.now),
            epoch: self.epoch,
            inbox: &inbox,
            in_flight: &in_flight,
            facts: &facts,
            rates: Rates::default(),
        };
        let mut next = self.next_id;
        let mut ids = || {
            next += 1;
            format!("sevt_{next}").parse().expect("an id")
        };
        let step = decide(&self.state, &view, &mut ids);
        let outcome = match step {
            Step::Park => {
                self.connected = false;
                None
            }
            Step::Connect => {
                assert!(!self.connected, "a server is asked once a turn");
                self.connected = true;
                Some(Draft::default())
            }
            Step::Append(draft) => {
                assert!(!draft.is_empty(), "an empty append would loop for ever");
                Some(draft)
            }
            Step::CallModel(purpose, mut draft) => {
                let request = ids();
                draft.push(request.clone(), EventBody::ModelRequestStart(Empty {}));
                let mut after = self.state.clone();
                for e in &draft.events {
                    fold_draft(&mut after, e, self.epoch, self.now);
                }
                draft.merge(answer(&after, &view, purpose, &request, world, &mut ids));
                Some(draft)
            }
            Step::RunTools(calls) => {
                self.in_flight.extend(calls);
                Some(Draft::default())
            }
            Step::Wait => {
                let call = self
                    .in_flight
                    .iter()
                    .min()
                    .cloned()
                    .expect("something to wait for");
                self.in_flight.remove(&call);
                let mut draft = Draft::default();
                let ran = self.state.call(&call).expect("a call of the round");
                let result = ran.answer(vec![ContentBlock::text("ok")], false);
                draft.push(ids(), result);
                Some(draft)
            }
            Step::WaitUntil(at) => {
                self.now = self.now.max(at.as_micros());
                Some(Draft::default())
            }
        };
        self.next_id = next;
        let Some(draft) = outcome else { return false };
        self.append(draft, self.epoch);
        // What an interrupt closed is no longer running.
        let state = &self.state;
        self.in_flight
            .retain(|id| state.call(id).is_some_and(|c| c.result.is_none()));
        true
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Message => self.queue(EventBody::UserMessage(text("hi"))),
            Action::System => self.queue(EventBody::SystemMessage(text("note"))),
            Action::Interrupt => self.queue(EventBody::UserInterrupt(UserInterrupt::default())),
            Action::Answer { allow } => self.answer_all(*allow),
            Action::Crash => {
                self.in_flight.clear();
                self.connected = false;
                self.epoch += 1;
                self.replay();
            }
            Action::Step(world) => {
                self.step(world);
            }
        }
    }

    fn answer_all(&mut self, allow: bool) {
        for id in self.state.awaited() {
            let call = self.state.call(&id).expect("an awaited call").clone();
            if !call.is_released() {
                let confirmed = self.inbox.iter().any(|i| i.body.ref_id() == Some(&id));
                if !confirmed {
                    let result = if allow { Verdict::Allow } else { Verdict::Deny };
                    self.queue(EventBody::UserToolConfirmation(ToolConfirmation {
                        tool_use_id: id,
                        result,
                        deny_message: None,
                    }));
                }
                continue;
            }
            let event = self.id();
            let content = vec![ContentBlock::text("done")];
            let body = match call.kind {
                freehold_engine::CallKind::Custom => {
                    EventBody::UserCustomToolResult(CustomToolResult {
                        custom_tool_use_id: id,
                        content,
                        is_error: None,
                    })
                }
                _ => EventBody::UserToolResult(ToolResult {
                    tool_use_id: id,
                    content,
                    is_error: None,
                }),
            };
            let mut draft = Draft::default();
            draft.push(event, body);
            self.append(draft, 0);
        }
    }

    /// What another process makes of the log.
    fn replay(&mut self) {
        let mut state = fresh(self.placement);
        for entry in &self.log {
            fold(&mut state, entry);
        }
        assert_eq!(
            format!("{state:?}"),
            format!("{:?}", self.state),
            "the fold of the log is not the state that was driven"
        );
        self.state = state;
    }

    fn history(&self) -> Vec<Value> {
        let wire = |e: &Entry| with_processed_at(&e.body.payload(&e.id), Some(e.at));
        self.log
            .iter()
            .map(|e| serde_json::from_str(&wire(e)).expect("valid JSON"))
            .collect()
    }
}

fn text(text: &str) -> ContentOnly {
    ContentOnly {
        content: vec![ContentBlock::text(text)],
    }
}

fn fold(state: &mut State, e: &Entry) {
    state.fold(Folded {
        epoch: e.epoch,
        id: &e.id,
        body: &e.body,
        detail: e.detail.as_ref(),
        at: e.at,
    });
}

fn fold_draft(state: &mut State, e: &freehold_engine::DraftEvent, epoch: i64, now: i64) {
    state.fold(Folded {
        epoch,
        id: &e.id,
        body: &e.body,
        detail: e.detail.as_ref(),
        at: Timestamp::from_micros(now),
    });
}

fn answer(
    state: &State,
    view: &View<'_>,
    purpose: Purpose,
    request: &EventId,
    world: &World,
    ids: &mut dyn FnMut() -> EventId,
) -> Draft {
    let body = freehold_engine::build_request(state, view.facts, &Default::default(), purpose);
    check_request(&serde_json::from_str(body.expect("a body").get()).expect("valid JSON"));
    let raw = |v: Value| RawValue::from_string(v.to_string()).expect("valid JSON");
    let failure = |kind, retryable, context_exceeded| Failure {
        kind,
        message: "no".into(),
        retryable,
        retry_after_ms: None,
        context_exceeded,
        spent: Spent::NOTHING,
    };
    let mut reply = Reply {
        stop_reason: Some("end_turn".into()),
        ..Reply::default()
    };
    let failed = match world {
        World::Text => {
            reply.content = vec![raw(json!({ "type": "text", "text": "hello" }))];
            None
        }
        World::Tools(kinds) => {
            reply.stop_reason = Some("tool_use".into());
            for (i, kind) in kinds.iter().enumerate() {
                let name = [
                    "bash",
                    "write",
                    "ask_me",
                    "no_such_tool",
                    "mcp__s__free",
                    "mcp__s__asked",
                ][*kind as usize];
                let id = format!("toolu_{}_{i}", request.as_str());
                let use_ = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                reply.content.push(raw(use_));
            }
            None
        }
        World::Refuse => {
            reply.stop_reason = Some("refusal".into());
            reply.refusal = Some((Some("cyber".into()), None));
            None
        }
        World::Overloaded => Some(failure(SessionErrorKind::ModelOverloaded, true, false)),
        World::BadRequest => Some(failure(SessionErrorKind::ModelRequestFailed, false, false)),
        World::TooLong => Some(failure(SessionErrorKind::ModelRequestFailed, false, true)),
    };
    match failed {
        Some(failure) => reply::failed(state, request, &failure, purpose, BACKOFF, view, ids),
        None if purpose == Purpose::Compact => reply::compaction(request, &reply, ids),
        None => reply::events(state, request, reply, &Layout::default(), view.facts, ids),
    }
}

/// The Messages API's own rules: answers alternate with user messages, and every call of an answer
/// has exactly one result directly after it.
fn check_request(body: &Value) {
    let messages = body["messages"].as_array().expect("messages");
    assert!(!messages.is_empty(), "an empty context is never sent");
    for (i, message) in messages.iter().enumerate() {
        if message["role"] != "assistant" {
            continue;
        }
        let ids_of = |m: &Value, kind: &str, key: &str| -> Vec<String> {
            let blocks = m["content"].as_array().cloned().unwrap_or_default();
            let of_kind = blocks.into_iter().filter(|b| b["type"] == kind);
            of_kind
                .map(|b| b[key].as_str().unwrap_or_default().to_owned())
                .collect()
        };
        let calls = ids_of(message, "tool_use", "id");
        let next = messages
            .get(i + 1)
            .expect("an answer is never the last message");
        assert_eq!(ids_of(next, "tool_result", "tool_use_id"), calls);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn every_history_is_good_and_every_session_comes_to_rest(
        actions in prop::collection::vec(action(), 1..60),
        self_hosted in any::<bool>(),
    ) {
        let placement = if self_hosted { Placement::SelfHosted } else { Placement::Cloud };
        let mut session = Session::new(placement);
        session.queue(EventBody::UserMessage(text("first")));
        for action in &actions {
            session.act(action);
            if let Err(bad) = invariants::check(&session.history(), false) {
                prop_assert!(false, "{bad:?}\n{:#?}", session.history());
            }
        }
        // From wherever that left it, a quiet world brings it to rest, waiting for nobody.
        for _ in 0..400 {
            if !session.step(&World::Text) {
                if session.state.awaited().is_empty() {
                    break;
                }
                session.answer_all(true);
            }
        }
        prop_assert_eq!(session.state.status, Status::Idle);
        prop_assert!(session.inbox.is_empty());
        let work = match invariants::check(&session.history(), true) {
            Ok(work) => work,
            Err(bad) => return Err(TestCaseError::fail(format!("{bad:?}"))),
        };
        prop_assert!(work.messages >= 1 && work.idles >= 1, "the checker saw no work: {:?}", work);
        session.replay();
    }
}

#[test]
fn the_checker_can_fail() {
    let mut session = Session::new(Placement::Cloud);
    session.queue(EventBody::UserMessage(text("first")));
    session.step(&World::Text); // Takes in the message.
    session.step(&World::Text); // Asks the MCP server.
    session.step(&World::Tools(vec![0, 4]));
    while session.step(&World::Text) {}
    let good = session.history();
    assert!(invariants::check(&good, true).is_ok());
    let position = |kind: &str| {
        good.iter()
            .position(|e| e["type"] == kind)
            .expect("the event")
    };
    let mut twice = good.clone();
    let result = good[position("agent.tool_result")].clone();
    twice.insert(position("agent.tool_result"), result);
    assert!(
        invariants::check(&twice, true).is_err(),
        "a doubled result went unnoticed"
    );
    for kind in [
        "agent.tool_result",
        "agent.mcp_tool_result",
        "session.usage",
        "span.model_request_end",
    ] {
        let mut lost = good.clone();
        lost.remove(position(kind));
        assert!(
            invariants::check(&lost, true).is_err(),
            "a lost {kind} went unnoticed"
        );
    }
    let mut swapped = good.clone();
    swapped.swap(0, 3);
    assert!(
        invariants::check(&swapped, true).is_err(),
        "a reordering went unnoticed"
    );
}

#[test]
fn a_context_that_cannot_even_be_compacted_ends_the_turn() {
    let mut session = Session::new(Placement::Cloud);
    session.queue(EventBody::UserMessage(text("first")));
    let mut steps = 0;
    while session.step(&World::TooLong) {
        steps += 1;
        assert!(steps < 20, "the session never gives up");
    }
    let history = session.history();
    let error = history
        .iter()
        .find(|e| e["type"] == "session.error")
        .expect("an error");
    assert_eq!(error["error"]["type"], "compaction_limit_reached_error");
    assert_eq!(
        history.last().expect("an idle")["stop_reason"]["type"],
        "retries_exhausted"
    );
}

/// Who stood still while another took over reads what that one wrote before finding out.
#[test]
fn a_driver_without_its_lease_runs_nothing_of_its_successor() {
    let mut session = Session::new(Placement::Cloud);
    session.queue(EventBody::UserMessage(text("first")));
    session.epoch = 2;
    let asked = |s: &Session| s.history().iter().any(|e| e["type"] == "agent.tool_use");
    while !asked(&session) {
        assert!(session.step(&World::Tools(vec![0])));
    }
    session.epoch = 1;
    assert!(!session.step(&World::Text), "parking tells it");
    assert!(session.in_flight.is_empty());
    session.epoch = 2;
    while session.in_flight.is_empty() {
        assert!(session.step(&World::Text));
    }
}
