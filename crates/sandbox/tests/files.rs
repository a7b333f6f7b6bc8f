//! The host reads and writes files through the agent, whatever a hostile process prepared.

mod common;

use common::*;
use freehold_sandbox::{FileProblem, Provider, SandboxError};

fn problem<T>(result: Result<T, SandboxError>) -> FileProblem {
    match result {
        Err(SandboxError::File { problem }) => problem,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was allowed"),
    }
}

#[tokio::test]
async fn files_come_and_go() {
    let bench = bench("files");
    let sandbox = bench.sandbox("files").await;
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
    sandbox
        .write_file("/workspace/a/b/c.bin", bytes.clone().into())
        .await
        .unwrap();
    sandbox
        .write_file("/mnt/session/outputs/empty", "".into())
        .await
        .unwrap();
    sandbox
        .write_file("/workspace/a/b/c.bin", bytes.clone().into())
        .await
        .unwrap();
    let stream = sandbox
        .read_file("/workspace/a/b/c.bin", 12_000_000)
        .await
        .unwrap();
    assert_eq!(stream.size(), 12_000_000);
    assert!(stream.collect().await.unwrap() == bytes);
    let empty = sandbox
        .read_file("/mnt/session/outputs/empty", 0)
        .await
        .unwrap();
    assert!(empty.collect().await.unwrap().is_empty());
    assert_eq!(
        ok(
            &sandbox,
            "stat -c '%s %U %a' /workspace/a/b/c.bin; ls -A /workspace/a/b"
        )
        .await,
        "12000000 agent 644\nc.bin"
    );
    assert_eq!(
        problem(sandbox.read_file("/workspace/a/b/c.bin", 11_999_999).await),
        FileProblem::TooLarge
    );
    // A reader that leaves early holds nothing up.
    drop(
        sandbox
            .read_file("/workspace/a/b/c.bin", u64::MAX)
            .await
            .unwrap(),
    );
    for _ in 0..100 {
        drop(
            sandbox
                .read_file("/workspace/a/b/c.bin", u64::MAX)
                .await
                .unwrap(),
        );
        ok(&sandbox, ":").await;
    }
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn what_is_no_file_or_elsewhere_is_refused_without_waiting() {
    let bench = bench("odd");
    let sandbox = bench.sandbox("odd").await;
    ok(&sandbox, "cd /mnt/session/outputs && mkfifo pipe && mkdir dir && ln -s /etc/passwd link && ln -s / root && ln -s dir dirlink && echo x > dir/f && ln dir/f hard && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'").await;
    let outputs = |name: &str| format!("/mnt/session/outputs/{name}");
    for name in [
        "pipe",
        "dir",
        "link",
        "root/etc/passwd",
        "dirlink/f",
        "sock",
    ] {
        assert_eq!(
            problem(sandbox.read_file(&outputs(name), 100).await),
            FileProblem::NotRegular,
            "{name}"
        );
    }
    assert_eq!(
        problem(sandbox.read_file(&outputs("none"), 100).await),
        FileProblem::NotFound
    );
    for path in [
        "/etc/passwd",
        "/proc/self/environ",
        "relative",
        "/workspace/../etc/passwd",
        "/workspacex",
        "",
        "/",
        "/workspace/\0",
    ] {
        assert_eq!(
            problem(sandbox.read_file(path, 100).await),
            FileProblem::Outside,
            "{path:?}"
        );
        assert_eq!(
            problem(sandbox.write_file(path, "x".into()).await),
            FileProblem::Outside,
            "{path:?}"
        );
    }
    assert_eq!(
        problem(
            sandbox
                .write_file("/mnt/session/uploads/x", "x".into())
                .await
        ),
        FileProblem::Denied
    );
    assert_eq!(
        problem(sandbox.write_file(&outputs("root/tmp/x"), "x".into()).await),
        FileProblem::NotRegular
    );
    // Writing over a link or pipe replaces it and touches nothing behind it.
    for name in ["link", "pipe"] {
        sandbox
            .write_file(&outputs(name), "new".into())
            .await
            .unwrap();
        assert_eq!(
            sandbox
                .read_file(&outputs(name), 3)
                .await
                .unwrap()
                .collect()
                .await
                .unwrap(),
            b"new"
        );
    }
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn listings_are_bounded_and_only_of_files() {
    let bench = bench("listing");
    let sandbox = bench.sandbox("listing").await;
    let list = async |dir: &str| sandbox.list_files(dir).await.unwrap();
    assert!(list("/mnt/session/outputs").await.files.is_empty());
    ok(&sandbox, "cd /mnt/session/outputs && mkdir -p a/b && echo xy > a/b/f && echo 1 > 'sp ace' && ln -s a l && mkfifo p && touch -d @1000000000 old && touch $'new\\nline'").await;
    let listing = list("/mnt/session/outputs").await;
    let names: Vec<_> = listing.files.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(names, ["a/b/f", "new\nline", "old", "sp ace"]);
    assert!(!listing.truncated);
    assert_eq!(listing.files[0].size, 3);
    assert_eq!(listing.files[2].mtime_micros, 1_000_000_000_000_000);
    assert_eq!(
        problem(sandbox.list_files("/etc").await),
        FileProblem::Outside
    );
    assert_eq!(
        problem(sandbox.list_files("/workspace/none").await),
        FileProblem::NotFound
    );
    // Depth, a name that is not UTF-8, and numbers.
    ok(&sandbox, "cd /workspace && for i in $(seq 200); do mkdir d && cd d; done; touch deep; cd /workspace; touch $'\\xff' ok").await;
    let listing = list("/workspace").await;
    assert_eq!(
        listing
            .files
            .iter()
            .map(|f| f.path.as_str())
            .collect::<Vec<_>>(),
        ["ok"]
    );
    assert!(listing.truncated);
    ok(
        &sandbox,
        "mkdir /tmp/many && cd /tmp/many && seq 12000 | xargs touch",
    )
    .await;
    let listing = list("/tmp/many").await;
    assert!(
        listing.truncated && listing.files.len() == 10_000,
        "{}",
        listing.files.len()
    );
    let spec = bench.spec("listing");
    sandbox.destroy().await.unwrap();
    bench.provider.remove_state(&spec.dir).unwrap();
}

/// A name that is a folder one moment and a link out of it the next (design/60 §6, row 40).
async fn races(sandbox: &std::sync::Arc<dyn freehold_sandbox::Sandbox>) {
    let swap = "mkdir real out; echo mine > real/f; echo theirs > /tmp/f
        (while :; do ln -s /tmp d; rm d; mv real d; mv d real; done) </dev/null >/dev/null 2>&1 &
        (while :; do ln -s /tmp e; rm -rf e; done) </dev/null >/dev/null 2>&1 &
        ln -s /etc/passwd link; ln -s ../../../../etc dots; ln -s /proc/self/root root";
    ok(sandbox, swap).await;
    // Goes on until the folder has been one and, many times, was not.
    let (mut seen, mut refused) = (0, 0);
    for n in 0.. {
        if seen > 0 && refused > 50 {
            break;
        }
        match sandbox.read_file("/workspace/d/f", 100).await {
            Ok(file) => {
                assert_eq!(file.collect().await.unwrap(), b"mine\n");
                seen += 1;
            }
            Err(SandboxError::File { .. }) => refused += 1,
            Err(e) => panic!("{e}"),
        }
        let written = sandbox
            .write_file(&format!("/workspace/e/w{n}"), "w".into())
            .await;
        assert!(
            matches!(written, Ok(()) | Err(SandboxError::File { .. })),
            "{written:?}"
        );
        let deleted = sandbox.delete_file("/workspace/d/f2").await;
        assert!(
            matches!(deleted, Err(SandboxError::File { .. })),
            "{deleted:?}"
        );
    }
    assert_eq!(ok(sandbox, "ls /tmp").await, "f");
    for path in [
        "link",
        "dots/passwd",
        "root/etc/passwd",
        "d/../../etc/passwd",
    ] {
        let read = sandbox
            .read_file(&format!("/workspace/{path}"), 1 << 20)
            .await;
        assert!(
            matches!(read, Err(SandboxError::File { .. })),
            "{path}: {read:?}"
        );
    }
}

#[tokio::test]
async fn no_race_leads_out_of_a_folder() {
    let bench = bench("race");
    let sandbox = bench.sandbox("race").await;
    races(&sandbox).await;
    sandbox.destroy().await.unwrap();
}

/// Everything a program of the host might run if it looked into a workspace or a home, each with a
/// mark that only the host can see.
fn lures(mark: &str) -> String {
    let run = format!("#!/bin/sh\\necho $0 >> {mark}\\n");
    format!(
        r#"lure() {{ mkdir -p "$(dirname "$1")"; printf '{run}' > "$1"; chmod 755 "$1"; }}
        for d in /workspace ~ /mnt/session/outputs; do
          cd $d
          for name in ls tar zstd git sh bash mkfs.ext4 e2fsck resize2fs setpriv mount python3 \
              .git/hooks/post-checkout .git/hooks/pre-commit .git/hooks/fsmonitor \
              .bashrc .bash_profile .profile .envrc Makefile; do lure $name; done
          printf '[core]\n\tfsmonitor = {mark}-fs\n\tpager = sh .profile\n' > .git/config
          printf 'open("{mark}", "a").write("py")' | tee sitecustomize.py usercustomize.py > conftest.py
        done"#
    )
}

#[tokio::test]
async fn nothing_kept_is_ever_run_outside() {
    let outside = tempfile::tempdir().unwrap();
    let mark = outside.path().join("mark").display().to_string();
    // The lures work.
    let lured = tempfile::tempdir().unwrap();
    let script = lures(&mark).replace("/workspace ~ /mnt/session/outputs", "$PWD");
    let bait = format!("{script}; ./ls; sh .profile");
    let mut host = std::process::Command::new("bash");
    let baited = host.args(["-c", &bait]).current_dir(lured.path()).status();
    assert!(baited.unwrap().success());
    let marks = std::fs::read_to_string(&mark).unwrap();
    assert_eq!(marks, "./ls\n.profile\n");
    std::fs::remove_file(&mark).unwrap();

    let bench = bench("lures");
    let spec = bench.spec("lures");
    let sandbox = bench.provider.create(&spec).await.unwrap();
    ok(&sandbox, &lures(&mark)).await;
    sandbox.list_files("/workspace").await.unwrap();
    let file = sandbox.read_file("/workspace/.bashrc", 1 << 20).await;
    file.unwrap().collect().await.unwrap();
    let new = sandbox.write_file("/workspace/.git/new", "x".into()).await;
    new.unwrap();
    sandbox.stats().await.unwrap();
    let store = bench.dir.path().join("snapshots");
    std::fs::create_dir(&store).unwrap();
    let snapshot = sandbox.snapshot(&store).await.unwrap();
    sandbox.destroy().await.unwrap();
    let again = bench.provider.create(&spec).await.unwrap();
    again.destroy().await.unwrap();
    let copy = bench.spec("copy");
    let restored = bench.provider.restore(&snapshot, &copy).await.unwrap();
    restored.destroy().await.unwrap();
    bench.provider.remove_state(&spec.dir).unwrap();
    bench
        .provider
        .reap(&std::collections::HashSet::new())
        .await
        .unwrap();
    let ran = std::fs::read_to_string(&mark);
    assert!(ran.is_err(), "{ran:?}");
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
