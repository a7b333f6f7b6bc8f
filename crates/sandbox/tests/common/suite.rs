//! What every provider must do, written once: a life, files, limits, the end. Each check makes and
//! ends sandboxes of its own.

use std::sync::Arc;

use freehold_sandbox::{
    Access, Capabilities, FileProblem, Isolation, Limits, NetworkPolicy, Operation, Provider,
    Sandbox, SandboxError, SandboxSpec, Share,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{bash, exec, ok, request, text};

/// A spec over a directory of its own below `dir`.
pub fn spec(dir: &std::path::Path, id: &str) -> SandboxSpec {
    SandboxSpec {
        id: id.to_owned(),
        dir: dir.join(id),
        limits: Limits {
            memory_bytes: 512 << 20,
            tmp_bytes: 8 << 20,
            file_bytes: 4 << 20,
            pids: 96,
            ..Limits::default()
        },
        network: NetworkPolicy::None.into(),
        min_isolation: Isolation::Namespaces,
        shares: vec![
            Share {
                folder: "uploads".to_owned(),
                at: "/mnt/session/uploads".to_owned(),
                access: Access::ReadOnly,
            },
            Share {
                folder: "notes".to_owned(),
                at: "/mnt/memory/notes".to_owned(),
                access: Access::ReadWrite,
            },
        ],
        layers: Vec::new(),
        env: vec![("GREETING".to_owned(), "hello there".to_owned())],
    }
}

/// What happens to a task too many.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tasks {
    /// It is refused.
    Refused,
    /// It may end the sandbox.
    MayEndIt,
}

/// All of them over one sandbox, then over a second one of the same directory.
pub async fn whole(provider: &dyn Provider, dir: &std::path::Path, tasks: Tasks) {
    let spec = spec(dir, "suite");
    let found = provider.probe().await;
    assert!(found.works, "{found:#?}");
    let sandbox = provider.create(&spec).await.unwrap();
    looks_like_a_sandbox(&sandbox).await;
    files(&sandbox, &spec).await;
    limits(&sandbox).await;
    if tasks == Tasks::Refused {
        too_many_tasks(&sandbox).await;
    }
    a_cancelled_call_ends(&sandbox).await;
    only_once(provider, &spec).await;
    // A third boot under emulation would take longer than it is worth.
    if found.isolation < Isolation::Microvm {
        snapshots(provider, &sandbox, dir).await;
    }
    let stats = sandbox.stats().await.unwrap();
    assert!(stats.memory_bytes.is_some_and(|m| m > 0), "{stats:?}");
    the_end(provider, sandbox, &spec).await;
    refusals(provider, &spec, &found).await;
}

async fn looks_like_a_sandbox(sandbox: &Arc<dyn Sandbox>) {
    assert_eq!(
        ok(sandbox, "pwd; id -un; hostname; echo $HOME $GREETING").await,
        "/workspace\nagent\nsandbox\n/home/agent hello there"
    );
    let caps = ok(
        sandbox,
        "grep -E '^Cap' /proc/self/status | tr -s '\\t ' ' '",
    )
    .await;
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd"] {
        let none = format!("{line}: 0000000000000000");
        assert!(caps.contains(&none), "{caps}");
    }
    // The host's root, its other users and this test's directory are not there.
    for hidden in [
        "/root/.cargo",
        "/boot/config",
        "/etc/shadow",
        "/sys/kernel/debug",
        "/tmp/.X",
    ] {
        let seen = bash(sandbox, &format!("ls {hidden}*")).await;
        assert_ne!(seen.code, Some(0), "{hidden}: {seen:?}");
    }
    for path in [
        "/x",
        "/usr/x",
        "/etc/x",
        "/etc/passwd",
        "/mnt/session/uploads/x",
        "/.freehold/x",
    ] {
        let wrote = bash(sandbox, &format!("echo x >> {path}")).await;
        assert_ne!(wrote.code, Some(0), "{path}");
    }
    // No network but its own loopback.
    let links = ok(
        sandbox,
        "cat /proc/self/net/dev 2>/dev/null | tail -n +3 | cut -d: -f1 | tr -d ' '",
    )
    .await;
    assert!(matches!(links.as_str(), "lo" | ""), "{links}");
    let out = bash(sandbox, "exec 3<>/dev/tcp/192.0.2.1/80").await;
    assert_ne!(out.code, Some(0), "{out:?}");
    // Programs find nothing of the agent's: no open file, no secret.
    let look = "import os\nfor n in range(64):\n  try: os.fstat(n); print(n, end=\" \")\n  except OSError: pass";
    assert_eq!(ok(sandbox, &format!("python3 -c '{look}'")).await, "0 1 2");
}

