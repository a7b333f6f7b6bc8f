//! Creation, re-creation, the end, and an agent gone bad.

mod common;

use std::collections::HashSet;

use common::*;
use freehold_sandbox::{Launcher, Provider, SandboxError};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn files_survive_and_nothing_else_does() {
    let bench = bench("persist");
    let spec = bench.spec("persist");
    let one = bench.provider.create(&spec).await.unwrap();
    ok(&one, "echo kept > /workspace/f; echo kept > /mnt/session/outputs/f; echo kept > ~/f; echo gone > /tmp/f; sleep 1000 </dev/null >/dev/null 2>&1 &").await;
    assert!(matches!(
        bench.provider.create(&spec).await,
        Err(SandboxError::AlreadyOpen)
    ));
    one.destroy().await.unwrap();
    one.destroy().await.unwrap();
    let lost = one
        .call(request("echo", json!(1)), &CancellationToken::new())
        .await;
    assert!(matches!(lost, Err(SandboxError::Lost { .. })), "{lost:?}");
    assert!(one.stats().await.is_err());
    let two = bench.provider.create(&spec).await.unwrap();
    assert_eq!(ok(&two, "cat /workspace/f /mnt/session/outputs/f ~/f; cat /tmp/f 2>/dev/null; cat /proc/[0-9]*/comm | grep -c sleep || true").await, "kept\nkept\nkept\n0");
    two.destroy().await.unwrap();
    bench.provider.remove_state(&spec.dir).unwrap();
    assert!(!spec.dir.exists());
    let three = bench.provider.create(&spec).await.unwrap();
    assert_eq!(ok(&three, "ls -A /workspace").await, "");
    three.destroy().await.unwrap();
}

