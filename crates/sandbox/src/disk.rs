//! Templates of sandboxes' own file systems, formatted once for each size.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use freehold_base::{Entropy, SystemEntropy};

use crate::launch::folders::EMPTY;
use crate::launch::plan::{FIRST_ID, USER};
use crate::{Limits, SandboxError, SandboxSpec, spec};

/// Formats; part of e2fsprogs.
const PROGRAM: &str = "mke2fs";
/// Its extended options. What is written lies together and is little: it is copied for each sandbox.
const OPTIONS: &str = "lazy_itable_init=1,lazy_journal_init=1,nodiscard,num_backup_sb=0,\
                       packed_meta_blocks=1";

/// The template of the sandbox's disk, where this host can mount one (if `possible`) and its files
/// do not lie outside one already. Templates are kept in `dir`.
pub(crate) async fn of(
    spec: &SandboxSpec,
    dir: &Path,
    possible: bool,
) -> Result<Option<PathBuf>, SandboxError> {
    let image = spec.dir.join(spec::DISK).exists();
    let plain = spec.dir.join(spec::WORKSPACE).exists();
    if !image && (plain || !possible || !Path::new("/dev/loop-control").exists()) {
        return Ok(None);
    }
    if let Some(template) = made(dir, &spec.limits) {
        return Ok(Some(template));
    }
    let (dir, limits) = (dir.to_owned(), spec.limits);
    let made = tokio::task::spawn_blocking(move || template(&dir, &limits)).await;
    match made.map_err(|e| SandboxError::lost(e.to_string()))? {
        Ok(template) => Ok(Some(template)),
        Err(e) if image => Err(SandboxError::host("formatting a disk")(e)),
        Err(error) => {
            tracing::warn!(%error, "no disk for a sandbox: what it keeps is not limited");
            Ok(None)
        }
    }
}

/// The template for these limits in `dir`, made if it is not there. Empty but for its tables and the
/// folders every sandbox has, so it costs little whatever its size.
pub(crate) fn template(dir: &Path, limits: &Limits) -> io::Result<PathBuf> {
    if let Some(path) = made(dir, limits) {
        return Ok(path);
    }
    let (bytes, inodes) = (limits.disk_bytes, limits.disk_inodes);
    let path = path(dir, limits);
    fs::create_dir_all(dir)?;
    // One that was cut short is in nobody's way.
    let half = dir.join(format!(".disk-new-{}", SystemEntropy.hex(8)));
    let content = half.with_extension("d");
    let made = File::create(&half)
        .and_then(|file| file.set_len(bytes))
        .and_then(|()| folders(&content))
        .and_then(|()| format(&half, inodes, &content))
        .and_then(|()| fs::rename(&half, &path));
    // Of errors the first one counts; what is left over is looked at by nobody.
    let _ = fs::remove_dir_all(&content);
    if made.is_err() {
        let _ = fs::remove_file(&half);
    }
    made.map(|()| path)
}

/// The template if it is there.
pub(crate) fn made(dir: &Path, limits: &Limits) -> Option<PathBuf> {
    Some(path(dir, limits)).filter(|path| path.exists())
}

fn path(dir: &Path, limits: &Limits) -> PathBuf {
    // The number tells it from those of earlier versions.
    let (bytes, inodes) = (limits.disk_bytes, limits.disk_inodes);
    dir.join(format!(".disk3-{bytes}-{inodes}"))
}

/// What every sandbox has, to be copied into the image.
fn folders(at: &Path) -> io::Result<()> {
    fs::create_dir(at)?;
    let of_user = spec::WRITABLE.map(|(name, _)| (name, FIRST_ID + USER));
    for (name, owner) in of_user.into_iter().chain([(EMPTY, FIRST_ID)]) {
        let dir = at.join(name);
        fs::create_dir(&dir)?;
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o755))?;
        chown(&dir, Some(owner), Some(owner))?;
    }
    Ok(())
}

fn format(path: &Path, inodes: u64, content: &Path) -> io::Result<()> {
    let options = format!("{OPTIONS},root_owner={FIRST_ID}:{FIRST_ID}");
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
        .args(["-J", "size=4", "-O", "^resize_inode,sparse_super2"])
        .args(["-E", &options])
        .args(["-N", &inodes.to_string()])
        .arg("-d")
        .arg(content)
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
