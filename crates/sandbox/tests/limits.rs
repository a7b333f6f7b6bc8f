//! Resource attacks stay inside, and the sandbox answers or ends; the host is unaffected.

mod common;

use std::time::{Duration, Instant};

use common::*;
use freehold_sandbox::{Isolation, Limits, Provider, SandboxError, Status};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Whether control groups enforce all limits. Root must have them; of anybody else's server it is
/// said, and `without_groups_memory_is_limited_for_each_process_and_said_so` has what holds then.
async fn limited(bench: &Bench) -> bool {
    let capabilities = bench.provider.probe().await;
    assert!(capabilities.works, "{capabilities:?}");
    let groups = capabilities
        .features
        .iter()
        .find(|f| f.name == "control groups")
        .unwrap();
    if groups.status == Status::Enforced {
        return true;
    }
    assert!(
        !is_root(),
        "control groups with memory, pids and cpu: {groups:?}"
    );
    let said = groups.remedy.as_deref().unwrap();
    assert!(said.contains("for each process only"), "{said}");
    assert_eq!(capabilities.isolation, Isolation::Namespaces);
    let mut spec = bench.spec("demanding");
    spec.min_isolation = Isolation::NamespacesAndLimits;
    let refused = bench.provider.create(&spec).await.err();
    assert!(
        matches!(refused, Some(SandboxError::TooWeak { .. })),
        "{refused:?}"
    );
    false
}

#[tokio::test]
async fn a_fork_bomb_hits_the_limit_and_the_sandbox_can_be_ended() {
    let bench = bench("forks");
    let mut spec = bench.spec("forks");
    spec.limits.pids = 64;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    // Its children let go of the pipes, or the call would last as long as they do.
    let bomb = "import os,time\nn=0\ntry:\n  while True:\n    if os.fork()==0: os.closerange(0,3); time.sleep(300)\n    n+=1\nexcept BlockingIOError: print(n)";
    let made: u32 = ok(&sandbox, &format!("python3 -c '{bomb}'"))
        .await
        .parse()
        .unwrap();
    assert!((30..64).contains(&made), "{made}");
    // Other work may or may not find a process left; ending the sandbox always works.
    let reply = sandbox
        .call(request("echo", json!(1)), &CancellationToken::new())
        .await;
    assert!(
        matches!(reply, Ok(_) | Err(SandboxError::Busy(_))),
        "{reply:?}"
    );
    sandbox.destroy().await.unwrap();
    let again = bench.provider.create(&spec).await.unwrap();
    ok(&again, "true").await;
    again.destroy().await.unwrap();
}