#[tokio::test]
async fn dropping_the_handle_ends_it_and_another_server_waits_for_that() {
    let (first, second) = (bench("first"), bench("second"));
    let spec = first.spec("shared");
    let one = first.provider.create(&spec).await.unwrap();
    // Another server over the same directory: waits for the first to let go.
    let waiting = second.provider.create(&spec);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "two sandboxes over one directory");
    drop(one);
    let two = waiting.await.unwrap();
    ok(&two, "true").await;
    two.destroy().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_takes_its_sandboxes_along() {
    // A launcher killed, as when the whole process group is.
    let marker = format!("orphan-{}", std::process::id());
    let bench = bench_with("dies", |c| c.launcher.args = vec![marker.clone()]);
    let sandbox = bench.sandbox("dies").await;
    ok(
        &sandbox,
        &format!("(exec -a {marker} sleep 1000 </dev/null >/dev/null 2>&1 &)"),
    )
    .await;
    let find = |pattern: &str| {
        let out = std::process::Command::new("pgrep")
            .args(["-f", pattern])
            .output()
            .unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .lines()
            .map(|l| l.parse::<i32>().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(find(&format!("^{marker}")).len(), 1);
    let launchers = launchers();
    assert_eq!(launchers.len(), 1);
    kill(&launchers[0]);
    let lost = sandbox
        .call(
            request("exec", json!({"argv": ["sleep", "100"]})),
            &CancellationToken::new(),
        )
        .await;
    assert!(matches!(lost, Err(SandboxError::Lost { .. })), "{lost:?}");
    sandbox.destroy().await.unwrap();
    let left = || !find(&format!("^{marker}")).is_empty();
    if is_root() {
        assert!(!left());
    }
    // Without control groups nothing tells when the last of them has gone: the kernel sees to it.
    while left() {}
}

fn kill(pid: &str) {
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_nursery_that_dies_takes_nothing_along() {
    let bench = bench("nursery");
    let one = bench.sandbox("one").await;
    let nurseries = children(&[std::process::id().to_string()]);
    assert_eq!(nurseries.len(), 1);
    kill(&nurseries[0]);
    let two = bench.sandbox("two").await;
    let three = bench.sandbox("three").await;
    for sandbox in [one, two, three] {
        ok(&sandbox, "true").await;
        sandbox.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn a_signal_to_the_servers_group_passes_sandboxes_by() {
    // As Ctrl-C at a terminal, which must leave running calls their time.
    let marker = format!("group-{}", std::process::id());
    let bench = bench_with("group", |c| c.launcher.args = vec![marker.clone()]);
    let sandbox = bench.sandbox("group").await;
    let out = std::process::Command::new("pgrep")
        .args(["-f", &format!("test-agent {marker}")])
        .output()
        .unwrap();
    let pids = String::from_utf8(out.stdout).unwrap();
    let ours = rustix::process::getpgrp();
    assert!(pids.lines().count() >= 3, "{pids}");
    for pid in pids.lines() {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap());
        assert_ne!(rustix::process::getpgid(pid).unwrap(), ours);
    }
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_server_killed_outright_leaves_files_only() {
    use std::io::Read;
    let bench = bench("killed");
    let marker = format!("killed-{}", std::process::id());
    let mut spec = bench.spec("killed");
    spec.dir = bench.dir.path().join("state");
    let mut server = std::process::Command::new(AGENT)
        .args([
            "host",
            spec.dir.to_str().unwrap(),
            &instance("killed"),
            &marker,
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 5];
    server
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    let count = || {
        let out = std::process::Command::new("pgrep")
            .args(["-c", "-f", &format!("^{marker}")])
            .output()
            .unwrap();
        String::from_utf8(out.stdout)
            .unwrap()
            .trim()
            .parse::<u32>()
            .unwrap()
    };
    while count() < 2 {}
    server.kill().unwrap();
    server.wait().unwrap();
    // Creating it again waits for the directory's lock, which the old launcher holds to its end.
    let again = bench.provider.create(&spec).await.unwrap();
    assert_eq!(count(), 0, "processes outlived their server");
    assert_eq!(ok(&again, "cat kept").await, "kept");
    again.destroy().await.unwrap();
    bench.provider.reap(&HashSet::new()).await.unwrap();
    assert!(leftovers(&instance("killed")).3.is_empty());
}

#[tokio::test]
async fn a_broken_agent_is_cut_off() {
    let bench = bench("hostile");
    let tricks = [
        "garbage",
        "huge header",
        "huge body",
        "unasked",
        "not json",
        "wrong answer",
        "exit",
    ];
    for (n, kind) in tricks.into_iter().enumerate() {
        let sandbox = bench.sandbox(&format!("hostile_{n}")).await;
        let never = CancellationToken::new();
        let sleep = request("exec", json!({"argv": ["sleep", "1000"]}));
        let bystander = sandbox.call(sleep, &never);
        let bystander = async { bystander.await.map(|_| ()) };
        // The bystander's ask has id 1, the trick's 2.
        let trick = async {
            ok_to_start(&sandbox).await;
            sandbox
                .call(
                    request("hostile", json!({"kind": kind, "id": 1})),
                    &CancellationToken::new(),
                )
                .await
                .map(|_| ())
        };
        let (a, b) = tokio::join!(bystander, trick);
        assert!(matches!(a, Err(SandboxError::Lost { .. })), "{kind}: {a:?}");
        assert!(matches!(b, Err(SandboxError::Lost { .. })), "{kind}: {b:?}");
        assert!(!sandbox.alive(), "{kind}");
        sandbox.destroy().await.unwrap();
    }
}

/// Waits until the bystander's command runs.
async fn ok_to_start(sandbox: &std::sync::Arc<dyn freehold_sandbox::Sandbox>) {
    while bash(sandbox, "cat /proc/[0-9]*/comm | grep -qx sleep")
        .await
        .code
        != Some(0)
    {}
}

#[tokio::test]
async fn a_frozen_agent_is_cut_off_when_the_call_is_cancelled() {
    let bench = bench("frozen");
    let sandbox = bench.sandbox("frozen").await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    // The runtime drops a cancelled call after 5 s; a sandbox still frozen then would be met again
    // by the next call.
    let call = sandbox.call(request("hostile", json!({"kind": "stop"})), &cancel);
    let stuck = tokio::time::timeout(std::time::Duration::from_secs(5), call)
        .await
        .expect("cut off before the runtime gives up");
    assert!(matches!(stuck, Err(SandboxError::Cancelled)), "{stuck:?}");
    assert!(!sandbox.alive());
    sandbox.destroy().await.unwrap();
    assert!(!sandbox.alive());
}

#[tokio::test]
async fn tools_that_misbehave_are_errors_not_ends() {
    let bench = bench("misbehave");
    let sandbox = bench.sandbox("misbehave").await;
    let call = async |name: &str, input| {
        sandbox
            .call(request(name, input), &CancellationToken::new())
            .await
    };
    let panicked = call("panic", json!({})).await.unwrap();
    assert!(panicked.is_error && text(&panicked).contains("failed unexpectedly"));
    let many = call("blocks", json!({"count": 1001})).await.unwrap();
    assert!(many.is_error && text(&many).contains("too many parts"));
    assert_eq!(
        call("blocks", json!({"count": 1000}))
            .await
            .unwrap()
            .content
            .len(),
        1000
    );
    assert!(call("nonsense", json!({})).await.unwrap().is_error);
    let large = "x".repeat(33 << 20);
    let refused = call("echo", json!(large)).await;
    assert!(matches!(refused, Err(SandboxError::RequestTooLarge { .. })));
    let large = "x".repeat(30 << 20);
    assert_eq!(
        text(&call("echo", json!(large)).await.unwrap()).len(),
        (30 << 20) + 2
    );
    // JSON within JSON doubles the quotes: what does not fit is an error inside.
    let quotes = "\"".repeat(14 << 20);
    let reply = call("echo", json!(quotes)).await.unwrap();
    assert!(reply.is_error && text(&reply).contains("too large"));
    let calls = (0..40).map(|n| call("echo", json!(n)));
    let mut answered = Vec::new();
    for call in calls {
        answered.push(text(&call.await.unwrap()));
    }
    assert_eq!(answered, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_at_a_time_are_served_up_to_a_bound() {
    let bench = bench("parallel");
    let sandbox = bench.sandbox("parallel").await;
    let never = CancellationToken::new();
    let mut waiting = Vec::new();
    for _ in 0..80 {
        let (sandbox, never) = (sandbox.clone(), never.clone());
        waiting.push(tokio::spawn(async move {
            sandbox
                .call(request("exec", json!({"argv": ["sleep", "2"]})), &never)
                .await
        }));
    }
    let (mut done, mut busy) = (0, 0);
    for call in waiting {
        match call.await.unwrap() {
            Ok(reply) if !reply.is_error => done += 1,
            Ok(_) | Err(SandboxError::Busy(_)) => busy += 1,
            Err(e) => panic!("{e}"),
        }
    }
    assert!(done >= 32 && busy > 0, "{done} {busy}");
    ok(&sandbox, "true").await;
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let missing = bench_with("missing", |c| {
        c.launcher = Launcher {
            program: "/nonexistent/agent".into(),
            args: Vec::new(),
        };
    });
    let capabilities = missing.provider.probe().await;
    assert!(
        !capabilities.works && capabilities.features[0].remedy.is_some(),
        "{capabilities:?}"
    );
    let wrong = bench_with("wrong", |c| {
        c.launcher = Launcher {
            program: "/bin/true".into(),
            args: Vec::new(),
        };
    });
    let error = wrong
        .provider
        .create(&wrong.spec("wrong"))
        .await
        .err()
        .unwrap();
    assert!(matches!(error, SandboxError::Start { .. }), "{error}");
    let good = bench("good");
    for id in ["", "UPPER", "a/b", "a-b", &"x".repeat(81)] {
        let error = good.provider.create(&good.spec(id)).await.err().unwrap();
        assert!(
            matches!(error, SandboxError::InvalidSpec(_)),
            "{id}: {error}"
        );
    }
    // Started by hand it explains itself.
    let out = std::process::Command::new(AGENT)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        String::from_utf8(out.stderr)
            .unwrap()
            .contains("not by hand")
    );
    let works = good.provider.probe().await;
    assert!(works.works, "{works:?}");
    eprintln!("{works:#?}");
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
