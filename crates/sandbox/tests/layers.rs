//! Layers over the base system, shares, and what the mounts say of them.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::*;
use freehold_sandbox::{Access, Provider, SandboxError, SandboxSpec, Share};

fn put(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn share(folder: &str, at: &str, access: Access) -> Share {
    Share {
        folder: folder.to_owned(),
        at: at.to_owned(),
        access,
    }
}

fn layered(bench: &Bench, spec: &mut SandboxSpec) {
    let (one, two) = (
        bench.dir.path().join("layer one"),
        bench.dir.path().join("layer two"),
    );
    put(&one, "usr/local/bin/tool", "#!/bin/sh\necho one\n");
    put(&one, "usr/local/bin/other", "#!/bin/sh\necho other\n");
    put(&one, "opt/app/data", "data");
    put(&one, "etc/app.conf", "conf");
    put(&one, "etc/passwd", "evil");
    put(&one, "home/agent/.local/lib", "below");
    put(&one, "home/agent/dir/below", "below");
    put(&one, "proc/version", "evil");
    put(&two, "usr/local/bin/tool", "#!/bin/sh\necho two\n");
    put(&two, "opt/app/more", "more");
    for dir in [&one, &two] {
        fs::set_permissions(dir, PermissionsExt::from_mode(0o755)).unwrap();
    }
    spec.layers = vec![one, two];
}

async fn layers_show(bench: &Bench, spec: &mut SandboxSpec) {
    layered(bench, spec);
    let sandbox = bench.provider.create(spec).await.unwrap();
    let said = ok(&sandbox, "tool; other; cat /opt/app/data /opt/app/more /etc/app.conf; ls /usr/bin/env; grep -c evil /etc/passwd || true").await;
    assert_eq!(said, "two\nother\ndatamoreconf/usr/bin/env\n0");
    for path in [
        "/usr/local/bin/tool",
        "/opt/x",
        "/etc/app.conf",
        "/usr/bin/x",
    ] {
        assert_ne!(
            bash(&sandbox, &format!("echo x >> {path}")).await.code,
            Some(0),
            "{path}"
        );
    }
    let info = ok(&sandbox, "cat /proc/self/mountinfo").await;
    assert!(!info.contains("layer\\040"), "{info}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn layers_lie_over_the_system_and_say_nothing_of_where_they_are() {
    let bench = bench("layers");
    let mut spec = bench.spec("layers");
    layers_show(&bench, &mut spec).await;
}

#[tokio::test]
async fn what_is_deleted_over_a_layer_stays_deleted_in_a_snapshot_too() {
    let bench = bench("whiteout");
    let store = tempfile::tempdir().unwrap();
    let mut spec = bench.spec("whiteout");
    layered(&bench, &mut spec);
    let sandbox = bench.provider.create(&spec).await.unwrap();
    assert_eq!(
        ok(&sandbox, "cd; cat .local/lib dir/below").await,
        "belowbelow"
    );
    // A layer's files belong to others: the inside may not change its directories, but what it
    // makes itself it may replace. Directories of its own user's it may delete.
    let gone = bash(&sandbox, "cd; rm -r dir && mkdir dir && echo new > dir/new").await;
    let look = "cd; cat .local/lib; ls -R dir";
    let before = ok(&sandbox, look).await;
    if gone.code == Some(0) {
        assert_eq!(before, "belowdir:\nnew");
    }
    let snapshot = sandbox.snapshot(store.path()).await.unwrap();
    sandbox.destroy().await.unwrap();
    let mut copy = bench.spec("copy");
    copy.layers = spec.layers.clone();
    let sandbox = bench.provider.restore(&snapshot, &copy).await.unwrap();
    assert_eq!(ok(&sandbox, look).await, before);
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn shares_are_where_they_are_said_to_be_whatever_the_inside_did() {
    let bench = bench("shares");
    let mut spec = bench.spec("shares");
    spec.shares.extend([
        share("skill-a", "/skills/a", Access::ReadOnly),
        share("skill-b", "/workspace/skills/b", Access::ReadOnly),
        share("memory-a", "/mnt/memory/a", Access::ReadWrite),
    ]);
    put(&spec.dir, "skill-a/run.sh", "#!/bin/sh\necho ran\n");
    put(&spec.dir, "skill-b/SKILL.md", "skill");
    for dir in ["skill-a", "skill-b"] {
        fs::set_permissions(spec.dir.join(dir), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let sandbox = bench.provider.create(&spec).await.unwrap();
    assert_eq!(
        ok(
            &sandbox,
            "/skills/a/run.sh; cat skills/b/SKILL.md; echo note > /mnt/memory/a/n"
        )
        .await,
        "ran\nskill"
    );
    // What the host adds is seen at once.
    put(&spec.dir, "skill-a/later", "later");
    assert_eq!(ok(&sandbox, "cat /skills/a/later").await, "later");
    for path in [
        "/skills/x",
        "/skills/a/x",
        "/mnt/memory/x",
        "/workspace/skills/b/x",
    ] {
        assert_ne!(
            bash(&sandbox, &format!("echo x > {path}")).await.code,
            Some(0),
            "{path}"
        );
    }
    // The host reaches them through the agent.
    let listed = sandbox.list_files("/mnt/memory/a").await.unwrap();
    assert_eq!(listed.files.len(), 1);
    sandbox
        .write_file("/mnt/memory/a/deep/m", "m".into())
        .await
        .unwrap();
    sandbox.delete_file("/mnt/memory/a/n").await.unwrap();
    assert!(sandbox.delete_file("/mnt/memory/a/n").await.is_err());
    assert!(sandbox.delete_file("/mnt/memory/a/deep").await.is_err());
    assert!(sandbox.delete_file("/skills/a/run.sh").await.is_err());
    assert!(
        sandbox
            .write_file("/workspace/skills/b/x", "x".into())
            .await
            .is_err()
    );
    assert_eq!(
        ok(&sandbox, "cd /mnt/memory/a; find . -type f; cat deep/m").await,
        "./deep/m\nm"
    );
    sandbox.destroy().await.unwrap();
    // A link planted where a share is to appear leads nowhere.
    let mut bare = spec.clone();
    bare.shares.retain(|s| s.folder != "skill-b");
    let sandbox = bench.provider.create(&bare).await.unwrap();
    ok(&sandbox, "mv skills old; ln -s /usr skills").await;
    sandbox.destroy().await.unwrap();
    let sandbox = bench.provider.create(&spec).await.unwrap();
    assert_eq!(
        ok(
            &sandbox,
            "cat skills/b/SKILL.md; ls /usr/b 2>/dev/null; test -L skills || echo plain"
        )
        .await,
        "skillplain"
    );
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn specs_that_make_no_sense_are_refused() {
    let bench = bench("nonsense");
    let refused = async |change: &dyn Fn(&mut SandboxSpec)| {
        let mut spec = bench.spec("nonsense");
        change(&mut spec);
        let error = bench.provider.create(&spec).await.err();
        assert!(
            matches!(error, Some(SandboxError::InvalidSpec(_))),
            "{error:?}"
        );
        assert!(!spec.dir.exists());
    };
    for folder in ["", "..", "a/b", "workspace", "disk", "work", "A"] {
        refused(&|s| s.shares.push(share(folder, "/mnt/x", Access::ReadOnly))).await;
    }
    for at in [
        "",
        "x",
        "/",
        "/usr",
        "/etc/x",
        "/mnt",
        "/mnt/../etc",
        "/mnt//x",
        "/mnt/session",
        "/mnt/session/outputs/x",
        "/mnt/session/uploads/x",
        "/mnt/session/uploads",
    ] {
        refused(&|s| s.shares.push(share("x", at, Access::ReadOnly))).await;
    }
    refused(&|s| s.shares.push(share("uploads", "/mnt/x", Access::ReadOnly))).await;
    refused(&|s| s.layers = vec!["relative".into()]).await;
    refused(&|s| s.env = vec![("A=B".to_owned(), String::new())]).await;
    refused(&|s| s.env = vec![("A".to_owned(), "x".repeat(70_000))]).await;
    refused(&|s| s.limits.disk_bytes = 1).await;
    // A layer that is not there is told as such.
    let mut spec = bench.spec("missing");
    spec.layers = vec!["/nonexistent".into()];
    let error = bench.provider.create(&spec).await.err().unwrap();
    assert!(
        matches!(&error, SandboxError::Start { stage, .. } if stage == "layers"),
        "{error}"
    );
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