async fn files(sandbox: &Arc<dyn Sandbox>, spec: &SandboxSpec) {
    let long = vec![b'x'; 700 * 1024];
    sandbox
        .write_file("/workspace/a/b/long", long.clone().into())
        .await
        .unwrap();
    // Not `stat`: Debian 12's gVisor does not know a flag that its coreutils use.
    let stat =
        "import os,pwd; s=os.stat(\"a/b/long\"); print(s.st_size, pwd.getpwuid(s.st_uid).pw_name)";
    assert_eq!(
        ok(sandbox, &format!("python3 -c '{stat}'")).await,
        "716800 agent"
    );
    ok(
        sandbox,
        "echo fine > out.txt; ln -s /etc/passwd link; mkfifo pipe",
    )
    .await;
    let read = sandbox.read_file("/workspace/a/b/long", 1 << 20).await;
    assert_eq!(read.unwrap().collect().await.unwrap(), long);
    for (path, problem) in [
        ("/workspace/none", FileProblem::NotFound),
        ("/workspace/link", FileProblem::NotRegular),
        ("/workspace/pipe", FileProblem::NotRegular),
        ("/workspace/../etc/passwd", FileProblem::Outside),
        ("/etc/passwd", FileProblem::Outside),
    ] {
        let refused = sandbox.read_file(path, 1 << 20).await.unwrap_err();
        let SandboxError::File { problem: found } = refused else {
            panic!("{path}: {refused}")
        };
        assert_eq!(found, problem, "{path}");
    }
    let listing = sandbox.list_files("/workspace").await.unwrap();
    let names: Vec<_> = listing.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(names, ["a/b/long", "out.txt"]);
    // What the host puts into a share is there at once; what the inside writes is kept.
    std::fs::write(spec.dir.join("uploads/late.txt"), "just in").unwrap();
    assert_eq!(
        ok(sandbox, "cat /mnt/session/uploads/late.txt").await,
        "just in"
    );
    ok(
        sandbox,
        "echo note > /mnt/memory/notes/n; echo result > /mnt/session/outputs/r; echo rc > ~/.rc",
    )
    .await;
}

async fn limits(sandbox: &Arc<dyn Sandbox>) {
    let large = bash(sandbox, "exec head -c 9M /dev/zero > /workspace/large").await;
    let too_large = large.signal == Some(i64::from(libc::SIGXFSZ)) || large.code == Some(1);
    assert!(too_large, "{large:?}");
    assert_eq!(ok(sandbox, "ulimit -c; rm -f large").await, "0");
    let out = exec(
        sandbox,
        &["/bin/bash", "-c", "head -c 20M /dev/zero; echo done >&2"],
    )
    .await;
    assert_eq!((out.code, out.stderr.trim()), (Some(0), "done"));
}

async fn too_many_tasks(sandbox: &Arc<dyn Sandbox>) {
    // Children that let go of the pipes, or the call would last as long as they do.
    let forks = "import os,time\nmade=[]\ntry:\n  while len(made)<400:\n    child=os.fork()\n    if child==0: os.closerange(0,3); time.sleep(300)\n    made.append(child)\nexcept OSError: print(len(made))\nfor child in made: os.kill(child,9); os.waitpid(child,0)";
    let made: u32 = ok(sandbox, &format!("python3 -c '{forks}'"))
        .await
        .parse()
        .unwrap();
    assert!(made < 96, "{made}");
}

/// What is kept comes back in another sandbox.
async fn snapshots(provider: &dyn Provider, sandbox: &Arc<dyn Sandbox>, dir: &std::path::Path) {
    let store = dir.join("snapshots");
    std::fs::create_dir_all(&store).unwrap();
    let snapshot = sandbox.snapshot(&store).await.unwrap();
    let copy = provider
        .restore(&snapshot, &spec(dir, "copy"))
        .await
        .unwrap();
    assert_eq!(
        ok(&copy, "cat out.txt /mnt/memory/notes/n ~/.rc").await,
        "fine\nnote\nrc"
    );
    copy.destroy().await.unwrap();
}

async fn a_cancelled_call_ends(sandbox: &Arc<dyn Sandbox>) {
    let cancel = CancellationToken::new();
    let endless = request(
        "exec",
        json!({"argv": ["/bin/bash", "-c", "trap '' TERM; touch started; while :; do :; done"]}),
    );
    let call = sandbox.call(endless, &cancel);
    let fire = async {
        while bash(sandbox, "rm started").await.code != Some(0) {}
        cancel.cancel();
    };
    let (reply, ()) = tokio::join!(call, fire);
    let reply: serde_json::Value = serde_json::from_str(&text(&reply.unwrap())).unwrap();
    assert_eq!(reply["signal"], json!(9));
}

async fn only_once(provider: &dyn Provider, spec: &SandboxSpec) {
    let second = provider.create(spec).await.err();
    assert!(
        matches!(second, Some(SandboxError::AlreadyOpen)),
        "{second:?}"
    );
}

async fn the_end(provider: &dyn Provider, sandbox: Arc<dyn Sandbox>, spec: &SandboxSpec) {
    ok(&sandbox, "(setsid sleep 1000 </dev/null >/dev/null 2>&1 &)").await;
    sandbox.destroy().await.unwrap();
    sandbox.destroy().await.unwrap();
    assert!(!sandbox.alive());
    let call = sandbox
        .call(request("echo", json!(1)), &CancellationToken::new())
        .await;
    assert!(matches!(call, Err(SandboxError::Lost { .. })), "{call:?}");
    let again = provider.create(spec).await.unwrap();
    assert_eq!(
        ok(
            &again,
            "cat out.txt /mnt/memory/notes/n /mnt/session/outputs/r ~/.rc; cd /tmp; echo *"
        )
        .await,
        "fine\nnote\nresult\nrc\n*"
    );
    again.destroy().await.unwrap();
    provider.remove_state(&spec.dir).unwrap();
    assert!(!spec.dir.exists());
}

async fn refusals(provider: &dyn Provider, spec: &SandboxSpec, found: &Capabilities) {
    if found.isolation < Isolation::Microvm {
        let mut strong = spec.clone();
        strong.min_isolation = Isolation::Microvm;
        let weak = provider.create(&strong).await.err();
        assert!(
            matches!(weak, Some(SandboxError::TooWeak { .. })),
            "{weak:?}"
        );
    }
    if found.unsupported.contains(&Operation::Egress) {
        let mut out = spec.clone();
        out.network = NetworkPolicy::Public.into();
        let refused = provider.create(&out).await.err();
        let egress = matches!(
            refused,
            Some(SandboxError::Unsupported {
                operation: Operation::Egress,
                ..
            })
        );
        assert!(egress, "{refused:?}");
    }
}
