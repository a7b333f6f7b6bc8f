//! What is particular to PostgreSQL: several processes on one database, and a database that goes away.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::cluster::Cluster;
use common::pooler::Pooler;
use common::wire::Wire;
use common::{Hand, tapped};
use freehold_base::{EnvironmentId, IdSource, ReplicaId, SessionId};
use freehold_store::backend::{Tx, Value};
use freehold_store::conformance::{Fixture, World, append};
use freehold_store::postgres::Address;
use freehold_store::{AppendError, CommitListener, Place, Store, StoreError, StoredEvent};
use tokio::sync::Notify;

/// Opens a store as a server would: it blocks on runtimes of its own.
fn open(
    dir: &Path,
    address: &Address,
    listener: Arc<dyn CommitListener>,
) -> Result<Store, StoreError> {
    let place = Place {
        database: Some(address.clone()),
        ..Place::default()
    };
    let open = || Store::open_with(dir, place, IdSource::system(), listener);
    std::thread::scope(|s| s.spawn(open).join().unwrap())
}

async fn world(dir: &Path, address: &Address) -> World {
    World::new(&|_, listener| Fixture {
        store: open(dir, address, listener).unwrap(),
        keep: Box::new(()),
    })
    .await
}

/// What another replica is told.
#[derive(Default)]
struct Ear {
    watched: Mutex<Vec<SessionId>>,
    moved: Mutex<Vec<(SessionId, i64)>>,
    deleted: Mutex<Vec<SessionId>>,
    queued: AtomicUsize,
    access: AtomicUsize,
    heard: Notify,
}

impl Ear {
    /// Waits until it is so.
    async fn until(&self, so: impl Fn(&Self) -> bool) {
        loop {
            let heard = self.heard.notified();
            if so(self) {
                return;
            }
            let waited = tokio::time::timeout(Duration::from_secs(30), heard).await;
            waited.expect("no news");
        }
    }
    fn has(&self, session: &SessionId, head: i64) -> bool {
        let moved = self.moved.lock().unwrap();
        moved.contains(&(session.clone(), head))
    }
}

