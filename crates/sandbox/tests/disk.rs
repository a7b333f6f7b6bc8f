//! What a sandbox keeps is limited, survives, and goes at once.

mod common;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use common::*;
use freehold_sandbox::{Access, Provider, Share, Status};

#[tokio::test]
async fn bytes_and_files_are_limited_together() {
    let bench = bench("quota");
    let report = bench.provider.probe().await;
    let quota = report
        .features
        .iter()
        .find(|f| f.name == "disk quota")
        .unwrap();
    if !is_root() {
        // That is said; the next test has what holds.
        assert_eq!(quota.status, Status::Partial);
        assert!(quota.detail.contains("not their sum"), "{quota:?}");
        return;
    }
    assert_eq!(
        quota.status,
        Status::Enforced,
        "needs loop devices and e2fsprogs: {quota:?}"
    );
    let mut spec = bench.spec("quota");
    spec.limits.disk_bytes = 64 << 20;
    spec.limits.disk_inodes = 1024;
    spec.shares.push(Share {
        folder: "notes".to_owned(),
        at: "/mnt/memory/notes".to_owned(),
        access: Access::ReadWrite,
    });
    let sandbox = bench.provider.create(&spec).await.unwrap();
    for place in [
        "/workspace",
        "/mnt/session/outputs",
        "$HOME",
        "/mnt/memory/notes",
    ] {
        let full = bash(
            &sandbox,
            &format!(
                "cd {place}; for i in $(seq 20); do head -c 10M /dev/zero > big$i || exit 1; done"
            ),
        )
        .await;
        assert!(full.stderr.contains("No space left"), "{place}: {full:?}");
        let error = sandbox
            .write_file("/workspace/more", vec![1; 1 << 20].into())
            .await;
        assert!(format!("{error:?}").contains("NoSpace"), "{error:?}");
        ok(&sandbox, &format!("rm {place}/big*")).await;
        let many = bash(&sandbox, &format!("mkdir {place}/many; cd {place}/many; for i in $(seq 2000); do : > $i || exit 1; done")).await;
        assert!(many.stderr.contains("No space left"), "{place}: {many:?}");
        ok(&sandbox, &format!("rm -r {place}/many")).await;
    }
    ok(
        &sandbox,
        "head -c 20M /dev/zero > kept; echo kept > /mnt/memory/notes/a",
    )
    .await;
    let stats = sandbox.stats().await.unwrap();
    assert!(
        (20 << 20..64 << 20).contains(&stats.disk_bytes.unwrap()),
        "{stats:?}"
    );
    assert!((1..1024).contains(&stats.disk_inodes.unwrap()), "{stats:?}");
    sandbox.destroy().await.unwrap();
    // The host sees an image, sparse, and nothing of the inside's making.
    let mut names: Vec<_> = std::fs::read_dir(&spec.dir)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["disk", "uploads"]);
    let again = bench.provider.create(&spec).await.unwrap();
    assert_eq!(
        ok(&again, "stat -c %s kept; cat /mnt/memory/notes/a").await,
        "20971520\nkept"
    );
    again.destroy().await.unwrap();
    let image = spec.dir.join("disk").to_str().unwrap().to_owned();
    bench.provider.remove_state(&spec.dir).unwrap();
    assert!(!spec.dir.exists());
    let devices = std::process::Command::new("losetup")
        .arg("-a")
        .output()
        .unwrap();
    assert!(!String::from_utf8(devices.stdout).unwrap().contains(&image));
}

