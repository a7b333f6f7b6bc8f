//! The inside's file system: a small read-only tmpfs with the lent directories attached.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
};

use super::plan::{Ids, Isolate};
use super::tree::{Tree, Trees, What, set_attributes};
use super::{InStage, Step};

/// Size of the root tmpfs, which holds directories, links and the made-up `/etc` only.
const ROOT_SIZE: &str = "1m";
/// Size of `/dev/shm`.
const SHM_SIZE: &str = "64m";
/// Files in `/tmp`.
const TMP_INODES: u64 = 100_000;

const FLAGS: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// Builds the new root and makes it the only one.
pub(super) fn build(how: &Isolate, trees: Trees) -> Result<(), Step> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).stage("private mounts")?;
    let root = new_fs("tmpfs", &[("size", ROOT_SIZE), ("mode", "755")], FLAGS).stage("root")?;
    // Anywhere will do: the host's tree is gone a few steps on.
    attach_at(&root, "/tmp")
        .or_else(|_| attach_at(&root, "/"))
        .stage("root")?;
    attach_all(&root, trees)?;
    own(how, &root)?;
    rustix::process::fchdir(&root).stage("pivot")?;
    rustix::process::pivot_root(".", ".").stage("pivot")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).stage("pivot")?;
    std::env::set_current_dir("/").stage("pivot")?;
    set_attributes(&root, libc::MOUNT_ATTR_RDONLY, false).stage("read-only root")
}

/// Builds the same tree at `at`, without what a runtime brings itself, in this process's own mount
/// namespace.
pub(super) fn stage(at: &Path, trees: Trees) -> Result<(), Step> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).stage("private mounts")?;
    let root = new_fs("tmpfs", &[("size", ROOT_SIZE), ("mode", "755")], FLAGS).stage("root")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&root, "", CWD, at, flags).stage("root")?;
    attach_all(&root, trees)?;
    for dir in BROUGHT {
        make_dir(&root, Path::new(dir)).stage("directories")?;
    }
    // Runtimes give what they mount there the mode of the directory below.
    rustix::fs::chmodat(&root, "tmp", Mode::from_raw_mode(0o1777), AtFlags::empty())
        .stage("directories")?;
    own_directories(&root)?;
    set_attributes(&root, libc::MOUNT_ATTR_RDONLY, false).stage("read-only root")
}

/// Mount points a runtime fills.
const BROUGHT: [&str; 3] = ["proc", "dev", "tmp"];

/// The file systems of the sandbox's own.
fn own(how: &Isolate, root: &OwnedFd) -> Result<(), Step> {
    let tmp_size = how.limits.tmp_bytes.to_string();
    let inodes = TMP_INODES.to_string();
    let tmp = [
        ("size", tmp_size.as_str()),
        ("nr_inodes", &inodes),
        ("mode", "1777"),
    ];
    mount_at(root, "tmp", "tmpfs", &tmp, FLAGS).stage("tmp")?;
    let shm = [("size", SHM_SIZE), ("nr_inodes", "10000"), ("mode", "1777")];
    mount_at(root, "dev/shm", "tmpfs", &shm, FLAGS).stage("shm")?;
    let mut pts = vec![("mode", "0620"), ("ptmxmode", "0666")];
    if matches!(how.ids, Ids::Range { .. }) {
        pts.push(("gid", "5"));
    }
    // Not `nodev`: terminals are devices.
    let no_suid = MountAttrFlags::MOUNT_ATTR_NOSUID | NOEXEC;
    mount_at(root, "dev/pts", "devpts", &pts, no_suid).stage("pts")?;
    let proc = [("hidepid", "invisible"), ("subset", "pid")];
    mount_at(root, "proc", "proc", &proc, FLAGS | NOEXEC).stage("proc")?;
    own_directories(root)
}

/// Empty directories programs expect.
fn own_directories(root: &OwnedFd) -> Result<(), Step> {
    for dir in ["run", "var", "sys", "root"] {
        make_dir(root, Path::new(dir)).stage("directories")?;
    }
    rustix::fs::symlinkat("/tmp", root, "var/tmp").stage("directories")
}

fn attach_all(root: &OwnedFd, trees: Trees) -> Result<(), Step> {
    let Trees(trees) = trees;
    for tree in trees {
        let at = tree.at.clone();
        if let Err(e) = place(root, tree) {
            let detail = format!("{}: {e}", at.display());
            return Err(detail).stage("attach directories");
        }
    }
    Ok(())
}

fn place(root: &OwnedFd, tree: Tree) -> io::Result<()> {
    let at = tree.at.as_path();
    if let Some(parent) = at.parent() {
        make_dir(root, parent)?;
    }
    match tree.what {
        What::Dir(fd) => {
            make_dir(root, at)?;
            attach(&fd, root, at)
        }
        What::File(fd) => {
            make_file(root, at, "")?;
            attach(&fd, root, at)
        }
        What::Link(target) => Ok(rustix::fs::symlinkat(target, root, at)?),
        What::Text(text) => make_file(root, at, &text),
    }
}

fn make_dir(root: &OwnedFd, at: &Path) -> io::Result<()> {
    let mut done = std::path::PathBuf::new();
    for part in at.components() {
        done.push(part);
        match rustix::fs::mkdirat(root, &done, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

fn make_file(root: &OwnedFd, at: &Path, text: &str) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(root, at, flags, Mode::from_raw_mode(0o644))?;
    io::Write::write_all(&mut std::fs::File::from(fd), text.as_bytes())
}

fn new_fs(kind: &str, options: &[(&str, &str)], flags: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        flags,
    )?)
}

fn mount_at(
    root: &OwnedFd,
    at: &str,
    kind: &str,
    options: &[(&str, &str)],
    flags: MountAttrFlags,
) -> io::Result<()> {
    let at = Path::new(at);
    make_dir(root, at)?;
    attach(&new_fs(kind, options, flags)?, root, at)
}

fn attach(mount: &OwnedFd, root: &OwnedFd, at: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", root, at, flags)?)
}

fn attach_at(mount: &OwnedFd, at: &str) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", CWD, at, flags)?)
}
