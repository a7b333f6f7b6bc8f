//! `kill -9` at the worst moments: what was answered is there, what was not may be, and nothing is
//! half there. A child process does the writing and aborts at a named point.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use freehold_base::{IdSource, SessionId, crash};
use freehold_store::conformance::{Fixture, World, append};
use freehold_store::{Append, NoListener, Store, Then};

const DIR: &str = "FREEHOLD_KILL_DIR";
const POINT: &str = "FREEHOLD_KILL_POINT";
const HIT: &str = "FREEHOLD_KILL_HIT";

#[allow(
    clippy::disallowed_methods,
    reason = "how a test talks to the child it starts"
)]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The child; does nothing when it is run as a test of its own.
#[tokio::test]
async fn child() {
    let Some(dir) = var(DIR) else { return };
    let w = World::new(&|ids, listener| Fixture {
        store: Store::open(Path::new(&dir), ids, listener).unwrap(),
        keep: Box::new(()),
    })
    .await;
    let s = w.session().await.id;
    println!("session {s}");
    let epoch = w.claim(&s).await;
    let point: &'static str = match var(POINT).as_deref() {
        Some("store.commit.before") => "store.commit.before",
        _ => "store.commit.after",
    };
    crash::arm(point, var(HIT).unwrap().parse().unwrap());
    for _ in 0.. {
        let input = w.message();
        let accepted = w.store.accept(&s, vec![input.clone()]).await.unwrap();
        println!("accepted {}", accepted[0].id);
        let (inbox_head, open) = w.store.inbox(&s).await.unwrap();
        let turn = Append {
            consume: open.iter().map(|i| i.seq).collect(),
            then: Then::Idle { inbox_head },
            ..append(
                &s,
                epoch,
                vec![input.event().clone(), w.event("agent.message")],
            )
        };
        println!("appended {}", w.store.append(turn).await.unwrap().head);
    }
}

/// Runs the child to its death; gives the session, what was acknowledged, and the store as found.
async fn killed(dir: &Path, point: &str, hit: u64) -> (SessionId, Vec<String>, i64, Store) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(POINT, point)
        .env(HIT, hit.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut session, mut accepted, mut head) = (None, Vec::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            // The test runner's own words may come first on the line.
            _ if line.contains("session sesn_") => {
                session = line.split("session ").last().map(|id| id.parse().unwrap());
            }
            Some(("accepted", id)) => accepted.push(id.to_owned()),
            Some(("appended", n)) => head = n.parse().unwrap(),
            _ => {}
        }
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child was to die");
    let store = Store::open(dir, IdSource::system(), Arc::new(NoListener)).unwrap();
    (session.expect("the child began"), accepted, head, store)
}

#[tokio::test]
async fn what_was_answered_survives_and_nothing_is_torn() {
    let mut worked = 0;
    for point in ["store.commit.before", "store.commit.after"] {
        for hit in 1..=6 {
            let dir = tempfile::tempdir().unwrap();
            let (s, accepted, head, store) = killed(dir.path(), point, hit).await;
            let log = store.tail(&s, 0, 1000).await.unwrap();
            let (_, open) = store.inbox(&s).await.unwrap();
            let found = log.len() as i64;
            assert!(log.iter().map(|e| e.seq).eq(1..=found), "gapless");
            assert_eq!(
                store.session_any(&s).await.unwrap().unwrap().head_seq,
                found
            );
            // Before the commit nothing of the cut-off write is there, after it everything.
            let kept = i64::from(point == "store.commit.after");
            let (writes, acknowledged) = (hit as i64 - 1 + kept, hit as i64 - 1);
            assert_eq!(accepted.len() as i64, (acknowledged + 1) / 2);
            assert_eq!(head, acknowledged / 2 * 2);
            assert_eq!(found, writes / 2 * 2);
            assert_eq!(open.len() as i64, writes % 2);
            for id in &accepted {
                let logged = log.iter().filter(|e| e.id.as_str() == id).count();
                let waiting = open.iter().filter(|i| i.id.as_str() == id).count();
                assert_eq!(logged + waiting, 1, "{point} {hit}: {id} is kept, once");
            }
            // Work that is left finds a driver at once.
            let wanted = store.runnable(10).await.unwrap();
            assert_eq!(wanted.contains(&s), !open.is_empty(), "{point} {hit}");
            let replica = IdSource::system().next();
            assert!(store.claim(&s, &replica).await.unwrap().is_some());
            worked += found;
            store.close().await;
        }
    }
    assert!(worked > 20, "there was something to lose");
}
