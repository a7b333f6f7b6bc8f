//! Deleting what a hostile process made: any depth, any names, any modes. Constant stack and a
//! constant number of open directories, no symbolic link followed.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::SandboxError;

/// Names in the trash are made unique with this.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// What names of directories being deleted begin with.
const PREFIX: &str = ".trash-";

/// Moves `dir` aside and deletes it on a thread of its own.
pub(crate) fn discard(dir: &Path) -> Result<(), SandboxError> {
    let aside = move_aside(dir).map_err(SandboxError::host("moving a state directory aside"))?;
    delete_aside(aside.into_iter().collect())
}

/// Deletes what a probe made; nothing of it is left when this returns.
pub(crate) async fn remove_probe(dir: &Path) {
    let dir = dir.to_owned();
    let deleted = tokio::task::spawn_blocking(move || delete(&dir)).await;
    if let Err(error) = deleted.unwrap_or_else(|e| Err(io::Error::other(e))) {
        tracing::warn!(%error, "the probe's directory could not be removed");
    }
}

/// Goes on with what an earlier server process began to delete in `parent`.
pub(crate) fn resume(parent: &Path) -> Result<(), SandboxError> {
    let entries = match std::fs::read_dir(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(SandboxError::host("looking for unfinished deletions"))?,
    };
    let left = entries.flatten().filter(|e| {
        let name = e.file_name();
        name.to_str().is_some_and(|n| n.starts_with(PREFIX))
    });
    delete_aside(left.map(|e| e.path()).collect())
}

fn delete_aside(dirs: Vec<PathBuf>) -> Result<(), SandboxError> {
    if dirs.is_empty() {
        return Ok(());
    }
    let work = move || {
        for dir in dirs {
            if let Err(error) = delete(&dir) {
                tracing::warn!(%error, "a sandbox's state could not be deleted completely");
            }
        }
    };
    let deleted = std::thread::Builder::new()
        .name("trash".to_owned())
        .spawn(work);
    deleted
        .map(drop)
        .map_err(SandboxError::host("starting the thread that deletes"))
}

/// Renames `dir` beside itself; `None` if it does not exist.
fn move_aside(dir: &Path) -> io::Result<Option<PathBuf>> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let aside = dir.with_file_name(format!("{PREFIX}{}-{n}-{name}", std::process::id()));
        match rustix::fs::renameat_with(CWD, dir, CWD, &aside, rustix::fs::RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Some(aside)),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Deletes `top` and all below. What is gone already is no failure: whoever cleans up at a start may
/// find what another is just deleting.
pub(crate) fn delete(top: &Path) -> io::Result<()> {
    match delete_all(top) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !top.exists() => Ok(()),
        done => done,
    }
}

/// Directories that are not empty are moved up into `top`, so depth costs nothing.
fn delete_all(top: &Path) -> io::Result<()> {
    let root = open_dir(CWD, top)?;
    let mut moved = 0u64;
    loop {
        let batch = names(&root)?;
        let mut again = batch.len() == BATCH;
        for name in batch {
            if remove(&root, &name)? {
                continue;
            }
            again = true;
            let dir = open_dir(&root, &name)?;
            for inner in names(&dir)? {
                if remove(&dir, &inner)? {
                    continue;
                }
                make_movable(&dir, &inner);
                // The name is ours alone: the process that could race is gone.
                moved += 1;
                let up = format!("{moved}.moved-up");
                match rustix::fs::renameat_with(
                    &dir,
                    inner.as_c_str(),
                    &root,
                    up.as_str(),
                    rustix::fs::RenameFlags::NOREPLACE,
                ) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
            }
        }
        if !again {
            break;
        }
    }
    drop(root);
    Ok(rustix::fs::unlinkat(CWD, top, AtFlags::REMOVEDIR)?)
}

/// Moving a directory changes its `..`, for which it must be writable unless one is root.
fn make_movable(dir: &OwnedFd, name: &CString) {
    // If it does not help, the rename says so.
    let _ = rustix::fs::chmodat(dir, name.as_c_str(), Mode::RWXU, AtFlags::empty());
}

/// Unlinks a file or an empty directory; `false` for a directory with content.
fn remove(dir: &OwnedFd, name: &CString) -> io::Result<bool> {
    match rustix::fs::unlinkat(dir, name.as_c_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    match rustix::fs::unlinkat(dir, name.as_c_str(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn open_dir(
    dir: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg + Copy,
) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // Reading and emptying it take all three permissions, which its maker may have removed.
    let probe = rustix::fs::openat(
        &dir,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mode = rustix::fs::fstat(&probe)?.st_mode;
    if mode & 0o700 != 0o700 {
        rustix::fs::chmodat(&dir, name, Mode::RWXU, AtFlags::empty())?;
    }
    Ok(rustix::fs::openat(&dir, name, flags, Mode::empty())?)
}

/// The entries of a directory, at most [`BATCH`] at a time.
fn names(dir: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
            if names.len() >= BATCH {
                break;
            }
        }
    }
    Ok(names)
}

/// Names held in memory of one directory.
const BATCH: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_deleted_first_is_no_failure() {
        let base = tempfile::tempdir().unwrap();
        delete(&base.path().join("gone")).unwrap();
        std::fs::write(base.path().join("file"), "x").unwrap();
        assert!(delete(&base.path().join("file")).is_err());
    }

    #[test]
    fn depth_and_modes_do_not_matter_and_links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        let kept = base.path().join("kept");
        std::fs::write(&kept, "x").unwrap();
        let top = base.path().join("state");
        std::fs::create_dir(&top).unwrap();
        std::os::unix::fs::symlink(base.path(), top.join("link")).unwrap();
        std::os::unix::fs::symlink(&kept, top.join("file-link")).unwrap();
        let mut dir = open_dir(CWD, top.as_path()).unwrap();
        // Far deeper than a path, a stack or the table of open files allows.
        for _ in 0..5000 {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = open_dir(&dir, "d").unwrap();
        }
        rustix::fs::mkdirat(&dir, "locked", Mode::empty()).unwrap();
        std::fs::create_dir(top.join("sealed")).unwrap();
        std::fs::write(top.join("sealed/f"), "x").unwrap();
        rustix::fs::chmod(top.join("sealed"), Mode::empty()).unwrap();
        drop(dir);
        delete(&top).unwrap();
        assert!(!top.exists());
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), "x");
    }

    #[test]
    fn discarding_frees_the_name_at_once_and_tolerates_absence() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("state");
        discard(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
        discard(&dir).unwrap();
        assert!(!dir.exists());
    }

    #[test]
    fn deletion_cut_short_goes_on_at_the_next_start() {
        let base = tempfile::tempdir().unwrap();
        let (left, kept) = (base.path().join(".trash-1-0-x"), base.path().join("kept"));
        std::fs::create_dir_all(left.join("a/b")).unwrap();
        std::fs::create_dir(&kept).unwrap();
        resume(base.path()).unwrap();
        while left.exists() {
            std::thread::yield_now();
        }
        assert!(kept.exists());
        resume(&base.path().join("missing")).unwrap();
    }
}
