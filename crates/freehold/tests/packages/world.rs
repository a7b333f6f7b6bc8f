//! The sandboxes of a server whose way out leads to the tests' index.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{IdSource, SessionId};
use freehold_sandbox::egress::{AddressPolicy, Resolver};
use freehold_sandbox::{
    Isolation, Launcher, Limits, NamespaceConfig, NamespaceProvider, ToolRequest,
};
use freehold_wire::content::ContentBlock;
use freehold_worker::{Call, FileSource, Options, Place, SessionSandboxes};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncRead;
use tokio_util::sync::CancellationToken;

use crate::index::{HOST, Index};

const PROGRAM: &str = env!("CARGO_BIN_EXE_freehold");

/// Knows the index and nobody else.
struct Names;

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, host: &str, _port: u16) -> io::Result<Vec<IpAddr>> {
        match host {
            HOST => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
            _ => Err(io::Error::other("no such name")),
        }
    }
}

struct Only(u16);

impl AddressPolicy for Only {
    fn allows(&self, address: SocketAddr) -> bool {
        address == SocketAddr::from((Ipv4Addr::LOCALHOST, self.0))
    }
}

/// No files are attached.
struct Nothing;

#[async_trait]
impl FileSource for Nothing {
    async fn open(&self, _: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

pub struct World {
    pub index: Index,
    pub dir: TempDir,
    pub boxes: SessionSandboxes,
}

impl World {
    pub async fn new() -> Self {
        let (index, dir) = (Index::start().await, tempfile::tempdir().unwrap());
        let boxes = boxes(&index, dir.path());
        Self { index, dir, boxes }
    }

    /// As a server that starts on the same directory.
    pub async fn restart(&mut self) {
        self.boxes.close_all().await;
        self.boxes = boxes(&self.index, self.dir.path());
        self.boxes.clear_left_behind().await;
    }

    /// Runs a command in a session's sandbox: what it said, and whether the call failed.
    pub async fn bash(&self, session: &SessionId, config: &Value, command: &str) -> (String, bool) {
        let place = Place {
            session,
            config,
            uploads: &[],
            skills: &[],
            memory: None,
            variables: &[],
        };
        let input = json!({"command": command}).to_string();
        let call = Call {
            request: ToolRequest {
                id: "sevt_test".to_owned(),
                name: "bash".to_owned(),
                input: RawValue::from_string(input).unwrap(),
            },
            repeatable: false,
        };
        let cancel = CancellationToken::new();
        let reply = self.boxes.call(place, call, &cancel).await;
        match &reply.content[0] {
            ContentBlock::Text(text) => (text.text.trim().to_owned(), reply.is_error),
            other => panic!("{other:?}"),
        }
    }

    /// Runs what must succeed.
    pub async fn ok(&self, session: &SessionId, config: &Value, command: &str) -> String {
        let (text, failed) = self.bash(session, config, command).await;
        assert!(!failed, "{command}: {text}");
        text
    }

    /// The names of what lies where layers are kept.
    pub fn layers(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join(".layers"));
        let names = entries.into_iter().flatten().flatten();
        names
            .map(|e| e.file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(".trash-"))
            .collect()
    }
}

fn boxes(index: &Index, root: &Path) -> SessionSandboxes {
    let launcher = Launcher {
        program: PROGRAM.into(),
        args: vec!["sandbox-agent".to_owned()],
    };
    // The one before it clears its control groups when it goes, which may be after this one came.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let instance = format!("packages_{}_{n}", std::process::id());
    let mut config = NamespaceConfig::new(launcher, instance, root.to_owned());
    config.egress.resolver = Arc::new(Names);
    config.egress.addresses = Arc::new(Only(index.port));
    let options = Options {
        root: root.to_owned(),
        limits: Limits::default(),
        min_isolation: Isolation::Namespaces,
        max_live: 8,
        idle: Duration::from_secs(600),
        min_free: 0,
        package_hosts: vec![format!("{HOST}:{}", index.port).parse().unwrap()],
        package_env: index.variables(),
        skills_at: freehold_worker::skills::IN_CLOUD,
    };
    let provider = Arc::new(NamespaceProvider::new(config));
    SessionSandboxes::new(provider, Arc::new(Nothing), options)
}

pub fn session() -> SessionId {
    IdSource::system().next()
}

/// The configuration of an environment that may reach package hosts only.
pub fn environment(packages: Value) -> Value {
    let networking = json!({"type": "limited", "allowed_hosts": [],
        "allow_mcp_servers": false, "allow_package_managers": true});
    json!({"type": "cloud", "networking": networking, "packages": packages})
}
