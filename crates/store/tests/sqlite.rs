//! What is particular to SQLite: one process, one writer thread, files that outlive both.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use freehold_base::{EnvironmentId, IdSource, SessionId};
use freehold_store::backend::{Backend, Scope, op};
use freehold_store::conformance::{Fixture, World, append};
use freehold_store::sqlite::Sqlite;
use freehold_store::{CommitListener, NoListener, Store, StoreError, StoredEvent};

async fn world(dir: &std::path::Path) -> World {
    World::new(&|ids, listener| Fixture {
        store: Store::open(dir, ids, listener).unwrap(),
        keep: Box::new(()),
    })
    .await
}

fn reopen(dir: &std::path::Path) -> Result<Store, StoreError> {
    Store::open(dir, IdSource::system(), Arc::new(NoListener))
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let s = w.session().await.id;
    let file = w.file("bytes").await;
    w.store
        .append(append(&s, 0, vec![w.event("agent.message")]))
        .await
        .unwrap();
    w.store.accept(&s, vec![w.message()]).await.unwrap();
    w.claim(&s).await;
    let before = (w.row(&s).await, w.store.tail(&s, 0, 10).await.unwrap());
    let organization = w.store.organization().await.unwrap();
    w.store.close().await;

    let store = reopen(dir.path()).unwrap();
    let after = (
        store.session_any(&s).await.unwrap().unwrap(),
        store.tail(&s, 0, 10).await.unwrap(),
    );
    assert_eq!(after, before);
    assert_eq!(store.organization().await.unwrap(), organization);
    assert_eq!(store.inbox(&s).await.unwrap().1.len(), 1);
    assert_eq!(
        store.file(&w.workspace, &file.id).await.unwrap(),
        Some(file)
    );
    // The lease ended with the process that held it, however long it had asked for.
    assert_eq!(store.runnable(10).await.unwrap(), [s]);
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let store = reopen(dir.path()).unwrap();
    let refused = reopen(dir.path()).err().unwrap();
    assert!(matches!(refused, StoreError::InUse { .. }));
    assert!(
        refused
            .to_string()
            .ends_with("is in use by another process"),
        "{refused}"
    );
    store.close().await;
    let store = reopen(dir.path()).unwrap();
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let s = w.session().await.id;
    let slow: Vec<_> = (0..50)
        .map(|_| {
            let (store, a) = (w.store.clone(), append(&s, 0, vec![w.event("x.y")]));
            tokio::spawn(async move { store.append(a).await })
        })
        .collect();
    tokio::task::yield_now().await;
    w.store.close().await;
    let mut kept = 0;
    for task in slow {
        kept += usize::from(task.await.unwrap().is_ok());
    }
    assert!(matches!(
        w.store.tail(&s, 0, 1).await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(
        w.store.create_workspace("x".into()).await,
        Err(StoreError::Closed)
    ));
    w.store.close().await;
    let store = reopen(dir.path()).unwrap();
    assert_eq!(
        store.tail(&s, 0, 100).await.unwrap().len(),
        kept,
        "answered is kept, no more"
    );
}

#[tokio::test]
async fn the_data_directory_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("deep/data");
    let store = reopen(&data).unwrap();
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    store.close().await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_unharmed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("freehold.db");
    let garbage = b"this is not a database, and long enough to be looked at. ".repeat(100);
    std::fs::write(&path, &garbage).unwrap();
    assert!(matches!(
        reopen(dir.path()).err().unwrap(),
        StoreError::Database(_)
    ));
    assert_eq!(std::fs::read(&path).unwrap(), garbage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_or_failure_harms_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let ids = IdSource::system();
    let db = Sqlite::open(
        dir.path(),
        Arc::clone(ids.clock()),
        Arc::new(NoListener),
        |tx| {
            tx.execute("CREATE TABLE t (x INTEGER PRIMARY KEY)", &[])
                .map(drop)
        },
    )
    .unwrap();
    let insert = |x: i64, then: fn() -> Result<(), &'static str>| {
        db.write(
            Scope::All,
            op(move |tx| {
                tx.execute("INSERT INTO t VALUES (?1)", &[x.into()])
                    .map_err(|e| Box::new(e.to_string()) as Box<_>)?;
                then().map_err(|e| Box::new(e.to_owned()) as Box<_>)?;
                Ok(Box::new(x))
            }),
        )
    };
    let panic = || -> Result<(), &'static str> { panic!("on purpose") };
    // All of these are queued before the writer gets to see any: one group.
    let (a, b, c, d, e) = tokio::join!(
        insert(1, || Ok(())),
        insert(2, panic),
        insert(3, || Err("refused")),
        insert(1, || Ok(())),
        insert(4, || Ok(())),
    );
    assert!(a.unwrap().is_ok());
    assert!(matches!(b, Err(StoreError::Panicked)));
    assert_eq!(
        *c.unwrap().unwrap_err().downcast::<String>().unwrap(),
        "refused"
    );
    assert_eq!(
        *d.unwrap().unwrap_err().downcast::<String>().unwrap(),
        "a unique value exists already"
    );
    assert!(e.unwrap().is_ok());
    let read = |panics: bool| {
        db.read(op(move |tx| {
            assert!(!panics, "on purpose");
            Ok(Box::new(
                tx.query("SELECT x FROM t ORDER BY x", &[]).unwrap().len(),
            ))
        }))
    };
    for _ in 0..10 {
        assert!(matches!(read(true).await, Err(StoreError::Panicked)));
    }
    assert_eq!(
        *read(false)
            .await
            .unwrap()
            .unwrap()
            .downcast::<usize>()
            .unwrap(),
        2
    );
    db.close().await;
}

