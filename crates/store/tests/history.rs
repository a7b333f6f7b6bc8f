//! A good history passes, and each kind of damage is found by the rule that is about it.

use freehold_base::{IdSource, SessionId};
use freehold_store::conformance::{Fixture, World, append};
use freehold_store::{Append, Checked, HistoryAudit, Input, Place, Store, Then};
use freehold_wire::session::Status;
use rusqlite::Connection;

struct Case {
    dir: tempfile::TempDir,
    world: World,
    session: SessionId,
}

impl Case {
    /// A session at rest after one turn, with one message more than it has read.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(&|ids, listener| Fixture {
            store: Store::open(dir.path(), ids, listener).unwrap(),
            keep: Box::new(()),
        })
        .await;
        let session = world.session().await.id;
        let store = &world.store;
        store.accept(&session, vec![world.message()]).await.unwrap();
        let epoch = world.claim(&session).await;
        let item = store.inbox(&session).await.unwrap().1.remove(0);
        let taken = freehold_store::NewEvent {
            id: item.id,
            kind: item.kind,
            payload: item.payload,
            ref_id: None,
            detail: None,
        };
        let begun = Append {
            consume: vec![item.seq],
            status: Some(Status::Running),
            ..append(
                &session,
                epoch,
                vec![taken, world.event("session.status_running")],
            )
        };
        store.append(begun).await.unwrap();
        let ended = Append {
            status: Some(Status::Idle),
            then: Then::Idle { inbox_head: 1 },
            ..append(
                &session,
                epoch,
                vec![
                    world.event("agent.message"),
                    world.event("session.usage"),
                    world.event("session.status_idle"),
                ],
            )
        };
        store.append(ended).await.unwrap();
        let waits = Input::Queue {
            event: world.event("user.message"),
            starts_turn: false,
        };
        store.accept(&session, vec![waits]).await.unwrap();
        let blob = store.blobs().put(&b"out"[..], 100).await.unwrap();
        let output = freehold_store::NewOutput {
            session: session.clone(),
            path: "out.txt".into(),
            blob: blob.key.clone(),
            size: blob.size,
            source_mtime: 1,
        };
        store.upsert_output(output).await.unwrap();
        Self {
            dir,
            world,
            session,
        }
    }

    /// Changes the database as a fault of ours would.
    fn damage(&self, sql: &str) {
        let database = Connection::open(self.dir.path().join("freehold.db")).unwrap();
        let changed = database.execute(sql, [self.session.as_str()]).unwrap();
        assert!(changed > 0, "{sql}");
    }

    /// What is found, by a second process beside the one that has the store open.
    async fn check(&self) -> Vec<Checked> {
        let ids = IdSource::system();
        let store = Store::open_reading(self.dir.path(), Place::default(), ids).unwrap();
        let standing = store.standing(&self.session).await.unwrap().unwrap();
        let head = standing.head;
        let mut audit = HistoryAudit::new(standing);
        for event in store.tail(&self.session, 0, 1000).await.unwrap() {
            if event.seq <= head {
                audit.event(&event);
            }
        }
        let mut found = audit.finish();
        found.push(store.check_blobs(&self.session).await.unwrap());
        store.close().await;
        found
    }
}

#[tokio::test]
async fn a_good_history_passes_beside_the_process_that_writes_it() {
    let case = Case::new().await;
    let found = case.check().await;
    for rule in &found {
        assert_eq!(rule.violations, Vec::<String>::new(), "{}", rule.rule);
        assert!(rule.count > 0, "{}: nothing was looked at", rule.rule);
    }
    assert_eq!(found[0].count, 5);
    // A store that is read refuses to be written.
    let store = Store::open_reading(case.dir.path(), Place::default(), IdSource::system()).unwrap();
    let refused = store
        .accept(&case.session, vec![case.world.message()])
        .await;
    assert!(refused.unwrap_err().to_string().contains("store"));
}

#[tokio::test]
async fn each_kind_of_damage_is_found() {
    let event = |change: &str, seq: i64| {
        format!("UPDATE event SET {change} WHERE session_id = ?1 AND seq = {seq}")
    };
    let row = |change: &str| format!("UPDATE session SET {change} WHERE id = ?1");
    let into_inbox = "INSERT INTO inbox (session_id, seq, id, kind, accepted_at, octets, payload)
      SELECT session_id, 1, id, kind, processed_at, 1, payload FROM event
      WHERE session_id = ?1 AND seq = 1";
    for (damage, rule, says) in [
        (
            "DELETE FROM event WHERE session_id = ?1 AND seq = 3".to_owned(),
            "places in the log are gapless from 1",
            "after 2",
        ),
        (
            "DELETE FROM event WHERE session_id = ?1 AND seq = 5".to_owned(),
            "the row's head and time are those of the last event",
            "the head is 5, the last event at 4",
        ),
        (
            row("last_processed_at = last_processed_at + 1"),
            "the row's head and time are those of the last event",
            "not the row's",
        ),
        (
            event("processed_at = 1", 4),
            "processed_at rises with the place",
            "at 4 is not later",
        ),
        (
            event("epoch = 9", 3),
            "no event of an older driver follows one of a newer",
            "of epoch 9",
        ),
        (
            event("payload = '{}'", 2),
            "payloads say the id and type of their rows",
            "at 2 says something else",
        ),
        (
            into_inbox.to_owned(),
            "input is consumed once and waits in order",
            "still waits",
        ),
        (
            "UPDATE inbox SET seq = 7 WHERE session_id = ?1".to_owned(),
            "input is consumed once and waits in order",
            "waits at 7",
        ),
        (
            row("status = 'running', wake_at = NULL, lease_owner = NULL"),
            "status, lease and wake-up time agree",
            "nobody drives it",
        ),
        (
            row("status = 'terminated'"),
            "status, lease and wake-up time agree",
            "time of ending",
        ),
        (
            row("lease_epoch = 0, lease_owner = 'x'"),
            "status, lease and wake-up time agree",
            "never claimed",
        ),
        (
            event("kind = 'session.status_running'", 5),
            "status, lease and wake-up time agree",
            "its log ends running",
        ),
        (
            "UPDATE file SET blob = 'ab' || substr(blob, 3) WHERE scope_session = ?1".to_owned(),
            "blobs that its rows name are there",
            "is missing",
        ),
    ] {
        let case = Case::new().await;
        case.damage(&damage);
        let found = case.check().await;
        let of = found.iter().find(|c| c.rule == rule).unwrap();
        assert!(
            of.violations.iter().any(|v| v.contains(says)),
            "{damage}: {found:#?}"
        );
    }
}
