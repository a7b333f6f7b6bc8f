//! What a connection does when the hub drops frames for it: not reproducible from outside, where
//! socket buffers hide a slow reader.

use freehold_base::{IdSource, WorkspaceId, limits};
use freehold_runtime::Hub;
use freehold_store::{Append, NewAgent, NewEnvironment, NewEvent, NewSession, Then};
use freehold_wire::content::ContentBlock;
use freehold_wire::event::{ContentOnly, Empty, EventBody};
use futures_util::StreamExt;

use super::*;

struct Fixture {
    store: Store,
    hub: Hub,
    ids: IdSource,
    session: SessionId,
    _dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ids = IdSource::system();
        let hub = Hub::new(ids.clone());
        let store = Store::open(dir.path(), ids.clone(), Arc::new(hub.clone())).unwrap();
        let workspace_id: WorkspaceId = store.default_workspace().await.unwrap().id;
        let agent = NewAgent {
            id: ids.next(),
            workspace_id: workspace_id.clone(),
            body: "{}".into(),
        };
        let agent = store.create_agent(agent).await.unwrap();
        let environment = NewEnvironment {
            id: ids.next(),
            workspace_id: workspace_id.clone(),
            name: "e".into(),
            body: "{}".into(),
        };
        let environment = store.create_environment(environment).await.unwrap();
        let session = NewSession {
            id: ids.next(),
            workspace_id,
            thread_id: ids.next(),
            environment_id: environment.id,
            environment: "{}".into(),
            self_hosted: false,
            agent_id: agent.id,
            agent_version: 1,
            agent: "{}".into(),
            deployment_id: None,
            title: None,
            metadata: Default::default(),
            budget: None,
            vault_ids: "[]".into(),
            initial: Vec::new(),
            skills: Vec::new(),
            resources: Vec::new(),
        };
        let session = store.create_session(session).await.unwrap().id;
        Self {
            store,
            hub,
            ids,
            session,
            _dir: dir,
        }
    }

    fn connection(&self, previews: Deltas) -> Connection {
        Connection {
            live: self.hub.subscribe(&self.session),
            store: self.store.clone(),
            session: self.session.clone(),
            previews,
            last: 0,
            started: HashSet::new(),
            done: VecDeque::new(),
            ready: VecDeque::new(),
            behind: false,
            over: false,
            ping: Duration::from_secs(3600),
            next_ping: Instant::now() + Duration::from_secs(3600),
            stopping: CancellationToken::new(),
            revoked: Box::pin(std::future::pending()),
        }
    }

    async fn append(&self, bodies: Vec<(EventId, EventBody)>) {
        let events = bodies
            .iter()
            .map(|(id, body)| NewEvent::new(id.clone(), body))
            .collect();
        let append = Append {
            session: self.session.clone(),
            epoch: 0,
            expected_head: None,
            events,
            consume: Vec::new(),
            status: None,
            blocked: None,
            agent: None,
            summary: None,
            then: Then::Stay,
        };
        self.store.append(append).await.unwrap();
    }

    fn start(&self, id: &EventId) {
        let frame = Frame::Start {
            id: id.clone(),
            kind: "agent.message",
            data: "\"start\"".into(),
        };
        self.hub.preview(&self.session, frame);
    }

    fn delta(&self, id: &EventId, text: &str) {
        let frame = Frame::Delta {
            id: id.clone(),
            data: format!("\"{text}\"").into(),
        };
        self.hub.preview(&self.session, frame);
    }

    fn message(&self, id: &EventId) -> (EventId, EventBody) {
        let content = vec![ContentBlock::text("whole")];
        (id.clone(), EventBody::AgentMessage(ContentOnly { content }))
    }
}

const BOTH: Deltas = Deltas {
    message: true,
    thinking: true,
};

fn text(frame: &Bytes) -> &str {
    std::str::from_utf8(frame).unwrap()
}

#[tokio::test]
async fn a_connection_that_lags_reads_what_it_missed_from_the_log() {
    let f = Fixture::new().await;
    let connection = f.connection(Deltas::default());
    let total = limits::HUB_BACKLOG * 3;
    let mut sent = Vec::new();
    while sent.len() < total {
        let batch: Vec<_> = (0..100)
            .map(|_| {
                (
                    f.ids.next::<freehold_base::kind::Event>(),
                    EventBody::AgentThinking(Empty {}),
                )
            })
            .collect();
        sent.extend(batch.iter().map(|(id, _)| id.clone()));
        f.append(batch).await;
    }
    let last = f.ids.next();
    f.append(vec![(last, EventBody::StatusTerminated(Empty {}))])
        .await;
    let frames: Vec<_> = connection.frames().collect().await;
    assert_eq!(frames.len(), sent.len() + 1);
    for (frame, id) in frames.iter().zip(&sent) {
        assert!(text(frame).contains(id.as_str()), "{}", text(frame));
    }
    assert!(text(&frames[sent.len()]).starts_with("event: session.status_terminated\n"));
}

#[tokio::test]
async fn a_preview_broken_by_a_lag_is_not_taken_up_again() {
    let f = Fixture::new().await;
    let mut connection = f.connection(BOTH);
    let id = f.ids.next();
    f.start(&id);
    f.delta(&id, "one");
    assert!(text(&connection.next().await.unwrap()).contains("start"));
    assert!(text(&connection.next().await.unwrap()).contains("one"));
    for n in 0..limits::HUB_BACKLOG * 2 {
        f.delta(&id, &n.to_string());
    }
    f.append(vec![f.message(&id)]).await;
    assert!(text(&connection.next().await.unwrap()).starts_with("event: agent.message\n"));
}

#[tokio::test]
async fn fragments_without_a_start_on_this_connection_are_left_out() {
    let f = Fixture::new().await;
    let id = f.ids.next();
    f.start(&id);
    let mut late = f.connection(BOTH);
    f.delta(&id, "two");
    f.append(vec![f.message(&id)]).await;
    f.delta(&id, "after its event");
    f.start(&id); // As from another replica, whose previews come another way than its events.
    let next = f.ids.next();
    f.start(&next);
    assert!(text(&late.next().await.unwrap()).contains(id.as_str()));
    assert!(text(&late.next().await.unwrap()).contains("start"));
}

#[tokio::test]
async fn an_event_seen_in_history_is_not_sent_again() {
    let f = Fixture::new().await;
    let mut connection = f.connection(Deltas::default());
    let (one, two) = (f.ids.next(), f.ids.next());
    f.append(vec![f.message(&one)]).await;
    connection.last = 1;
    f.append(vec![f.message(&two)]).await;
    assert!(text(&connection.next().await.unwrap()).contains(two.as_str()));
}
