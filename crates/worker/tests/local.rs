//! Sandboxes of sessions over a provider that only keeps count.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{IdSource, Secret, SessionId};
use freehold_sandbox::{
    Capabilities, FileEntry, FileProblem, FileStream, Isolation, Limits, Listing, Network,
    NetworkPolicy, Provider, Sandbox, SandboxError, SandboxSpec, Stats, ToolReply, ToolRequest,
};
use freehold_wire::content::ContentBlock;
use freehold_wire::credential::{CredentialHosts, CredentialNetworking};
use freehold_worker::{
    Call, FileSource, Options, Place, SessionSandboxes, Skill, Upload, Variable,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Counting {
    created: AtomicUsize,
    live: Arc<AtomicUsize>,
    specs: Mutex<Vec<SandboxSpec>>,
    /// What the calls of all sandboxes come to, in turn; `echo` when empty.
    outcomes: Arc<Mutex<VecDeque<Outcome>>>,
    /// What live sandboxes were told of their network: placeholders and values.
    told: Told,
}

type Told = Arc<Mutex<Vec<Vec<(String, String)>>>>;

enum Outcome {
    Lost,
    Hang,
}

struct Box1 {
    id: String,
    alive: AtomicBool,
    live: Arc<AtomicUsize>,
    outcomes: Arc<Mutex<VecDeque<Outcome>>>,
    told: Told,
}

impl Box1 {
    fn end(&self) {
        if self.alive.swap(false, SeqCst) {
            self.live.fetch_sub(1, SeqCst);
        }
    }
}

#[async_trait]
impl Provider for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    async fn probe(&self) -> Capabilities {
        Capabilities {
            provider: "counting",
            isolation: Isolation::None,
            works: true,
            features: vec![],
            unsupported: vec![],
        }
    }
    async fn create(&self, spec: &SandboxSpec) -> Result<Arc<dyn Sandbox>, SandboxError> {
        std::fs::create_dir_all(&spec.dir).unwrap();
        self.created.fetch_add(1, SeqCst);
        self.live.fetch_add(1, SeqCst);
        self.specs.lock().unwrap().push(spec.clone());
        Ok(Arc::new(Box1 {
            id: spec.id.clone(),
            alive: AtomicBool::new(true),
            live: self.live.clone(),
            outcomes: self.outcomes.clone(),
            told: self.told.clone(),
        }))
    }
    async fn reap(&self, _: &HashSet<String>) -> Result<usize, SandboxError> {
        Ok(0)
    }
}

#[async_trait]
impl Sandbox for Box1 {
    fn id(&self) -> &str {
        &self.id
    }
    async fn call(
        &self,
        request: ToolRequest,
        cancel: &CancellationToken,
    ) -> Result<ToolReply, SandboxError> {
        let outcome = self.outcomes.lock().unwrap().pop_front();
        match outcome {
            Some(Outcome::Lost) => {
                self.end();
                Err(SandboxError::Lost {
                    reason: "test".into(),
                })
            }
            Some(Outcome::Hang) => {
                cancel.cancelled().await;
                self.end();
                Err(SandboxError::Cancelled)
            }
            None => {
                let block = json!({"type": "text", "text": request.name}).to_string();
                let content = vec![RawValue::from_string(block).unwrap()];
                Ok(ToolReply {
                    content,
                    is_error: false,
                })
            }
        }
    }
    async fn list_files(&self, dir: &str) -> Result<Listing, SandboxError> {
        assert_eq!(dir, "/mnt/session/outputs");
        let file = FileEntry {
            path: "a".into(),
            size: 1,
            mtime_micros: 2,
        };
        Ok(Listing {
            files: vec![file],
            truncated: false,
        })
    }
    async fn read_file(&self, _: &str, _: u64) -> Result<FileStream, SandboxError> {
        Err(SandboxError::File {
            problem: FileProblem::NotFound,
        })
    }
    async fn write_file(&self, _: &str, _: bytes::Bytes) -> Result<(), SandboxError> {
        Ok(())
    }
    async fn set_network(&self, network: Network) -> Result<(), SandboxError> {
        self.told.lock().unwrap().push(pairs(&network));
        Ok(())
    }
    async fn destroy(&self) -> Result<(), SandboxError> {
        self.end();
        Ok(())
    }
    fn alive(&self) -> bool {
        self.alive.load(SeqCst)
    }
    async fn stats(&self) -> Result<Stats, SandboxError> {
        Ok(Stats::default())
    }
}

