//! Sandboxes for installing packages, and the layers that come of them.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use common::*;
use freehold_sandbox::{ExecRequest, Finished, Provider, Sandbox, SandboxSpec};

async fn run(sandbox: &Arc<dyn Sandbox>, argv: &[&str]) -> Finished {
    let handle = sandbox.exec(ExecRequest::new(argv.to_vec())).await.unwrap();
    handle.finish().await.unwrap()
}

fn said(finished: &Finished) -> String {
    let mut text = String::from_utf8_lossy(&finished.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&finished.stderr));
    text
}

/// Runs what must succeed.
async fn done(sandbox: &Arc<dyn Sandbox>, argv: &[&str]) -> String {
    let finished = run(sandbox, argv).await;
    assert_eq!(finished.exit.code, Some(0), "{argv:?}: {}", said(&finished));
    said(&finished)
}

/// What was installed, as a layer.
async fn layer(bench: &Bench, sandbox: Arc<dyn Sandbox>, mut spec: SandboxSpec) -> PathBuf {
    let store = bench.dir.path().join("snapshots");
    let snapshot = sandbox.snapshot(&store).await.unwrap();
    sandbox.destroy().await.unwrap();
    spec.id = "unpacked".to_owned();
    spec.dir = bench.dir.path().join("unpacked");
    bench.provider.layer(&snapshot, &spec).await.unwrap()
}

/// A package of the system's own kind, with a link kept by the system, a script that runs when it
/// is installed, and one of a user of its own.
fn package(at: &std::path::Path) -> Vec<u8> {
    let tree = at.join("tree");
    for dir in ["DEBIAN", "usr/bin", "etc/greeter", "usr/share/greeter"] {
        fs::create_dir_all(tree.join(dir)).unwrap();
    }
    let control = "Package: greeter\nVersion: 1.0\nArchitecture: all\nMaintainer: T <t@test>\n\
                   Description: greets\n";
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    fs::write(
        tree.join("DEBIAN/postinst"),
        "#!/bin/sh\nset -e\nid -u > /usr/share/greeter/made-by\n\
         chown 33:33 /usr/share/greeter/made-by\n\
         update-alternatives --install /usr/bin/hello hello /usr/bin/greeter 1\n",
    )
    .unwrap();
    fs::write(
        tree.join("usr/bin/greeter"),
        "#!/bin/sh\ncat /etc/greeter/words\n",
    )
    .unwrap();
    fs::write(tree.join("etc/greeter/words"), "good day\n").unwrap();
    for script in ["DEBIAN/postinst", "usr/bin/greeter"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(tree.join(script), mode).unwrap();
    }
    let to = at.join("greeter.deb");
    let made = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&tree, &to])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::read(to).unwrap()
}

