//! A PostgreSQL database that was dumped while it was written to, with its blobs copied afterwards, as
//! `docs/backup.md` says, is a store like any other.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::cluster::Cluster;
use freehold_base::IdSource;
use freehold_store::conformance::{Fixture, World, append};
use freehold_store::postgres::Address;
use freehold_store::{CommitListener, HistoryAudit, NoListener, Place, Store};

fn open(dir: &Path, address: &Address, listener: Arc<dyn CommitListener>) -> Store {
    let place = Place {
        database: Some(address.clone()),
        ..Place::default()
    };
    let open = || Store::open_with(dir, place, IdSource::system(), listener).unwrap();
    // It blocks on runtimes of its own.
    std::thread::scope(|s| s.spawn(open).join().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_under_writes_and_the_blobs_after_it_are_a_whole_store() {
    let cluster = Cluster::start();
    let (from, to) = (cluster.database(), cluster.database());
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let world = World::new(&|_, listener| Fixture {
        store: open(dirs[0].path(), &cluster.address(&from), listener),
        keep: Box::new(()),
    })
    .await;
    let session = world.session().await.id;
    let acked = append(&session, 0, vec![world.event("agent.message")]);
    let acked = world.store.append(acked).await.unwrap().events;
    let file = world.file("bytes").await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, store, session, ids) = (
            Arc::clone(&stop),
            world.store.clone(),
            session.clone(),
            world.ids.clone(),
        );
        tokio::spawn(async move {
            let mut wrote = 0;
            while !stop.load(Ordering::SeqCst) {
                let id = ids.next();
                let event = freehold_store::NewEvent {
                    payload: format!(r#"{{"id":"{id}","type":"agent.message"}}"#),
                    id,
                    kind: "agent.message".into(),
                    ref_id: None,
                    detail: None,
                };
                let done = store.append(append(&session, 0, vec![event])).await;
                done.unwrap();
                wrote += 1;
            }
            wrote
        })
    };
    let dump = dirs[0].path().join("dump");
    tokio::task::block_in_place(|| cluster.dump(&from, &dump));
    stop.store(true, Ordering::SeqCst);
    assert!(writer.await.unwrap() > 0);
    for part in ["blobs", "secrets.key"] {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(dirs[0].path().join(part));
        assert!(copy.arg(dirs[1].path()).status().unwrap().success());
    }
    tokio::task::block_in_place(|| cluster.restore(&to, &dump));

    let address = cluster.address(&to);
    let pending = std::thread::scope(|s| {
        let pending = || Store::pending_migrations(dirs[1].path(), Some(&address));
        s.spawn(pending).join().unwrap()
    });
    assert_eq!(pending.unwrap(), []);
    let store = open(dirs[1].path(), &address, Arc::new(NoListener));
    let standing = store.standing(&session).await.unwrap().unwrap();
    let mut audit = HistoryAudit::new(standing);
    let log = store.tail(&session, 0, 100_000).await.unwrap();
    assert_eq!(log[0], *acked[0]);
    log.iter().for_each(|event| audit.event(event));
    for checked in audit.finish() {
        assert_eq!(checked.violations, Vec::<String>::new(), "{}", checked.rule);
    }
    let found = store.file(&world.workspace, &file.id).await.unwrap();
    assert!(store.blobs().open(&found.unwrap().blob).await.is_ok());
    let goes_on = append(&session, 0, vec![world.event("agent.message")]);
    let done = store.append(goes_on).await.unwrap();
    assert_eq!(done.head, log.len() as i64 + 1);
}
