//! Tests that run again as an ordinary user.

use std::process::Command;

/// Runs one of this program's tests, by its whole name, as an ordinary user, if this is root; whether it
/// did.
pub(crate) fn as_ordinary_user(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let done = Command::new("setpriv")
        .args(["--reuid=12345", "--regid=12345", "--clear-groups", "--"])
        .arg(own)
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let failed = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success() && said.contains("1 passed"),
        "{said}\n{failed}"
    );
    true
}
