//! Escape attempts by bare system call (design/60 §6), as root's sandbox and as an ordinary
//! user's, each with the answer it must get.

mod common;

use common::attacks::{agent_protected, check_hidden, check_signals, check_table};
use common::*;
use freehold_sandbox::SandboxError;
use serde_json::{Value, json};

#[tokio::test]
async fn every_attempt_gets_its_answer() {
    let bench = bench("escape");
    let sandbox = bench.sandbox("escape").await;
    check_table(&sandbox).await;
    check_hidden(&sandbox).await;
    check_signals(&sandbox, agent_protected(&bench.provider).await).await;
    sandbox.destroy().await.unwrap();
}

/// The table above would prove nothing if the attempts could not succeed: outside the sandbox,
/// under the process provider, several of them do.
#[tokio::test]
async fn without_isolation_the_attempts_succeed() {
    use freehold_sandbox::{Isolation, ProcessConfig, ProcessProvider, Provider};
    let bench = bench("unconfined");
    let provider = ProcessProvider::new(ProcessConfig {
        launcher: launcher(),
        path: "/usr/bin:/bin".to_owned(),
        probe_dir: bench.dir.path().to_owned(),
    });
    let mut spec = bench.spec("plain");
    spec.min_isolation = Isolation::None;
    let sandbox = provider.create(&spec).await.unwrap();
    let mut names = vec![
        "control pty",
        "personality",
        "ptrace traceme",
        "unshare user",
    ];
    if is_root() {
        names.extend([
            "unshare mount",
            "clone pid",
            "socket raw",
            "chroot",
            "fsopen",
        ]);
    }
    for name in names {
        let got: Value = call(&sandbox, "attempt", json!({ "name": name })).await;
        assert_eq!(got["errno"].as_i64(), Some(0), "{name}: {got}");
    }
    assert_eq!(provider.probe().await.isolation, Isolation::None);
    // What would reach beyond the agent's own processes is refused.
    let paused = sandbox.pause().await;
    assert!(
        matches!(paused, Err(SandboxError::Unsupported { .. })),
        "{paused:?}"
    );
    let kept = sandbox.snapshot(bench.dir.path()).await;
    assert!(
        matches!(kept, Err(SandboxError::Unsupported { .. })),
        "{kept:?}"
    );
    spec.min_isolation = Isolation::Namespaces;
    assert!(provider.create(&spec).await.is_err());
    sandbox.destroy().await.unwrap();
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
