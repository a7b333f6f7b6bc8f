//! Databases that servers of earlier commits wrote (`tests/upgrade/README.md`) are brought to today's
//! schema with what is in them. That today's server goes on with their sessions is tested through its
//! API (`tests/sdk/python/current/test_upgrade.py`).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use freehold_base::{IdSource, SessionId};
use freehold_store::{
    Append, NewEvent, NoListener, SessionQuery, SessionRow, Store, StoreError, StoredEvent, Then,
};
use freehold_wire::session::Status;
use rusqlite::Connection;
use tokio::io::AsyncReadExt;

/// Commits, and the steps of theirs that were edited afterwards.
const COMMITS: [(&str, &[i64]); 4] = [
    ("d66754e", &[1]),
    ("87f92d7", &[2]),
    ("9953257", &[2]),
    ("1c78745", &[8]),
];

fn unpack(commit: &str, dir: &Path) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/upgrade");
    let packed = std::fs::File::open(path.join(format!("{commit}.tar.gz"))).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(packed));
    archive.unpack(dir).unwrap();
}

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open(dir, IdSource::system(), Arc::new(NoListener))
}

fn database(dir: &Path) -> Connection {
    Connection::open(dir.join("freehold.db")).unwrap()
}

/// Everything that makes the schema, by name; how its lines are broken does not matter.
fn schema(dir: &Path) -> BTreeMap<String, Option<String>> {
    let database = database(dir);
    let mut all = database
        .prepare("SELECT type || ' ' || name, sql FROM sqlite_master")
        .unwrap();
    let words = |sql: String| sql.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows = all.query_map([], |row| {
        let sql: Option<String> = row.get(1)?;
        Ok((row.get(0)?, sql.map(words)))
    });
    rows.unwrap().collect::<Result<_, _>>().unwrap()
}

/// The events of a file, by session, as they stand there.
fn events(dir: &Path) -> BTreeMap<String, Vec<(i64, String, String)>> {
    let database = database(dir);
    let sql = "SELECT session_id, seq, id, payload FROM event ORDER BY session_id, seq";
    let mut all = database.prepare(sql).unwrap();
    let mut found = BTreeMap::<String, Vec<_>>::new();
    let mut rows = all.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let event = (row.get(1), row.get(2), row.get(3));
        let session = found.entry(row.get(0).unwrap()).or_default();
        session.push((event.0.unwrap(), event.1.unwrap(), event.2.unwrap()));
    }
    found
}

async fn sessions(store: &Store) -> BTreeMap<String, SessionRow> {
    let query = SessionQuery {
        include_archived: true,
        limit: 10,
        ..SessionQuery::default()
    };
    let workspace = store.default_workspace().await.unwrap().id;
    let all = store.list_sessions(&workspace, query).await.unwrap();
    let named = |row: SessionRow| (row.title.clone().unwrap(), row);
    all.into_iter().map(named).collect()
}

async fn log(store: &Store, session: &SessionId) -> Vec<StoredEvent> {
    store.tail(session, 0, 1000).await.unwrap()
}

#[tokio::test]
async fn databases_of_earlier_commits_become_todays() {
    let fresh = tempfile::tempdir().unwrap();
    open(fresh.path()).unwrap().close().await;
    let todays = schema(fresh.path());
    for (commit, edited) in COMMITS {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        unpack(commit, dir);
        let before = events(dir);
        let behind = Store::pending_migrations(dir, None).unwrap();
        let repaired: Vec<_> = behind
            .iter()
            .filter_map(|step| step.repair.then_some(step.version))
            .collect();
        assert_eq!(repaired, edited, "{commit}");
        let refused = Store::open_reading(dir, Default::default(), IdSource::system());
        assert!(
            matches!(refused, Err(StoreError::SchemaBehind { pending }) if pending == behind.len())
        );
        assert_eq!(Store::migrate(dir, None).unwrap(), behind, "{commit}");
        assert_eq!(Store::migrate(dir, None).unwrap(), [], "{commit}");
        for (name, sql) in schema(dir) {
            assert_eq!(Some(&sql), todays.get(&name), "{commit}: {name}");
        }
        assert_eq!(schema(dir).len(), todays.len(), "{commit}");
        assert_eq!(events(dir), before, "{commit}");
        // What waits for a worker is queued for one, whether or not there was a queue.
        let queued = database(dir).query_row(
            "SELECT group_concat(title || ' ' || state) FROM work JOIN session_body USING (session_id)",
            [],
            |row| row.get::<_, String>(0),
        );
        assert_eq!(queued.unwrap(), "hosted queued", "{commit}");
        let intact = "PRAGMA integrity_check; PRAGMA foreign_key_check";
        for check in intact.split("; ") {
            let database = database(dir);
            let mut check = database.prepare(check).unwrap();
            let said = check.query_map([], |row| row.get::<_, String>(0)).unwrap();
            let said: Vec<_> = said.collect::<Result<_, _>>().unwrap();
            assert!(said.iter().all(|line| line == "ok"), "{commit}: {said:?}");
        }
    }
}

