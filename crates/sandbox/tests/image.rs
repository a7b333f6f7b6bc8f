//! An unpacked image as the system, instead of the host's directories.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::*;

/// Copies a program and the libraries it needs.
fn install(image: &Path, program: &str) {
    let ldd = Command::new("ldd").arg(program).output().unwrap();
    let ldd = String::from_utf8(ldd.stdout).unwrap();
    let libraries = ldd.split_whitespace().filter(|w| w.starts_with('/'));
    for file in libraries.chain([program]) {
        let to = image.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
}

#[tokio::test]
async fn the_image_is_the_system_and_read_only() {
    let image = tempfile::tempdir().unwrap();
    for program in ["/bin/bash", "/bin/cat", "/bin/ls"] {
        install(image.path(), program);
    }
    fs::create_dir_all(image.path().join("etc")).unwrap();
    fs::write(image.path().join("etc/motd"), "from the image").unwrap();
    // What an image brings for these places is not used.
    for own in ["proc", "tmp", "workspace", "root", "home/agent"] {
        fs::create_dir_all(image.path().join(own)).unwrap();
        fs::write(image.path().join(own).join("planted"), "x").unwrap();
    }
    let bench = bench_with("image", |c| c.image = Some(image.path().to_owned()));
    let sandbox = bench.sandbox("image").await;
    assert_eq!(ok(&sandbox, "cat /etc/motd").await, "from the image");
    assert_eq!(
        ok(
            &sandbox,
            "ls /usr /proc/planted /tmp /workspace /root /home/agent 2>/dev/null; pwd"
        )
        .await
        .lines()
        .last(),
        Some("/workspace")
    );
    assert!(
        !ok(&sandbox, "ls -R /tmp /workspace /root /home")
            .await
            .contains("planted")
    );
    for path in ["/etc/motd", "/bin/bash", "/x"] {
        assert_ne!(
            bash(&sandbox, &format!("echo x >> {path}")).await.code,
            Some(0),
            "{path}"
        );
    }
    ok(&sandbox, "echo fine > /workspace/f").await;
    sandbox.destroy().await.unwrap();
}

#[test]
fn again_as_an_ordinary_user() {
    common::again_as_an_ordinary_user();
}