#[tokio::test]
async fn a_reader_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let ids = IdSource::system();
    let db = Sqlite::open(
        dir.path(),
        Arc::clone(ids.clock()),
        Arc::new(NoListener),
        |_| Ok(()),
    );
    let db = db.unwrap();
    let write = db.read(op(|tx| match tx.execute("DELETE FROM session", &[]) {
        Ok(n) => Ok(Box::new(n)),
        Err(e) => Err(Box::new(e)),
    }));
    assert!(write.await.unwrap().is_err());
    db.close().await;
}

/// Panics at the first event, counts the rest.
#[derive(Default)]
struct Clumsy(AtomicUsize);

impl CommitListener for Clumsy {
    fn committed(&self, _: &SessionId, _: &[Arc<StoredEvent>]) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) > 0, "on purpose");
    }
    fn deleted(&self, _: &SessionId) {}
    fn queued(&self, _: &EnvironmentId) {}
    fn work_ended(&self) {}
}

#[tokio::test]
async fn a_panicking_listener_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clumsy = Arc::new(Clumsy::default());
    let listener = Arc::clone(&clumsy);
    let w = World::new(&move |ids, _| Fixture {
        store: Store::open(dir.path(), ids, listener.clone()).unwrap(),
        keep: Box::new(()),
    })
    .await;
    let s = w.session().await.id;
    for seq in 1..=2 {
        let done = w
            .store
            .append(append(&s, 0, vec![w.event("x.y")]))
            .await
            .unwrap();
        assert_eq!(done.head, seq);
    }
    assert_eq!(clumsy.0.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn equal_bytes_are_one_file_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let (a, b) = (w.file("same").await, w.file("same").await);
    assert_eq!(a.blob, b.blob);
    let folder = dir.path().join("blobs").join(&a.blob[..2]);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn any_number_of_unused_blobs_is_collected_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let used = w.file("used").await;
    for n in 0..2_500 {
        let folder = dir.path().join(format!("blobs/{:02x}", n % 256));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{n:062x}")), "loose").unwrap();
    }
    w.clock.advance_millis(1_000 * 60 * 60 * 24 * 365 * 100);
    assert_eq!(w.store.gc().await.unwrap().blobs, 2_500);
    assert_eq!(w.content(&used.blob).await.as_deref(), Some("used"));
}

#[tokio::test]
async fn leftovers_of_broken_uploads_go_at_start() {
    let dir = tempfile::tempdir().unwrap();
    reopen(dir.path()).unwrap().close().await;
    let leftover = dir.path().join("blobs/tmp/abc");
    std::fs::write(&leftover, "half").unwrap();
    reopen(dir.path()).unwrap().close().await;
    assert!(!leftover.exists());
}

#[tokio::test]
async fn deleted_content_leaves_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let w = world(dir.path()).await;
    let s = w.session().await.id;
    let mark = "shibboleth-in-the-payload";
    let mut event = w.event("agent.message");
    event.payload = format!(r#"{{"text":"{mark}"}}"#);
    w.store
        .append(append(&s, 0, vec![event.clone()]))
        .await
        .unwrap();
    let holds = |dir: &std::path::Path| {
        let files = ["freehold.db", "freehold.db-wal"].map(|f| std::fs::read(dir.join(f)));
        files
            .into_iter()
            .flatten()
            .any(|b| b.windows(mark.len()).any(|w| w == mark.as_bytes()))
    };
    assert!(holds(dir.path()));
    w.store.delete_session(&w.workspace, &s).await.unwrap();
    w.store.gc().await.unwrap();
    assert!(!holds(dir.path()), "while it runs");
    let s = w.session().await.id;
    w.store.append(append(&s, 0, vec![event])).await.unwrap();
    assert!(holds(dir.path()));
    w.store.delete_session(&w.workspace, &s).await.unwrap();
    w.store.close().await;
    assert!(!holds(dir.path()), "when it has ended");
}