/// Content is the key itself; but `skill` is the archive of one, and fails at first.
#[derive(Default)]
struct Content {
    skills_opened: AtomicUsize,
}
#[async_trait]
impl FileSource for Content {
    async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        if key != "skill" {
            return Ok(Box::new(io::Cursor::new(key.as_bytes().to_vec())));
        }
        if self.skills_opened.fetch_add(1, SeqCst) == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = freehold_archive::File {
            path: freehold_archive::MemberPath::new(b"SKILL.md").unwrap(),
            executable: false,
            bytes: b"steps".to_vec(),
        };
        let archive = freehold_archive::pack("steps", vec![file]).unwrap();
        Ok(Box::new(io::Cursor::new(archive)))
    }
}

struct Setup {
    provider: Arc<Counting>,
    content: Arc<Content>,
    boxes: SessionSandboxes,
    config: Value,
    root: tempfile::TempDir,
}

impl Setup {
    fn new(max_live: usize) -> Self {
        let root = tempfile::tempdir().unwrap();
        let provider = Arc::new(Counting::default());
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
        let content = Arc::new(Content::default());
        let boxes = SessionSandboxes::new(provider.clone(), content.clone(), options);
        let config = json!({"type": "cloud", "networking": {"type": "unrestricted"}});
        Self {
            provider,
            content,
            boxes,
            config,
            root,
        }
    }
    fn place<'a>(&'a self, session: &'a SessionId) -> Place<'a> {
        Place {
            session,
            config: &self.config,
            uploads: &[],
            skills: &[],
            memory: None,
            variables: &[],
        }
    }
    async fn call(&self, session: &SessionId, tool: &str, repeatable: bool) -> (String, bool) {
        let reply = self
            .boxes
            .call(
                self.place(session),
                call(tool, repeatable),
                &CancellationToken::new(),
            )
            .await;
        match reply.content.as_slice() {
            [ContentBlock::Text(t)] => (t.text.clone(), reply.is_error),
            other => panic!("{other:?}"),
        }
    }
    fn counts(&self) -> (usize, usize) {
        (
            self.provider.created.load(SeqCst),
            self.provider.live.load(SeqCst),
        )
    }
    fn next(&self, outcome: Outcome) {
        self.provider.outcomes.lock().unwrap().push_back(outcome);
    }
}

fn call(tool: &str, repeatable: bool) -> Call {
    let input = RawValue::from_string("{}".to_owned()).unwrap();
    Call {
        request: ToolRequest {
            id: "sevt_1".into(),
            name: tool.into(),
            input,
        },
        repeatable,
    }
}

fn session() -> SessionId {
    IdSource::system().next()
}

#[tokio::test]
async fn one_sandbox_per_session_made_when_first_needed() {
    let setup = Setup::new(8);
    let (a, b) = (session(), session());
    assert_eq!(setup.call(&a, "bash", false).await, ("bash".into(), false));
    setup.boxes.prepare(setup.place(&a)).await.unwrap();
    setup.call(&a, "read", true).await;
    assert_eq!(setup.counts(), (1, 1));
    setup.call(&b, "bash", false).await;
    assert_eq!(setup.counts(), (2, 2));
    let specs = setup.provider.specs.lock().unwrap();
    assert_eq!(specs[0].dir, setup.root.path().join(a.as_str()));
    assert_eq!(specs[0].network.policy, NetworkPolicy::Public);
    assert_ne!(specs[0].id, specs[1].id);
}