#[tokio::test]
async fn where_nothing_limits_the_disk_that_is_said() {
    let bench = bench_with("unlimited", |c| c.own_disks = false);
    let report = bench.provider.probe().await;
    let quota = report
        .features
        .iter()
        .find(|f| f.name == "disk quota")
        .unwrap();
    assert_eq!(quota.status, Status::Partial);
    assert!(quota.remedy.is_some());
    let mut spec = bench.spec("unlimited");
    spec.limits.file_bytes = 4 << 20;
    let sandbox = bench.provider.create(&spec).await.unwrap();
    assert_eq!(sandbox.stats().await.unwrap().disk_bytes, None);
    let large = bash(&sandbox, "exec head -c 9M /dev/zero > large").await;
    assert_eq!(large.signal, Some(i64::from(libc::SIGXFSZ)), "{large:?}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_launcher_killed_outright_costs_no_file() {
    let bench = bench_with("torn", |c| {
        c.launcher.args = vec![format!("torn-{}", std::process::id())]
    });
    let spec = bench.spec("torn");
    for round in 0..5 {
        let sandbox = bench.provider.create(&spec).await.unwrap();
        assert_eq!(
            ok(&sandbox, "cat rounds 2>/dev/null | wc -l").await,
            round.to_string()
        );
        ok(&sandbox, "echo x >> rounds; sync rounds").await;
        let out = std::process::Command::new("pgrep")
            .args([
                "-o",
                "-f",
                &format!("test-agent torn-{}", std::process::id()),
            ])
            .output()
            .unwrap();
        let pid = String::from_utf8(out.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
        // The next one waits until the image is free.
        sandbox.destroy().await.unwrap();
    }
}

#[tokio::test]
async fn folders_kept_plain_by_an_earlier_version_stay_plain() {
    let bench = bench("older");
    let spec = bench.spec("older");
    std::fs::create_dir_all(spec.dir.join("workspace")).unwrap();
    std::fs::write(spec.dir.join("workspace/old"), "old").unwrap();
    if is_root() {
        // As it left them.
        std::os::unix::fs::chown(spec.dir.join("workspace"), Some(101_000), Some(101_000)).unwrap();
    }
    let sandbox = bench.provider.create(&spec).await.unwrap();
    assert_eq!(
        ok(&sandbox, "cat old; df --output=fstype . | tail -1").await,
        "oldoverlay"
    );
    sandbox.destroy().await.unwrap();
    assert!(!spec.dir.join("disk").exists());
}

/// Images that are nobody's: the number of their file and its length.
fn ready(bench: &Bench) -> HashMap<u64, u64> {
    let entries = std::fs::read_dir(bench.dir.path()).unwrap().flatten();
    let ready = entries.filter(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        name.starts_with(".spare-") && !name.ends_with(".new")
    });
    // One that has just gone is none.
    let found = ready.filter_map(|e| e.metadata().ok());
    found.map(|m| (m.ino(), m.len())).collect()
}

#[tokio::test]
async fn disks_lie_ready_for_who_comes_next() {
    let bench = bench_with("ready", |c| c.disks = 4);
    if !is_root() {
        // An ordinary user mounts no disks.
        let sandbox = bench.sandbox("first").await;
        sandbox.destroy().await.unwrap();
        assert!(ready(&bench).is_empty());
        return;
    }
    let mut last = HashMap::new();
    for id in ["first", "second"] {
        let sandbox = bench.sandbox(id).await;
        let disk = bench.spec(id).dir.join("disk").metadata().unwrap().ino();
        assert!(id == "first" || last.contains_key(&disk), "{last:?} {disk}");
        ok(&sandbox, "echo mine > kept; sync kept").await;
        sandbox.destroy().await.unwrap();
        while ready(&bench).len() < 4 {
            tokio::task::yield_now().await;
        }
        last = ready(&bench);
        assert!(!last.contains_key(&disk));
    }
    // Of another size there is none, so one of those gives way.
    let mut spec = bench.spec("small");
    (spec.limits.disk_bytes, spec.limits.disk_inodes) = (64 << 20, 1024);
    let sandbox = bench.provider.create(&spec).await.unwrap();
    assert_eq!(spec.dir.join("disk").metadata().unwrap().len(), 64 << 20);
    sandbox.destroy().await.unwrap();
    while !ready(&bench).values().any(|length| *length == 64 << 20) {
        tokio::task::yield_now().await;
    }
    assert_eq!(ready(&bench).len(), 4);
    // They are block devices, mounted, and no longer than they can be of use.
    let Bench { provider, dir } = bench;
    assert!(devices(dir.path()) > 0);
    drop(provider);
    while devices(dir.path()) > 0 {
        tokio::task::yield_now().await;
    }
}

/// Block devices whose image lies in a directory.
fn devices(dir: &Path) -> usize {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    let images = devices.filter_map(|device| {
        // Of others there is none.
        std::fs::read_to_string(device.path().join("loop/backing_file")).ok()
    });
    images
        .filter(|image| Path::new(image).starts_with(dir))
        .count()
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