#[tokio::test]
async fn their_sessions_are_intact() {
    for (commit, _) in COMMITS {
        let dir = tempfile::tempdir().unwrap();
        unpack(commit, dir.path());
        let before = events(dir.path());
        let store = open(dir.path()).unwrap();
        let all = sessions(&store).await;
        let names: Vec<_> = all.keys().map(String::as_str).collect();
        let expected = [
            "archived", "asking", "blocked", "cut", "finished", "hosted", "queued",
        ];
        assert_eq!(names, expected, "{commit}");
        for row in all.values() {
            let log = log(&store, &row.id).await;
            let stood = before.get(row.id.as_str()).cloned().unwrap_or_default();
            let stands: Vec<_> = log
                .iter()
                .map(|e| (e.seq, e.id.to_string(), e.payload.clone()))
                .collect();
            assert_eq!(stands, stood, "{commit}");
            assert!(log.iter().map(|e| e.seq).eq(1..=row.head_seq), "{commit}");
            assert!(log.is_sorted_by(|a, b| a.processed_at < b.processed_at));
        }
        let status = |name: &str| (all[name].status, all[name].blocked);
        assert_eq!(status("finished"), (Status::Idle, false));
        for waiting in ["blocked", "asking", "hosted"] {
            assert_eq!(status(waiting), (Status::Idle, true));
        }
        assert_eq!(status("queued"), (Status::Running, false));
        assert_eq!(status("cut"), (Status::Running, false));
        assert_eq!(status("archived"), (Status::Terminated, false));
        assert_eq!(all["finished"].head_seq, 54);

        // Every call of the finished one is found with its one result, by the repaired index.
        let finished = &all["finished"].id;
        let calls = log(&store, finished).await;
        let calls = calls.iter().filter(|e| e.kind == "agent.tool_use");
        let mut answered = 0;
        for call in calls {
            let (results, _) = store.references(finished, &call.id).await.unwrap();
            assert_eq!(results.len(), 1, "{commit}");
            answered += 1;
        }
        assert_eq!(answered, 5);

        // Files have their bytes.
        let files = store.session_outputs(finished).await.unwrap();
        let mut content = String::new();
        let mut bytes = store.blobs().open(&files[0].blob).await.unwrap();
        bytes.read_to_string(&mut content).await.unwrap();
        assert_eq!(content, "output", "{commit}");
        store.close().await;
    }
}

#[tokio::test]
async fn their_sessions_go_on() {
    for (commit, _) in COMMITS {
        let dir = tempfile::tempdir().unwrap();
        unpack(commit, dir.path());
        let store = open(dir.path()).unwrap();
        let all = sessions(&store).await;
        let replica = store.replica().clone();
        store.heartbeat(&replica, 60_000).await.unwrap();

        // Whoever drove them is dead, so those that were at work want a driver, longest waiting first.
        let mut wanting = store.runnable(10).await.unwrap();
        let mut expected = vec![all["queued"].id.clone(), all["cut"].id.clone()];
        wanting.sort_unstable();
        expected.sort_unstable();
        assert_eq!(wanting, expected, "{commit}");

        for (name, waiting) in [("queued", 2), ("cut", 1)] {
            let row = &all[name];
            let claim = store.claim(&row.id, &replica).await.unwrap().unwrap();
            assert_eq!(claim.head, row.head_seq, "{commit}");
            let (_, items) = store.inbox(&row.id).await.unwrap();
            assert_eq!(items.len(), waiting, "{commit}");
            let first = &items[0];
            let taken = NewEvent {
                id: first.id.clone(),
                kind: first.kind.clone(),
                payload: first.payload.clone(),
                ref_id: None,
                detail: None,
            };
            let append = Append {
                session: row.id.clone(),
                epoch: claim.epoch,
                expected_head: Some(claim.head),
                events: vec![taken],
                consume: vec![first.seq],
                status: Some(Status::Running),
                blocked: None,
                agent: None,
                summary: None,
                then: Then::Stay,
            };
            let done = store.append(append).await.unwrap();
            assert_eq!(done.head, claim.head + 1, "{commit}");
            let log = log(&store, &row.id).await;
            assert_eq!(log.last().unwrap().id, first.id, "{commit}");
        }
        store.close().await;
    }
}