#[tokio::test]
async fn a_lost_call_is_repeated_only_if_that_changes_nothing() {
    let setup = Setup::new(8);
    let a = session();
    setup.next(Outcome::Lost);
    assert_eq!(setup.call(&a, "read", true).await, ("read".into(), false));
    assert_eq!(setup.counts(), (2, 1));
    setup.next(Outcome::Lost);
    let (text, failed) = setup.call(&a, "bash", false).await;
    assert!(failed && text.contains("unknown"), "{text}");
    assert_eq!(setup.call(&a, "bash", false).await, ("bash".into(), false));
    assert_eq!(setup.counts(), (3, 1));
    setup.next(Outcome::Lost);
    setup.next(Outcome::Lost);
    assert!(setup.call(&a, "read", true).await.1);
}

#[tokio::test]
async fn a_cancelled_call_says_so_and_the_next_gets_a_new_sandbox() {
    let setup = Setup::new(8);
    let a = session();
    setup.boxes.prepare(setup.place(&a)).await.unwrap();
    setup.next(Outcome::Hang);
    let cancel = CancellationToken::new();
    let (place, call) = (setup.place(&a), call("bash", false));
    let running = setup.boxes.call(place, call.clone(), &cancel);
    let (reply, ()) = tokio::join!(running, async { cancel.cancel() });
    assert!(reply.is_error);
    assert_eq!(
        reply.content,
        [ContentBlock::text(
            "Tool execution was interrupted before completion. Please retry."
        )]
    );
    // A call that was cancelled before it began makes no sandbox.
    let created = setup.counts().0;
    assert!(
        setup
            .boxes
            .call(setup.place(&session()), call, &cancel)
            .await
            .is_error
    );
    assert_eq!(setup.counts().0, created);
    assert_eq!(setup.call(&a, "bash", false).await.0, "bash");
}

#[tokio::test]
async fn a_removed_session_leaves_nothing_and_does_not_come_back() {
    let setup = Setup::new(8);
    let a = session();
    setup.call(&a, "bash", false).await;
    setup.boxes.remove(&a).await;
    assert_eq!(setup.counts(), (1, 0));
    assert!(!setup.root.path().join(a.as_str()).exists());
    assert!(setup.boxes.prepare(setup.place(&a)).await.is_err());
    let (text, failed) = setup.call(&a, "bash", false).await;
    assert!(failed && text.contains("deleted"), "{text}");
    assert_eq!(setup.counts(), (1, 0));
    // One that never had a sandbox.
    setup.boxes.remove(&session()).await;
}

#[tokio::test]
async fn listing_outputs_makes_no_sandbox() {
    let setup = Setup::new(8);
    let a = session();
    assert!(
        setup
            .boxes
            .outputs(setup.place(&a))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(setup.counts(), (0, 0));
    setup.call(&a, "bash", false).await;
    assert_eq!(
        setup.boxes.outputs(setup.place(&a)).await.unwrap()[0].path,
        "a"
    );
    // Closed, and nothing ran since: it is not started for this.
    assert_eq!(setup.boxes.close_idle().await, 1);
    setup.boxes.prepare(setup.place(&session())).await.unwrap();
    assert_eq!(setup.counts(), (2, 1));
}

#[tokio::test]
async fn the_longest_unused_makes_room() {
    let setup = Setup::new(2);
    let (a, b, c) = (session(), session(), session());
    setup.call(&a, "bash", false).await;
    setup.call(&b, "bash", false).await;
    setup.call(&a, "bash", false).await;
    setup.call(&c, "bash", false).await;
    assert_eq!((setup.counts(), setup.boxes.live_count()), ((3, 2), 2));
    // `a` was used after `b`, so it is `b` that has to be made again.
    setup.call(&a, "bash", false).await;
    assert_eq!(setup.counts(), (3, 2));
    setup.call(&b, "bash", false).await;
    assert_eq!(setup.counts(), (4, 2));
}

#[tokio::test]
async fn idle_sandboxes_are_closed_and_their_files_stay() {
    let setup = Setup::new(8);
    let a = session();
    setup.call(&a, "bash", false).await;
    assert_eq!(setup.boxes.close_idle().await, 1);
    assert_eq!(setup.counts(), (1, 0));
    assert!(setup.root.path().join(a.as_str()).exists());
    setup.call(&a, "bash", false).await;
    assert_eq!(setup.counts(), (2, 1));
    setup.boxes.close_all().await;
    assert_eq!(setup.counts(), (2, 0));
}

#[tokio::test]
async fn attached_files_are_in_place_before_the_call_and_follow_the_list() {
    let setup = Setup::new(8);
    let a = session();
    let files = [Upload {
        mount_path: "/mnt/session/uploads/d/x".into(),
        key: "content".into(),
    }];
    let place = Place {
        uploads: &files,
        ..setup.place(&a)
    };
    setup
        .boxes
        .call(place, call("bash", false), &CancellationToken::new())
        .await;
    let path = setup.provider.specs.lock().unwrap()[0]
        .dir
        .join("uploads")
        .join("d/x");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "content");
    setup.call(&a, "bash", false).await;
    assert!(!path.exists());
    let bad = [Upload {
        mount_path: "/etc/passwd".into(),
        key: "content".into(),
    }];
    let place = Place {
        uploads: &bad,
        ..setup.place(&a)
    };
    let reply = setup
        .boxes
        .call(place, call("bash", false), &CancellationToken::new())
        .await;
    assert!(reply.is_error);
}

