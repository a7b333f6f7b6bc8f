//! What a server asks of the system for itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::server::{KEY, Server, freehold, stderr, stdout};

#[test]
fn files_are_private_where_the_directory_is_not() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let data = home.join(".local/share/freehold");
    fs::create_dir_all(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start(home);
    let ran = server.run(home, &["run", "--json", "bash: echo secret > file"]);
    assert!(ran.status.success(), "{}\n{}", stdout(&ran), stderr(&ran));
    assert!(data.join("freehold.db").exists());
    // What lies in a private directory is out of reach whatever its own mode.
    for entry in fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

#[test]
fn the_doctor_starts_a_sandbox_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join(".local/share/freehold");
    fs::create_dir_all(&data).unwrap();
    let output = freehold(home.path()).arg("doctor").output().unwrap();
    let said = stdout(&output);
    // What was found out by trying.
    assert!(said.contains("sandbox namespaces"), "{said}");
    assert!(said.contains("disk quota"), "{said}");
    let left: Vec<_> = fs::read_dir(&data).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "ulimit -Sn 300 && exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_freehold"))
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("FREEHOLD_BOOTSTRAP_KEY", KEY)
        .stdin(Stdio::null());
    let server = Server::spawn(&mut command);
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    let numbers: Vec<&str> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_ne!(numbers[0], "300");
    assert_eq!(numbers[0], numbers[1]);
}
