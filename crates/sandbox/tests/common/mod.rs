//! Shared by the integration tests.
#![allow(dead_code, reason = "each test program uses a part")]

pub mod attacks;
pub mod net;
pub mod suite;

use std::path::Path;
use std::sync::Arc;

use freehold_sandbox::{
    Access, IdMapping, Isolation, Launcher, Limits, NamespaceConfig, NamespaceProvider,
    NetworkPolicy, Provider, Sandbox, SandboxSpec, Share, ToolReply, ToolRequest,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// The crate's own in-sandbox program.
pub const AGENT: &str = env!("CARGO_BIN_EXE_freehold-sandbox-test-agent");

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A provider with a place for state, removed at the end.
pub struct Bench {
    pub provider: NamespaceProvider,
    pub dir: TempDir,
}

pub fn launcher() -> Launcher {
    Launcher {
        program: AGENT.into(),
        args: Vec::new(),
    }
}

/// A name no other test process uses.
pub fn instance(name: &str) -> String {
    format!("test_{name}_{}", std::process::id())
}

pub fn config(name: &str, dir: &Path) -> NamespaceConfig {
    NamespaceConfig::new(launcher(), instance(name), dir.to_owned())
}

pub fn bench(name: &str) -> Bench {
    bench_with(name, |_| ())
}

pub fn bench_with(name: &str, change: impl FnOnce(&mut NamespaceConfig)) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(name, dir.path());
    change(&mut config);
    Bench {
        provider: NamespaceProvider::new(config),
        dir,
    }
}

/// The user and group that stand for anybody's.
const ORDINARY: u32 = 12345;

/// Runs every test of this program once more as an ordinary user, each in a process of its own. What
/// an ordinary user cannot have, the tests themselves hold against the report.
pub fn again_as_an_ordinary_user() {
    if !is_root() {
        // All of them run as one already.
        return;
    }
    let names = as_an_ordinary_user(&["--list", "--format", "terse"]);
    let names = names.lines().filter_map(|line| line.strip_suffix(": test"));
    let names: Vec<_> = names
        .filter(|name| !name.starts_with("again_as_"))
        .collect();
    assert!(!names.is_empty());
    for name in names {
        let said = as_an_ordinary_user(&["--exact", name]);
        assert!(said.contains("1 passed"), "{name}: {said}");
    }
}

/// Runs this test program with other arguments as an ordinary user, from one that runs as root; what it
/// printed.
pub fn as_an_ordinary_user(args: &[&str]) -> String {
    let own = std::env::current_exe().unwrap();
    let user = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")];
    let mut command = std::process::Command::new("setpriv");
    command.args(user).args(["--clear-groups", "--"]).arg(&own);
    command
        .args(args)
        .current_dir("/")
        .env("HOME", "/nonexistent");
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let complained = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        done.status.success(),
        "{args:?} as an ordinary user, who must be able to read {}: {said}\n{complained}",
        own.display()
    );
    said
}

/// Gives a directory to the user that [`ordinary_user`]'s launchers run as.
pub fn give_to_ordinary_user(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    if is_root() {
        std::os::unix::fs::chown(dir, Some(ORDINARY), Some(ORDINARY)).unwrap();
    }
}

/// A provider whose launcher runs as an ordinary user, from a test that runs as root or as that user.
pub fn ordinary_user(name: &str) -> Bench {
    ordinary_user_with(name, |_| ())
}

/// As [`ordinary_user`], with other settings.
pub fn ordinary_user_with(name: &str, change: impl FnOnce(&mut NamespaceConfig)) -> Bench {
    let bench = bench_with(name, |config| {
        change(config);
        config.ids = IdMapping::Single;
        config.control_groups = false;
        if is_root() {
            let user = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")];
            let rest = ["--clear-groups", "--", AGENT].map(String::from);
            config.launcher = Launcher {
                program: "/usr/bin/setpriv".into(),
                args: user.into_iter().chain(rest).collect(),
            };
        }
    });
    give_to_ordinary_user(bench.dir.path());
    bench
}