impl CommitListener for Ear {
    fn committed(&self, _: &SessionId, _: &[Arc<StoredEvent>]) {}
    fn deleted(&self, session: &SessionId) {
        self.deleted.lock().unwrap().push(session.clone());
        self.heard.notify_waiters();
    }
    fn queued(&self, _: &EnvironmentId) {
        self.queued.fetch_add(1, Ordering::SeqCst);
        self.heard.notify_waiters();
    }
    fn work_ended(&self) {}
    fn access_changed(&self) {
        self.access.fetch_add(1, Ordering::SeqCst);
        self.heard.notify_waiters();
    }
    fn moved(&self, session: &SessionId, head: i64) {
        self.moved.lock().unwrap().push((session.clone(), head));
        self.heard.notify_waiters();
    }
    fn watched(&self) -> Vec<SessionId> {
        self.watched.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_append_to_one_gapless_log() {
    let cluster = Cluster::start();
    let address = cluster.address(&cluster.database());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let w = world(dirs[0].path(), &address).await;
    let other = open(dirs[1].path(), &address, Arc::<Ear>::default()).unwrap();
    let sessions = [
        w.session().await.id,
        w.session().await.id,
        w.session().await.id,
    ];
    let mut writers = Vec::new();
    for n in 0..48usize {
        let store = if n % 2 == 0 { &w.store } else { &other };
        let (store, session) = (store.clone(), sessions[n % 3].clone());
        let events = (0..5).map(|_| w.event("agent.message")).collect::<Vec<_>>();
        writers.push(tokio::spawn(async move {
            for event in events {
                store
                    .append(append(&session, 0, vec![event]))
                    .await
                    .unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for session in &sessions {
        let log = other.tail(session, 0, 1000).await.unwrap();
        let places: Vec<_> = log.iter().map(|e| e.seq).collect();
        assert_eq!(places, (1..=80).collect::<Vec<_>>());
        assert!(log.is_sorted_by(|a, b| a.processed_at < b.processed_at));
        assert_eq!(w.row(session).await.head_seq, 80);
    }
    w.store.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_hears_what_another_did() {
    let cluster = Cluster::start();
    let address = cluster.address(&cluster.database());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let w = world(dirs[0].path(), &address).await;
    let ear = Arc::<Ear>::default();
    let other = open(dirs[1].path(), &address, ear.clone()).unwrap();
    // Both listen from the start, so there is nothing to wait for but the news.
    ear.until(|e| e.access.load(Ordering::SeqCst) > 0).await;
    let s = w.session().await.id;
    let done = w
        .store
        .append(append(&s, 0, vec![w.event("agent.message")]))
        .await;
    ear.until(|e| e.has(&s, 1)).await;
    assert_eq!(done.unwrap().head, 1);
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    ear.until(|e| e.has(&s, 0)).await;
    let mut new = w.new_session();
    new.self_hosted = true;
    new.initial = vec![w.message()];
    w.store.create_session(new).await.unwrap();
    ear.until(|e| e.queued.load(Ordering::SeqCst) > 0).await;
    let idle = w.session().await.id;
    w.store.delete_session(&w.workspace, &idle).await.unwrap();
    ear.until(|e| e.deleted.lock().unwrap().contains(&idle))
        .await;
    w.store.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_watched_is_looked_at_when_nothing_is_heard() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let address = cluster.address(&database);
    let dir = tempfile::tempdir().unwrap();
    let ear = Arc::<Ear>::default();
    let w = world(dir.path(), &address).await;
    let s = w.session().await.id;
    let dir = tempfile::tempdir().unwrap();
    let other = open(dir.path(), &address, ear.clone()).unwrap();
    ear.watched.lock().unwrap().push(s.clone());
    // Changed by nobody who tells.
    cluster.sql(
        &database,
        &format!("UPDATE session SET head_seq = 7 WHERE id = '{s}'"),
    );
    ear.until(|e| e.has(&s, 7)).await;
    w.store.close().await;
    other.close().await;
}

/// With fewer connections than threads, and none of them anybody's: statements find what they need, logs are
/// gapless, and what another replica did is found by looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_work_behind_a_pooler_of_transactions() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let pooler = Pooler::before(&cluster);
    let address = pooler.address(&database);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let w = world(dirs[0].path(), &address).await;
    let ear = Arc::<Ear>::default();
    let other = open(dirs[1].path(), &address, ear.clone()).unwrap();
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(w.session().await.id);
    }
    ear.watched.lock().unwrap().extend(sessions.clone());
    let mut writers = Vec::new();
    for n in 0..48usize {
        let store = if n % 2 == 0 { &w.store } else { &other };
        let (store, session) = (store.clone(), sessions[n % 12].clone());
        let (message, events) = (w.message(), [(); 10].map(|()| w.event("agent.message")));
        writers.push(tokio::spawn(async move {
            store.accept(&session, vec![message]).await.unwrap();
            for event in events {
                let one = append(&session, 0, vec![event]);
                store.append(one).await.unwrap();
                assert!(store.session_any(&session).await.unwrap().is_some());
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for session in &sessions {
        for store in [&w.store, &other] {
            let log = store.tail(session, 0, 1_000).await.unwrap();
            assert!(log.iter().map(|e| e.seq).eq(1..=40));
            assert_eq!(store.inbox(session).await.unwrap().1.len(), 4);
        }
        ear.until(|e| e.has(session, 40)).await;
    }
    w.store.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_where_its_sandbox_is_while_somebody_lives_there() {
    let cluster = Cluster::start();
    let address = cluster.address(&cluster.database());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let w = world(dirs[0].path(), &address).await;
    let other = open(dirs[1].path(), &address, Arc::<Ear>::default()).unwrap();
    let (here, there): (ReplicaId, ReplicaId) =
        (w.store.replica().clone(), other.replica().clone());
    w.store.heartbeat(&here, 60_000).await.unwrap();
    w.store.retire(&w.replica).await.unwrap();
    other.heartbeat(&there, 60_000).await.unwrap();
    let s = w.session().await.id;
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    assert_eq!(other.runnable(10).await.unwrap(), []);
    assert!(other.claim(&s, &there).await.unwrap().is_none());
    assert_eq!(
        w.store.runnable(10).await.unwrap(),
        std::slice::from_ref(&s)
    );
    let first = w.store.claim(&s, &here).await.unwrap().unwrap();
    w.store.retire(&here).await.unwrap();
    assert_eq!(other.runnable(10).await.unwrap(), std::slice::from_ref(&s));
    let second = other.claim(&s, &there).await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
    let late = w
        .store
        .append(append(&s, first.epoch, vec![w.event("agent.message")]))
        .await;
    assert!(matches!(late, Err(AppendError::Fenced)), "{late:?}");
    // Its place is over there now.
    w.store.heartbeat(&here, 60_000).await.unwrap();
    other.release(&s, second.epoch).await.unwrap();
    assert!(w.store.claim(&s, &here).await.unwrap().is_none());
    w.store.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_process_in_a_directory_ends_the_leases_of_the_last() {
    let cluster = Cluster::start();
    let address = cluster.address(&cluster.database());
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path(), &address).await;
    let (s, first) = (w.session().await.id, w.store.replica().clone());
    w.store.heartbeat(&first, 3_600_000).await.unwrap();
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    w.store.claim(&s, &first).await.unwrap().unwrap();
    assert!(matches!(
        open(dir.path(), &address, Arc::<Ear>::default()),
        Err(StoreError::InUse { .. })
    ));
    w.store.close().await;
    let again = open(dir.path(), &address, Arc::<Ear>::default()).unwrap();
    assert_eq!(again.runnable(10).await.unwrap(), [s]);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_operation_harms_nobody_in_its_group() {
    let cluster = Cluster::start();
    let address = cluster.address(&cluster.database());
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path(), &address).await;
    let s = w.session().await.id;
    let known = w.event("agent.message");
    w.store
        .append(append(&s, 0, vec![known.clone()]))
        .await
        .unwrap();
    let attempts = (0..40).map(|n| {
        // Every other one breaks a unique index, which ends a transaction of PostgreSQL's.
        let event = if n % 2 == 0 {
            known.clone()
        } else {
            w.event("agent.message")
        };
        let (store, s) = (w.store.clone(), s.clone());
        tokio::spawn(async move { store.append(append(&s, 0, vec![event])).await.is_ok() })
    });
    let mut kept = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        kept += usize::from(attempt.await.unwrap());
    }
    assert_eq!(kept, 20);
    assert_eq!(w.row(&s).await.head_seq, 21);
    w.store.close().await;
}

/// Connections are ended, and the server is killed, again and again under writers: each append
/// happens once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_is_delay() {
    let mut cluster = Cluster::start();
    let database = cluster.database();
    let address = cluster.address(&database);
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path(), &address).await;
    let sessions = [w.session().await.id, w.session().await.id];
    let done = Arc::new(AtomicUsize::new(0));
    let mut writers = Vec::new();
    for n in 0..8usize {
        let (store, session) = (w.store.clone(), sessions[n % 2].clone());
        let (ids, done) = (w.ids.clone(), done.clone());
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            while done.load(Ordering::SeqCst) == 0 {
                let id: freehold_base::EventId = ids.next();
                let event = freehold_store::NewEvent {
                    payload: format!(r#"{{"id":"{id}"}}"#),
                    id: id.clone(),
                    kind: "agent.message".into(),
                    ref_id: None,
                    detail: None,
                };
                store
                    .append(append(&session, 0, vec![event]))
                    .await
                    .unwrap();
                acknowledged.push(id);
            }
            (n % 2, acknowledged)
        }));
    }
    let head = || async { w.row(&sessions[0]).await.head_seq };
    for round in 0..6 {
        let before = head().await;
        while head().await < before + 20 {}
        if round % 3 == 2 {
            cluster.kill();
            cluster.go();
        } else {
            let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND application_name = 'freehold'";
            assert!(
                !cluster.sql(&database, others).is_empty(),
                "there was something to end"
            );
        }
    }
    done.store(1, Ordering::SeqCst);
    let mut expected = [Vec::new(), Vec::new()];
    for writer in writers {
        let (n, acknowledged) = writer.await.unwrap();
        expected[n].extend(acknowledged);
    }
    for (session, mut expected) in sessions.iter().zip(expected) {
        let log = w.store.tail(session, 0, 1_000_000).await.unwrap();
        let places: Vec<_> = log.iter().map(|e| e.seq).collect();
        assert_eq!(places, (1..=log.len() as i64).collect::<Vec<_>>());
        let mut found: Vec<_> = log.into_iter().map(|e| e.id).collect();
        found.sort();
        expected.sort();
        assert!(found.len() > 100, "work happened: {}", found.len());
        assert_eq!(found, expected);
    }
    w.store.close().await;
}

/// Notes how many sessions' appends a statement has held.
#[derive(Default)]
struct Together(AtomicUsize);

impl Hand for Together {
    fn statement(&self, _: &mut dyn Tx, sql: &str, _: &[Value<'_>]) -> String {
        if sql.contains("new_status") {
            let held = 1 + sql.matches("), (").count();
            self.0.fetch_max(held, Ordering::SeqCst);
        }
        sql.to_owned()
    }
}

/// What is run together with others comes out as if it were alone: what is refused is refused for its own
/// reason and leaves nothing, and takes nobody with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_in_one_statement_keep_their_own_outcomes() {
    const SESSIONS: usize = 48;
    let cluster = Cluster::start();
    let address = cluster.address(&cluster.database());
    let dir = tempfile::tempdir().unwrap();
    let hand = Arc::<Together>::default();
    let w = World::new(&|ids: IdSource, listener| {
        let open = || tapped(dir.path(), Some(&address), ids, listener, Arc::clone(&hand));
        Fixture {
            store: std::thread::scope(|s| s.spawn(open).join().unwrap()),
            keep: Box::new(()),
        }
    })
    .await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let session = w.session().await.id;
        let epoch = w.claim(&session).await;
        let call = w.event("agent.tool_use");
        let events = vec![call.clone(), w.about("agent.tool_result", &call.id)];
        let done = w.store.append(append(&session, epoch, events)).await;
        sessions.push((session, epoch, call.id, done.unwrap().head));
    }
    // With what must be undone in every round but the first.
    for round in 0..8 {
        let mut running = Vec::new();
        for (n, (session, epoch, call, head)) in sessions.iter().enumerate() {
            let mut one = append(session, *epoch, vec![w.event("agent.message")]);
            match n % 8 {
                1 => one.epoch += 1,
                2 => one.expected_head = Some(head + 1_000),
                3 if round > 0 => one.events.push(w.about("user.tool_result", call)),
                4 if round > 0 => one.consume.push(7),
                _ => {}
            }
            let store = w.store.clone();
            running.push(tokio::spawn(async move { store.append(one).await }));
        }
        for (n, appended) in running.into_iter().enumerate() {
            let (session, _, call, head) = &mut sessions[n];
            match (n % 8, appended.await.unwrap()) {
                (1, Err(AppendError::Fenced)) | (2, Err(AppendError::HeadMoved)) => {}
                (3, Err(AppendError::AlreadyAnswered(id))) if round > 0 => assert_eq!(id, *call),
                (4, Err(AppendError::HeadMoved)) if round > 0 => {}
                (_, Ok(done)) => {
                    *head += 1;
                    assert_eq!((done.head, done.events.len()), (*head, 1));
                    assert_eq!(done.events[0].seq, *head);
                }
                (_, other) => panic!("{n} in round {round}: {other:?}"),
            }
            let log = w.store.tail(session, 0, 100).await.unwrap();
            assert!(log.iter().map(|e| e.seq).eq(1..=*head));
            assert_eq!(w.heard.of(session).len() as i64, *head);
        }
    }
    let most = hand.0.load(Ordering::SeqCst);
    assert!(most > 4, "at most {most} were run together");
    w.store.close().await;
}

/// A COMMIT that a dying server never saw: after the crash the transaction's id is another's, which was
/// committed. What was lost runs again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_lost_in_a_crash_is_not_taken_for_anothers() {
    let mut cluster = Cluster::start();
    let database = cluster.database();
    let wire = Wire::to(&cluster);
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path(), &wire.address(&database)).await;
    let s = w.session().await.id;
    let event = w.event("agent.message");
    let held = wire.hold_next_commit();
    let appended = {
        let (store, s, event) = (w.store.clone(), s.clone(), event.clone());
        tokio::spawn(async move { store.append(append(&s, 0, vec![event])).await })
    };
    held.recv_timeout(Duration::from_secs(30)).unwrap();
    // Nobody comes in before its id is in other hands.
    wire.close();
    cluster.kill();
    cluster.go();
    for n in 0..20 {
        cluster.sql(&database, &format!("CREATE TABLE other_{n} (n INT)"));
    }
    wire.open();
    appended.await.unwrap().unwrap();
    let log = w.store.tail(&s, 0, 10).await.unwrap();
    assert_eq!(log.len(), 1, "an acknowledged event is lost");
    assert_eq!(log[0].id, event.id);
    w.store.close().await;
}

/// Text sorts by its bytes, whatever the server's order is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_ordered_by_its_bytes() {
    let cluster = Cluster::start();
    let database = cluster.database();
    let sorted = "SELECT string_agg(t, '' ORDER BY t) FROM (VALUES ('a'), ('B')) v(t)";
    assert_eq!(
        cluster.sql(&database, sorted),
        "aB",
        "the server orders as people do"
    );
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path(), &cluster.address(&database)).await;
    let other = "SELECT COUNT(*) FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'";
    assert_eq!(cluster.sql(&database, other), "0");
    let some = "SELECT COUNT(*) > 50 FROM information_schema.columns WHERE collation_name = 'C'";
    assert_eq!(cluster.sql(&database, some), "t");
    w.store.close().await;
}