#[tokio::test]
async fn what_earlier_processes_left_is_found() {
    let setup = Setup::new(8);
    let (a, root) = (session(), setup.root.path());
    // No process has the first id; the other is our own, whose probe may still run.
    let (dead, alive) = (
        format!("probe-{}", u32::MAX),
        format!("probe-{}", std::process::id()),
    );
    for name in [
        a.as_str(),
        ".trash-1-0-sesn_1",
        "unrelated",
        "probe-x",
        &dead,
        &alive,
    ] {
        std::fs::create_dir(root.join(name)).unwrap();
    }
    setup.boxes.clear_left_behind().await;
    assert_eq!(setup.boxes.kept().await.unwrap(), std::slice::from_ref(&a));
    assert!(root.join(a.as_str()).exists() && root.join("unrelated").exists());
    assert!(root.join("probe-x").exists() && root.join(alive).exists());
    // On a thread of its own.
    while Path::exists(&root.join(".trash-1-0-sesn_1")) {
        tokio::task::yield_now().await;
    }
    assert!(!root.join(dead).exists());
}

#[tokio::test]
async fn skills_are_shown_and_those_that_fail_are_tried_again() {
    let setup = Setup::new(8);
    let a = session();
    let skills = [Skill {
        name: "steps".into(),
        key: "skill".into(),
    }];
    let place = Place {
        skills: &skills,
        ..setup.place(&a)
    };
    let run = async || {
        let cancel = CancellationToken::new();
        setup.boxes.call(place, call("bash", false), &cancel).await
    };
    assert!(!run().await.is_error, "the agent does without");
    let spec = setup.provider.specs.lock().unwrap()[0].clone();
    let shown = spec.shares.iter().find(|s| s.at == "/skills").unwrap();
    assert_eq!(shown.access, freehold_sandbox::Access::ReadOnly);
    let folder = spec.dir.join(&shown.folder);
    assert!(folder.is_dir() && !folder.join("steps").exists());
    let says = || std::fs::read_to_string(folder.join("steps/SKILL.md")).unwrap();
    run().await;
    assert_eq!(says(), "steps");
    run().await;
    assert_eq!(
        setup.content.skills_opened.load(SeqCst),
        2,
        "laid down once"
    );
    let without = session();
    setup.call(&without, "bash", false).await;
    let specs = setup.provider.specs.lock().unwrap();
    assert!(specs[1].shares.iter().all(|s| s.at != "/skills"));
}

/// What is put in for what.
fn pairs(network: &Network) -> Vec<(String, String)> {
    let each = network.injections.iter();
    each.map(|i| (i.placeholder.clone(), i.value.expose().clone()))
        .collect()
}

