//! Templates of sandboxes' own file systems, formatted once for each size.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Limits;

/// Half-made templates are told apart by this.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Formats; part of e2fsprogs.
const PROGRAM: &str = "mke2fs";

/// The template for these limits in `dir`, made if it is not there. Empty but for its tables, so it
/// costs a few MiB whatever its size.
pub(crate) fn template(dir: &Path, limits: &Limits) -> io::Result<PathBuf> {
    let (bytes, inodes) = (limits.disk_bytes, limits.disk_inodes);
    let path = dir.join(format!(".disk-{bytes}-{inodes}"));
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(dir)?;
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let half = dir.join(format!(".disk-new-{}-{n}", std::process::id()));
    File::create(&half)?.set_len(bytes)?;
    let made = format(&half, inodes).and_then(|()| fs::rename(&half, &path));
    if made.is_err() {
        // The error that counts is the first one.
        let _ = fs::remove_file(&half);
    }
    made.map(|()| path)
}

fn format(path: &Path, inodes: u64) -> io::Result<()> {
    let out = Command::new(PROGRAM)
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-m",
            "0",
            "-e",
            "remount-ro",
        ])
        // A small journal: files must survive a host that stops, and it is copied with each disk.
        .args(["-J", "size=4", "-O", "^resize_inode"])
        .args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"])
        .args(["-N", &inodes.to_string()])
        .arg(path)
        .stdin(Stdio::null())
        .output()?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    let said = said.lines().last().unwrap_or("no reason given");
    Err(io::Error::other(format!("{PROGRAM}: {said}")))
}
