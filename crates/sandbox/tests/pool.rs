//! Sandboxes prepared ahead: nobody can tell, but for the time. Alone in its file: it counts
//! processes of this one.

mod common;

use std::collections::HashSet;

use common::*;
use freehold_sandbox::{ExecRequest, Limits, Provider};

async fn filled(bench: &Bench) {
    while bench.provider.prepared() < 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn prepared_sandboxes_are_used_replaced_and_cleared() {
    let bench = bench_with("pool", |c| (c.warm, c.disks) = (2, 1));
    let name = instance("pool");
    let first = bench.sandbox("first").await;
    filled(&bench).await;
    assert_eq!(launchers().len(), 3);
    let mut spec = bench.spec("second");
    spec.limits = Limits {
        tmp_bytes: 4 << 20,
        memory_bytes: 4 << 30,
        pids: 64,
        ..Limits::default()
    };
    spec.env = vec![("MINE".to_owned(), "here".to_owned())];
    let second = bench.provider.create(&spec).await.unwrap();
    let said = ok(&second, "pwd; echo $MINE; df --output=size -B1 /tmp | tail -1 | tr -d ' '; ulimit -u; cat /proc/self/cgroup | sed 's/.*://' | sort -u").await;
    assert_eq!(said, "/workspace\nhere\n4194304\n64\n/");
    let bomb = "import os,time\nn=0\ntry:\n  while True:\n    if os.fork()==0: os.closerange(0,3); time.sleep(300)\n    n+=1\nexcept BlockingIOError: print(n)";
    let bomb = second
        .exec(ExecRequest::new(["python3", "-c", bomb]))
        .await
        .unwrap();
    let made: u32 = String::from_utf8(bomb.finish().await.unwrap().stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!((30..64).contains(&made), "{made}");
    // Neither those that wait nor the one that was one are taken for leftovers.
    assert_eq!(bench.provider.reap(&HashSet::new()).await.unwrap(), 0);
    filled(&bench).await;
    // Launchers that died unnoticed are no obstacle.
    let mut killed = 0;
    for pid in launchers() {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let waits =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let inner = waits.trim().to_owned();
        let agents = std::fs::read_to_string(format!("/proc/{inner}/task/{inner}/children"))
            .unwrap_or_default();
        if groups.contains("test-agent") && agents.trim().is_empty() {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            killed += 1;
        }
    }
    assert_eq!(killed, 2);
    let third = bench.sandbox("third").await;
    ok(&third, "true").await;
    for sandbox in [first, second, third] {
        sandbox.destroy().await.unwrap();
    }
    // Prepared disks became the sessions' own; those of nobody go with the provider.
    let spares = |dir: &std::path::Path| {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        entries
            .filter(|e| e.file_name().to_string_lossy().starts_with(".spare-"))
            .count()
    };
    let dir = bench.dir.path().to_owned();
    filled(&bench).await;
    if is_root() {
        assert!(bench.spec("second").dir.join("disk").exists());
        // An earlier process may have had this one's id.
        let left = dir.join(format!(".spare-{}-0", std::process::id()));
        std::fs::write(&left, "").unwrap();
        bench.provider.reap(&HashSet::new()).await.unwrap();
        assert!(!left.exists());
        assert!(spares(&dir) > 0);
    }
    let Bench {
        provider,
        dir: kept,
    } = bench;
    drop(provider);
    while spares(&dir) > 0 {
        tokio::task::yield_now().await;
    }
    drop(kept);
    while leftovers(&name).2 > 0 {
        tokio::task::yield_now().await;
    }
    assert!(leftovers(&name).3.is_empty(), "{:?}", leftovers(&name).3);
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