#[tokio::test]
async fn a_system_package_is_installed_by_the_insides_root_and_seen_by_others() {
    if !is_root() {
        // An ordinary user's installer has no root: the last test here holds that it may not write
        // to the system, and `freehold` that its server refuses such packages.
        return;
    }
    let bench = bench("apt");
    let spec = bench.spec("installer");
    let sandbox = bench.provider.installer(&spec).await.unwrap();
    let made = tempfile::tempdir().unwrap();
    let deb = package(made.path());
    sandbox
        .write_file("/workspace/greeter.deb", deb.into())
        .await
        .unwrap();
    let apt = [
        "apt-get",
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        "Dir::State=/workspace/state",
        "-o",
        "Dir::State::status=/var/lib/dpkg/status",
        "-o",
        "Dir::Cache=/workspace/cache",
        "-o",
        "Dir::Log=/workspace/log",
        "install",
        "-y",
        "--",
        "/workspace/greeter.deb",
    ];
    done(
        &sandbox,
        &[
            "mkdir",
            "-p",
            "/workspace/state/lists/partial",
            "/workspace/cache/archives/partial",
            "/workspace/log",
        ],
    )
    .await;
    let text = done(&sandbox, &apt).await;
    assert!(text.contains("greeter"), "{text}");
    assert_eq!(done(&sandbox, &["hello"]).await, "good day\n");
    // What the system has may be removed and replaced, for whoever has the layer.
    done(&sandbox, &["rm", "-r", "/usr/share/doc"]).await;
    // A program's root rights end at the sandbox.
    for outside in [
        &["mount", "-t", "tmpfs", "x", "/mnt"][..],
        &["chroot", "/", "true"],
        &["mknod", "/usr/null", "c", "1", "3"],
        &["sh", "-c", "echo x > /proc/sys/kernel/core_pattern"],
        &["cat", "/etc/shadow"],
        &["unshare", "-m", "true"],
        &["ls", "/root/.ssh"],
    ] {
        let tried = run(&sandbox, outside).await;
        assert_ne!(tried.exit.code, Some(0), "{outside:?}: {}", said(&tried));
    }
    let layer = layer(&bench, sandbox, spec).await;
    assert!(fs::metadata("/usr/share/doc").unwrap().is_dir());
    assert!(!fs::exists("/usr/bin/greeter").unwrap());
    let mut kept: Vec<_> = fs::read_dir(&layer)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    assert!(
        kept.contains(&"usr".to_owned()) && kept.contains(&"etc".to_owned()),
        "{kept:?}"
    );

    let mut session = bench.spec("session");
    session.layers = vec![layer];
    let sandbox = bench.provider.create(&session).await.unwrap();
    assert_eq!(ok(&sandbox, "greeter; hello").await, "good day\ngood day");
    assert_eq!(
        ok(&sandbox, "cat /usr/share/greeter/made-by; id -u").await,
        "0\n1000"
    );
    assert_ne!(bash(&sandbox, "ls /usr/share/doc").await.code, Some(0));
    for change in [
        "echo x >> /usr/bin/greeter",
        "rm /usr/bin/greeter",
        "chmod 777 /usr/bin/greeter",
        "touch /usr/share/greeter/more",
        "echo x >> /etc/greeter/words",
        "ln -sf /bin/false /etc/alternatives/hello",
    ] {
        assert_ne!(bash(&sandbox, change).await.code, Some(0), "{change}");
    }
    let info = ok(&sandbox, "cat /proc/self/mountinfo").await;
    assert!(!info.contains("unpacked"), "{info}");
    sandbox.destroy().await.unwrap();
}

/// Installed by one provider, shown by another.
async fn a_prefix(from: &Bench, bench: &Bench, prepare: impl Fn(&SandboxSpec)) {
    let spec = from.spec("installer");
    prepare(&spec);
    let sandbox = from.provider.installer(&spec).await.unwrap();
    let script = "mkdir -p /opt/packages/bin; echo 'echo tool' > /opt/packages/bin/tool; \
                  chmod 755 /opt/packages/bin/tool; echo x > /home/agent/x; echo x > /workspace/x";
    done(&sandbox, &["sh", "-c", script]).await;
    let store = bench.dir.path().join("snapshots");
    let snapshot = sandbox.snapshot(&store).await.unwrap();
    sandbox.destroy().await.unwrap();
    let mut unpacked = spec.clone();
    unpacked.id = "unpacked".to_owned();
    unpacked.dir = bench.dir.path().join("unpacked");
    let layer = bench.provider.layer(&snapshot, &unpacked).await.unwrap();
    let mut session = bench.spec("session");
    session.layers = vec![layer];
    let sandbox = bench.provider.create(&session).await.unwrap();
    assert_eq!(
        ok(
            &sandbox,
            "sh /opt/packages/bin/tool; ls /workspace /home/agent"
        )
        .await,
        "tool\n/home/agent:\n\n/workspace:"
    );
    for change in ["rm /opt/packages/bin/tool", "touch /opt/packages/bin/more"] {
        assert_ne!(bash(&sandbox, change).await.code, Some(0), "{change}");
    }
    sandbox.destroy().await.unwrap();
}

#[tokio::test]
async fn a_prefix_below_opt_becomes_a_layer() {
    let bench = bench("opt");
    a_prefix(&bench, &bench, |_| ()).await;
}

#[tokio::test]
async fn a_prefix_below_opt_is_open_to_an_ordinary_user_and_the_system_is_not() {
    let bench = ordinary_user("opt_user");
    let own = |spec: &SandboxSpec| give_to_ordinary_user(&spec.dir);
    let spec = bench.spec("closed");
    own(&spec);
    let sandbox = bench.provider.installer(&spec).await.unwrap();
    assert_ne!(run(&sandbox, &["touch", "/usr/x"]).await.exit.code, Some(0));
    sandbox.destroy().await.unwrap();
    a_prefix(&bench, &common::bench("opt_root"), own).await;
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
