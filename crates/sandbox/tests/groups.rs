//! Control groups that are not this process's: an earlier one's, and another user's.

mod common;

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use common::*;
use freehold_sandbox::{Isolation, Provider};
use futures_util::future::join_all;

#[tokio::test]
async fn groups_left_behind_are_reaped() {
    let bench = bench("reap");
    let instance = instance("reap");
    if bench.provider.probe().await.isolation < Isolation::NamespacesAndLimits {
        // Nothing was made, so nothing is found; `limits` holds the lack against the report.
        assert!(!is_root(), "root has control groups");
        let open = bench.sandbox("open").await;
        assert_eq!(bench.provider.reap(&HashSet::new()).await.unwrap(), 0);
        ok(&open, "true").await;
        return;
    }
    let sandbox = bench.sandbox("open").await;
    // Gives it the groups it gets only when paused.
    sandbox.pause().await.unwrap();
    sandbox.resume().await.unwrap();
    let find = |name: &str| leftovers(&instance).3.iter().filter(|g| *g == name).count();
    let each = find("open");
    assert!(each > 0);
    leave_behind(&instance, &["left", "kept"]);
    assert_eq!((find("left"), find("kept")), (each, each));
    let keep = HashSet::from(["kept".to_owned()]);
    assert_eq!(bench.provider.reap(&keep).await.unwrap(), 1);
    assert_eq!((find("left"), find("kept"), find("open")), (0, each, each));
    ok(&sandbox, "true").await;
    assert_eq!(bench.provider.reap(&HashSet::new()).await.unwrap(), 1);
    sandbox.destroy().await.unwrap();
}

/// Clearing takes what an earlier process left for what it is, and never a sandbox that was started
/// meanwhile, even if it has the name of one that was left.
#[tokio::test(flavor = "multi_thread")]
async fn clearing_leaves_those_alone_that_are_started_meanwhile() {
    const NAMES: [&str; 4] = ["one", "two", "three", "four"];
    let bench = bench("meanwhile");
    let bench = &bench;
    for round in 0..8 {
        leave_behind(&instance("meanwhile"), &NAMES);
        let none = HashSet::new();
        let clearing = bench.provider.reap(&none);
        let started = join_all(NAMES.map(|name| async move {
            // At another moment each, from before the clearing to after it.
            for _ in 0..round * 20 {
                tokio::task::yield_now().await;
            }
            let sandbox = bench.sandbox(name).await;
            ok(&sandbox, "true").await;
            sandbox
        }));
        let (cleared, started) = tokio::join!(clearing, started);
        cleared.unwrap();
        for sandbox in started {
            ok(&sandbox, "true").await;
            sandbox.destroy().await.unwrap();
        }
    }
}

/// Workers for one session each can share a directory, and so an instance.
#[tokio::test]
async fn another_that_ends_takes_nothing_along_that_is_needed() {
    let bench = bench("shared");
    let other = tempfile::tempdir().unwrap();
    let other = freehold_sandbox::NamespaceProvider::new(config("shared", other.path()));
    if bench.provider.probe().await.isolation < Isolation::NamespacesAndLimits {
        assert!(!is_root(), "root has control groups");
        return;
    }
    // Nothing is in them now.
    drop(other);
    let sandbox = bench.sandbox("one").await;
    let made = |name: &str| leftovers(&instance("shared")).3.contains(&name.to_owned());
    assert!(made("one"));
    sandbox.pause().await.unwrap();
    sandbox.resume().await.unwrap();
    ok(&sandbox, "true").await;
    sandbox.destroy().await.unwrap();
    assert!(!made("one"));
}

/// Instances are told apart by the number of a directory, and that of a directory that is gone is
/// another's soon: its server may have been root's, and killed.
#[tokio::test]
async fn those_of_another_user_are_not_used() {
    let config = |dir: &Path| {
        let mut config = config("", dir);
        config.instance = "test_another_user".to_owned();
        config
    };
    let dir = tempfile::tempdir().unwrap();
    let provider = freehold_sandbox::NamespaceProvider::new(config(dir.path()));
    let found = provider.probe().await;
    assert!(found.works, "{found:?}");
    provider.reap(&HashSet::new()).await.unwrap();
    if is_root() {
        assert_eq!(found.isolation, Isolation::NamespacesAndLimits);
        let said = as_an_ordinary_user(&["--exact", "those_of_another_user_are_not_used"]);
        assert!(said.contains("1 passed"), "{said}");
    }
}

/// Makes groups for sandboxes of these names, in all hierarchies in which the instance has any.
fn leave_behind(instance: &str, names: &[&str]) {
    fn below(dir: &Path, parent: &str, names: &[&str]) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name() == *parent {
                for name in names {
                    fs::create_dir(entry.path().join(name)).unwrap();
                }
            } else if entry.file_type().is_ok_and(|t| t.is_dir()) {
                below(&entry.path(), parent, names);
            }
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    for mount in mounts.lines().filter(|l| l.contains(" - cgroup")) {
        let point = mount.split(' ').nth(4).unwrap();
        below(Path::new(point), &format!("freehold-{instance}"), names);
    }
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
