//! When files of sandboxes are saved, over a provider and a keeper that only note what is asked.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{IdSource, SessionId, SharedClock, SystemClock};
use freehold_sandbox::{
    Capabilities, FileStream, Isolation, Limits, Listing, Provider, Sandbox, SandboxError,
    SandboxSpec, Snapshot, Stats, ToolReply, ToolRequest,
};
use freehold_worker::{
    Call, Entered, FileSource, Keeper, Options, Place, Save, Saved, SessionSandboxes,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Makes sandboxes whose snapshots are empty, and take forever if they are told to.
#[derive(Default)]
struct Fake {
    hangs: Arc<AtomicBool>,
}

struct Inside {
    alive: AtomicBool,
    hangs: Arc<AtomicBool>,
}

fn file_error() -> SandboxError {
    freehold_sandbox::FileProblem::NotFound.into()
}

#[async_trait]
impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }
    async fn probe(&self) -> Capabilities {
        unreachable!("nobody asks")
    }
    async fn create(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        std::fs::create_dir_all(&spec.dir).unwrap();
        Ok(Arc::new(Inside {
            alive: AtomicBool::new(true),
            hangs: Arc::clone(&self.hangs),
        }))
    }
    async fn reap(&self, _: &HashSet<String>) -> Result<usize, SandboxError> {
        Ok(0)
    }
}

#[async_trait]
impl Sandbox for Inside {
    fn id(&self) -> &str {
        "fake"
    }
    async fn call(&self, _: ToolRequest, _: &CancellationToken) -> Result<ToolReply, SandboxError> {
        Ok(ToolReply {
            content: Vec::new(),
            is_error: false,
        })
    }
    async fn list_files(&self, _: &str) -> Result<Listing, SandboxError> {
        Ok(Listing::default())
    }
    async fn read_file(&self, _: &str, _: u64) -> Result<FileStream, SandboxError> {
        Err(file_error())
    }
    async fn write_file(&self, _: &str, _: bytes::Bytes) -> Result<(), SandboxError> {
        Ok(())
    }
    async fn snapshot(&self, store: &Path) -> Result<Snapshot, SandboxError> {
        if self.hangs.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(Snapshot {
            digest: String::new(),
            path: store.join("empty"),
            bytes: 0,
            skipped: 0,
        })
    }
    async fn destroy(&self) -> Result<(), SandboxError> {
        self.alive.store(false, SeqCst);
        Ok(())
    }
    fn alive(&self) -> bool {
        self.alive.load(SeqCst)
    }
    async fn stats(&self) -> Result<Stats, SandboxError> {
        Ok(Stats::default())
    }
}

/// For each session, changes and how many of them are saved.
struct Notes {
    sessions: Mutex<HashMap<SessionId, (i64, i64)>>,
    fails: AtomicBool,
    clock: SharedClock,
}

#[async_trait]
impl Keeper for Notes {
    async fn enter(
        &self,
        session: &SessionId,
        known: Option<i64>,
        changing: bool,
    ) -> io::Result<Entered> {
        let mut sessions = self.sessions.lock().unwrap();
        let (changes, saved) = sessions.entry(session.clone()).or_default();
        if known.is_some() {
            *changes += i64::from(changing);
        }
        Ok(Entered {
            generation: 1,
            changes: *changes,
            unsaved: saved < changes,
            saved: None::<Saved>,
            first: known.is_none(),
        })
    }
    async fn save(&self, session: &SessionId, save: Save<'_>) -> io::Result<bool> {
        if self.fails.swap(false, SeqCst) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut sessions = self.sessions.lock().unwrap();
        sessions.get_mut(session).unwrap().1 = save.changes;
        Ok(true)
    }
    async fn open(&self, _: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn clock(&self) -> &SharedClock {
        &self.clock
    }
}

struct Nothing;

#[async_trait]
impl FileSource for Nothing {
    async fn open(&self, _: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

struct Setup {
    boxes: SessionSandboxes,
    provider: Arc<Fake>,
    notes: Arc<Notes>,
    config: Value,
    _root: tempfile::TempDir,
}

impl Setup {
    fn new(max_live: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (provider, notes) = (
            Arc::new(Fake::default()),
            Arc::new(Notes {
                sessions: Mutex::default(),
                fails: AtomicBool::new(false),
                clock: Arc::new(SystemClock),
            }),
        );
        let options = Options {
            root: root.path().to_owned(),
            limits: Limits::default(),
            min_isolation: Isolation::None,
            max_live,
            idle: Duration::ZERO,
            min_free: 0,
            package_hosts: Vec::new(),
            package_env: Vec::new(),
            skills_at: freehold_worker::skills::IN_CLOUD,
        };
        let boxes = SessionSandboxes::new(provider.clone(), Arc::new(Nothing), options);
        Self {
            boxes: boxes.following(notes.clone()),
            provider,
            notes,
            config: json!({"type": "cloud"}),
            _root: root,
        }
    }

    /// A new session in which one call ran.
    async fn used(&self) -> SessionId {
        let session: SessionId = IdSource::system().next();
        self.call(&session).await;
        session
    }

    async fn call(&self, session: &SessionId) {
        let place = Place {
            session,
            config: &self.config,
            uploads: &[],
            skills: &[],
            memory: None,
            variables: &[],
        };
        let call = Call {
            request: ToolRequest {
                id: "sevt_1".into(),
                name: "bash".into(),
                input: RawValue::from_string("{}".to_owned()).unwrap(),
            },
            repeatable: false,
        };
        let reply = self
            .boxes
            .call(place, call, &CancellationToken::new())
            .await;
        assert!(!reply.is_error, "{reply:?}");
    }

    fn is_saved(&self, session: &SessionId) -> bool {
        let (changes, saved) = self.notes.sessions.lock().unwrap()[session];
        changes == saved
    }

    async fn save_all(&self) {
        let until = Instant::now() + Duration::from_secs(5);
        self.boxes.save_all(until).await;
    }
}

#[tokio::test]
async fn what_is_closed_because_nobody_uses_it_is_saved_before() {
    let setup = Setup::new(1);
    let first = setup.used().await;
    assert!(!setup.is_saved(&first));
    let second = setup.used().await;
    assert!(setup.is_saved(&first), "it made room");
    assert_eq!(setup.boxes.close_idle().await, 1);
    assert!(setup.is_saved(&second));
    assert_eq!(setup.boxes.live_count(), 0);
}

#[tokio::test]
async fn a_rest_saves_and_what_failed_is_tried_again_at_the_end() {
    let setup = Setup::new(4);
    let session = setup.used().await;
    setup.boxes.rested(&session);
    tokio::select! {
        () = setup.boxes.keep_saved() => unreachable!("it goes on"),
        () = async { while !setup.is_saved(&session) { tokio::task::yield_now().await } } => {}
    }
    setup.call(&session).await;
    assert!(!setup.is_saved(&session));
    setup.notes.fails.store(true, SeqCst);
    setup.save_all().await;
    assert!(!setup.is_saved(&session));
    setup.save_all().await;
    assert!(setup.is_saved(&session));
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_what_takes_too_long() {
    let setup = Setup::new(4);
    let session = setup.used().await;
    setup.provider.hangs.store(true, SeqCst);
    setup.save_all().await;
    assert!(!setup.is_saved(&session));
}