impl Bench {
    pub fn spec(&self, id: &str) -> SandboxSpec {
        SandboxSpec {
            id: id.to_owned(),
            dir: self.dir.path().join(id),
            limits: Limits::default(),
            network: NetworkPolicy::None.into(),
            min_isolation: Isolation::Namespaces,
            shares: vec![Share {
                folder: "uploads".to_owned(),
                at: "/mnt/session/uploads".to_owned(),
                access: Access::ReadOnly,
            }],
            layers: Vec::new(),
            env: Vec::new(),
        }
    }

    pub async fn sandbox(&self, id: &str) -> Arc<dyn Sandbox> {
        self.provider.create(&self.spec(id)).await.unwrap()
    }
}

/// As `Bench::sandbox` for [`ordinary_user`]: the state directories must belong to that user.
pub async fn ordinary_sandbox(bench: &Bench, id: &str) -> Arc<dyn Sandbox> {
    ordinary_sandbox_of(bench, bench.spec(id)).await
}

/// As [`ordinary_sandbox`], to a spec.
pub async fn ordinary_sandbox_of(bench: &Bench, spec: SandboxSpec) -> Arc<dyn Sandbox> {
    give_to_ordinary_user(&spec.dir);
    bench.provider.create(&spec).await.unwrap()
}

pub fn request(name: &str, input: Value) -> ToolRequest {
    ToolRequest {
        id: "toolu_test".to_owned(),
        name: name.to_owned(),
        input: RawValue::from_string(input.to_string()).unwrap(),
    }
}

/// The text of a reply's only block.
pub fn text(reply: &ToolReply) -> String {
    let block: Value = serde_json::from_str(reply.content[0].get()).unwrap();
    block["text"].as_str().unwrap().to_owned()
}

/// Calls a tool that answers with JSON.
pub async fn call(sandbox: &Arc<dyn Sandbox>, name: &str, input: Value) -> Value {
    let reply = sandbox
        .call(request(name, input), &CancellationToken::new())
        .await
        .unwrap();
    assert!(!reply.is_error, "{}", text(&reply));
    serde_json::from_str(&text(&reply)).unwrap()
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i64>,
    pub signal: Option<i64>,
    pub stdout: String,
    pub stderr: String,
}

pub async fn exec(sandbox: &Arc<dyn Sandbox>, argv: &[&str]) -> Outcome {
    let value = call(sandbox, "exec", json!({ "argv": argv })).await;
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    Outcome {
        code: value["code"].as_i64(),
        signal: value["signal"].as_i64(),
        stdout: text("stdout"),
        stderr: text("stderr"),
    }
}

pub async fn bash(sandbox: &Arc<dyn Sandbox>, script: &str) -> Outcome {
    exec(sandbox, &["/bin/bash", "-c", script]).await
}

/// Runs a script that must succeed; its trimmed output.
pub async fn ok(sandbox: &Arc<dyn Sandbox>, script: &str) -> String {
    let outcome = bash(sandbox, script).await;
    assert_eq!(outcome.code, Some(0), "{script}: {outcome:?}");
    outcome.stdout.trim().to_owned()
}

/// Processes that hold sandboxes or wait to: this one's children are nurseries, and theirs.
pub fn launchers() -> Vec<String> {
    children(&children(&[std::process::id().to_string()]))
}

/// Children of processes, by number.
pub fn children(parents: &[String]) -> Vec<String> {
    if parents.is_empty() {
        return Vec::new();
    }
    let out = std::process::Command::new("pgrep")
        .args(["-P", &parents.join(",")])
        .output()
        .unwrap();
    let pids = String::from_utf8(out.stdout).unwrap();
    pids.lines().map(str::to_owned).collect()
}

/// What a sandbox could leave behind on the host.
pub fn leftovers(instance: &str) -> (usize, usize, usize, Vec<String>) {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .count();
    let children = launchers().len();
    let mut groups = Vec::new();
    let mut dirs = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if dir.to_string_lossy().ends_with(instance) {
                    groups.push(entry.file_name().to_string_lossy().into_owned());
                }
                dirs.push(entry.path());
            }
        }
    }
    (fds, mounts, children, groups)
}

/// Says which check does not run here, past the test runner's capture. Where every check is to run
/// (`CI` is set) it fails.
#[allow(
    clippy::disallowed_methods,
    reason = "what a developer may go without, CI may not"
)]
pub fn not_run(what: &str) {
    use std::io::Write;
    assert!(std::env::var_os("CI").is_none(), "cannot run: {what}");
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}");
}