#[tokio::test]
async fn a_memory_bomb_is_killed_inside() {
    let bench = bench("memory");
    if !limited(&bench).await {
        return;
    }
    let mut spec = bench.spec("memory");
    spec.limits.memory_bytes = 128 << 20;
    spec.min_isolation = Isolation::NamespacesAndLimits;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    let bomb = bash(&sandbox, "exec python3 -c 'b=bytearray(900<<20)'").await;
    assert_eq!(bomb.signal, Some(9), "{bomb:?}");
    let stats = sandbox.stats().await.unwrap();
    assert!(stats.oom_kills.unwrap() >= 1, "{stats:?}");
    assert!(
        stats.memory_peak_bytes.unwrap() <= 128 << 20 && stats.pids.unwrap() >= 3,
        "{stats:?}"
    );
    assert_eq!(
        ok(&sandbox, "python3 -c 'b=bytearray(20<<20);print(len(b))'").await,
        "20971520"
    );
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn without_groups_memory_is_limited_for_each_process_and_said_so() {
    let bench = bench_with("rlimits", |c| c.control_groups = false);
    let mut spec = bench.spec("rlimits");
    spec.limits = Limits {
        memory_bytes: 128 << 20,
        pids: 32,
        ..Limits::default()
    };
    let capabilities = bench.provider.probe().await;
    assert_eq!(capabilities.isolation, Isolation::Namespaces);
    spec.min_isolation = Isolation::NamespacesAndLimits;
    let refused = bench.provider.create(&spec).await.err().unwrap();
    assert!(matches!(refused, SandboxError::TooWeak { .. }), "{refused}");
    spec.min_isolation = Isolation::Namespaces;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    let bomb = bash(&sandbox, "python3 -c 'b=bytearray(900<<20)'").await;
    assert!(bomb.stderr.contains("MemoryError"), "{bomb:?}");
    let forks = "import os,time\nfor n in range(60):\n  if os.fork()==0: os.closerange(0,3); time.sleep(300)";
    let forks = bash(&sandbox, &format!("python3 -c '{forks}'")).await;
    assert!(forks.stderr.contains("BlockingIOError"), "{forks:?}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn temporary_space_and_file_size_are_bounded() {
    let bench = bench("space");
    let mut spec = bench.spec("space");
    spec.limits.tmp_bytes = 8 << 20;
    spec.limits.file_bytes = 4 << 20;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    let full = bash(
        &sandbox,
        "for i in 1 2 3 4 5; do head -c 3M /dev/zero > /tmp/$i || exit 1; done",
    )
    .await;
    assert!(full.stderr.contains("No space left"), "{full:?}");
    let shm = bash(
        &sandbox,
        "for i in $(seq 30); do head -c 3M /dev/zero > /dev/shm/$i || exit 1; done",
    )
    .await;
    assert!(shm.stderr.contains("No space left"), "{shm:?}");
    let large = bash(&sandbox, "exec head -c 9M /dev/zero > /workspace/large").await;
    assert_eq!(large.signal, Some(i64::from(libc::SIGXFSZ)), "{large:?}");
    ok(&sandbox, "head -c 3M /dev/zero > /workspace/fits").await;
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn cpu_time_is_shared_out() {
    let bench = bench("cpu");
    if !limited(&bench).await {
        return;
    }
    let mut spec = bench.spec("cpu");
    spec.limits.cpu_millis = 200;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    // Compares CPU time with wall time of the same work, so a busy machine does not matter: it
    // can only lower the ratio.
    let code = "import time\nw=time.monotonic()\nwhile time.process_time()<0.4: pass\nprint(0.4/(time.monotonic()-w))";
    let ratio: f64 = ok(&sandbox, &format!("python3 -c '{code}'"))
        .await
        .parse()
        .unwrap();
    assert!(ratio < 0.5, "{ratio}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn endless_output_zombies_and_daemons_end_with_the_sandbox() {
    let bench = bench("mess");
    let sandbox = bench.sandbox("mess").await;
    // Orphans are reaped: no zombie is left.
    ok(
        &sandbox,
        "for i in $(seq 100); do (sleep 0.01 &) ; done; sleep 0.5",
    )
    .await;
    assert_eq!(
        ok(
            &sandbox,
            "cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z ' || true"
        )
        .await,
        "0"
    );
    let marker = format!("daemon-{}", std::process::id());
    ok(&sandbox, &format!("(setsid bash -c 'trap \"\" TERM HUP INT; exec -a {marker} sleep 1000' </dev/null >/dev/null 2>&1 &)")).await;
    let running = || {
        std::process::Command::new("pgrep")
            .args(["-f", &format!("^{marker}")])
            .status()
            .unwrap()
            .success()
    };
    assert_eq!(ok(&sandbox, &format!("cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '^{marker}\\|{marker} 1000' || true")).await, "1");
    assert!(running());
    sandbox.destroy().await.unwrap();
    assert!(!running(), "a daemon outlived its sandbox");
}

#[tokio::test]
async fn a_cancelled_call_ends_at_once_and_the_sandbox_goes_on() {
    let bench = bench("cancel");
    let sandbox = bench.sandbox("cancel").await;
    let cancel = CancellationToken::new();
    let start = Instant::now();
    let endless = request(
        "exec",
        json!({"argv": ["/bin/bash", "-c", "trap '' TERM; yes"]}),
    );
    let call = sandbox.call(endless, &cancel);
    let fire = async {
        // It must really run: another call sees it.
        while bash(&sandbox, "cat /proc/[0-9]*/comm | grep -qx yes")
            .await
            .code
            != Some(0)
        {}
        cancel.cancel();
    };
    let (reply, ()) = tokio::join!(call, fire);
    let reply: serde_json::Value = serde_json::from_str(&text(&reply.unwrap())).unwrap();
    assert_eq!(reply["signal"], json!(9));
    assert!(start.elapsed() < Duration::from_secs(60));
    ok(&sandbox, "true").await;
    // Dropping the future kills the call, too.
    {
        let sleep = request("exec", json!({"argv": ["sleep", "12345"]}));
        let never = CancellationToken::new();
        let call = sandbox.call(sleep, &never);
        tokio::pin!(call);
        let seen = async {
            while bash(&sandbox, "cat /proc/[0-9]*/comm | grep -qx sleep")
                .await
                .code
                != Some(0)
            {}
        };
        tokio::select! { _ = &mut call => panic!("it sleeps for hours"), () = seen => {} }
    }
    while bash(&sandbox, "cat /proc/[0-9]*/comm | grep -qx sleep")
        .await
        .code
        == Some(0)
    {}
    sandbox.destroy().await.unwrap();
}

/// Takes instances of inotify until there are none; says how many, and holds them with `then`.
fn watchers(then: &str) -> String {
    format!(
        "exec python3 -c '\nimport ctypes, sys, time\nnew = ctypes.CDLL(None).inotify_init1\nn = 0\nwhile new(0) >= 0: n += 1\nprint(n, flush=True)\n{then}'"
    )
}

#[tokio::test]
async fn file_watchers_are_taken_from_nobody_else() {
    let few = |made: &str| (1..=32).contains(&made.parse::<u32>().unwrap());
    let bench = ordinary_user("watchers");
    let greedy = ordinary_sandbox(&bench, "greedy").await;
    // Held as long as the sandbox lives.
    let hold = watchers("import os\nif os.fork() == 0: os.closerange(0, 3); time.sleep(300)");
    let made = ok(&greedy, &hold).await;
    assert!(few(&made), "{made}");
    let modest = ordinary_sandbox(&bench, "modest").await;
    let made = ok(&modest, &watchers("")).await;
    assert!(few(&made), "{made}");
    greedy.destroy().await.unwrap();
    modest.destroy().await.unwrap();
}

#[tokio::test]
async fn file_watchers_are_not_taken_from_root() {
    if !is_root() {
        // All sandboxes of an ordinary user share that user's: see the test before.
        return;
    }
    let bench = bench("watchers_root");
    let mut all = Vec::new();
    // Together they may have more than any one user.
    for n in 0..5 {
        let sandbox = bench.sandbox(&format!("greedy_{n}")).await;
        let hold = watchers("import os\nif os.fork() == 0: os.closerange(0, 3); time.sleep(300)");
        assert_eq!(ok(&sandbox, &hold).await, "32");
        all.push(sandbox);
    }
    let outside = "import ctypes; print(ctypes.CDLL(None).inotify_init1(0) >= 0)";
    let said = std::process::Command::new("python3")
        .args(["-c", outside])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "True");
    for sandbox in all {
        sandbox.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn open_files_of_all_processes_together_are_bounded() {
    for (bench, name) in [
        (bench("files"), "root"),
        (ordinary_user("files_user"), "user"),
    ] {
        let sandbox = ordinary_sandbox(&bench, name).await;
        let all = ok(&sandbox, "echo $(($(ulimit -Hn) * $(ulimit -Hu)))").await;
        let all: u64 = all.parse().unwrap();
        assert!((1024..=1 << 20).contains(&all), "{all}");
        sandbox.destroy().await.unwrap();
    }
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