fn variable(name: &str, value: &str) -> Variable {
    Variable {
        name: name.into(),
        placeholder: format!("placeholder{name}"),
        value: Secret::new(value.into()),
        hosts: CredentialNetworking::Limited(CredentialHosts {
            allowed_hosts: vec!["api.acme.test".into(), "*.example.com".into()],
        }),
        header: true,
        body: false,
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn a_sandbox_holds_placeholders_and_its_network_the_values() {
    let setup = Setup::new(8);
    let a = session();
    let variables = [
        variable("KEY", "secret"),
        Variable {
            hosts: CredentialNetworking::Unrestricted,
            ..variable("ANY", "other")
        },
    ];
    let place = Place {
        variables: &variables,
        ..setup.place(&a)
    };
    setup.boxes.prepare(place).await.unwrap();
    let specs = setup.provider.specs.lock().unwrap();
    let spec = &specs[0];
    assert_eq!(
        spec.env,
        [pair("KEY", "placeholderKEY"), pair("ANY", "placeholderANY")]
    );
    assert_eq!(
        pairs(&spec.network),
        [
            pair("placeholderKEY", "secret"),
            pair("placeholderANY", "other")
        ]
    );
    let [limited, any] = &spec.network.injections[..] else {
        panic!("two injections")
    };
    assert!(limited.header && !limited.body);
    assert!(limited.hosts.allows("api.acme.test", 443) && limited.hosts.allows("a.example.com", 1));
    assert!(!limited.hosts.allows("example.com", 443) && any.hosts.allows("example.com", 443));
    assert!(!format!("{spec:?}").contains("secret"));
}

#[tokio::test]
async fn changed_variables_reach_a_live_sandbox() {
    let setup = Setup::new(8);
    let a = session();
    let call = async |variables: &[Variable]| {
        let place = Place {
            variables,
            ..setup.place(&a)
        };
        let cancel = CancellationToken::new();
        let reply = setup.boxes.call(place, call("bash", false), &cancel).await;
        assert!(!reply.is_error, "{reply:?}");
    };
    let told = || std::mem::take(&mut *setup.provider.told.lock().unwrap());
    call(&[variable("KEY", "one")]).await;
    call(&[variable("KEY", "one")]).await;
    assert_eq!(told(), Vec::<Vec<_>>::new());
    call(&[variable("KEY", "two")]).await;
    assert_eq!(told(), [[pair("placeholderKEY", "two")]]);
    call(&[]).await;
    assert_eq!(told(), [[]]);
    call(&[variable("KEY", "three")]).await;
    assert_eq!(told(), [[pair("placeholderKEY", "three")]]);
    assert_eq!(setup.counts(), (1, 1), "it went on all the time");
    // A new name takes a new environment; files stay.
    call(&[variable("KEY", "three"), variable("MORE", "x")]).await;
    assert_eq!(setup.counts(), (2, 1));
    assert_eq!(told(), Vec::<Vec<_>>::new());
    let specs = setup.provider.specs.lock().unwrap();
    assert_eq!(specs[1].env.len(), 2);
    assert_eq!(specs[0].dir, specs[1].dir);
}

#[tokio::test]
async fn new_variables_cut_no_call_off() {
    let setup = Setup::new(8);
    let a = session();
    let (cancel, known) = (CancellationToken::new(), [variable("KEY", "one")]);
    let place = Place {
        variables: &known,
        ..setup.place(&a)
    };
    setup.boxes.prepare(place).await.unwrap();
    setup.next(Outcome::Hang);
    let running = setup.boxes.call(place, call("bash", false), &cancel);
    let more = [variable("KEY", "two"), variable("MORE", "x")];
    let beside = async {
        let place = Place {
            variables: &more,
            ..setup.place(&a)
        };
        let free = CancellationToken::new();
        let reply = setup.boxes.call(place, call("read", true), &free).await;
        assert!(!reply.is_error, "{reply:?}");
        let created = setup.counts().0;
        cancel.cancel();
        created
    };
    let (_, created) = tokio::join!(running, beside);
    assert_eq!(created, 1, "the sandbox of the running call was kept");
    // What it does not hold is not put in either.
    let told = setup.provider.told.lock().unwrap().clone();
    assert_eq!(told, [[pair("placeholderKEY", "two")]]);
}
