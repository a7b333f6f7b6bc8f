//! The inside's file system: a small read-only tmpfs with the lent directories attached. Built in
//! two steps, before and after it is known for which session.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};

use super::folders::{self, Folders};
use super::plan::{Bind, Ids, Keeps, Namespaces};
use super::tree::{Tree, Trees, What, set_attributes};
use super::{InStage, Kept, Step, install, layers, trust};
use crate::Access;
use crate::spec::LAYER;

/// Size of the root tmpfs, which holds directories, links, certificates and the made-up `/etc` with
/// what layers add to it.
const ROOT_SIZE: &str = "4m";
/// Size of `/dev/shm`.
const SHM_SIZE: &str = "64m";
/// Files in `/tmp`.
const TMP_INODES: u64 = 100_000;

const FLAGS: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// What was built of what differs between hosts.
pub(super) struct Built {
    /// Whether the mounts of kept folders say nothing of where they lie.
    pub hidden_paths: bool,
    /// Whether what is kept is limited.
    pub disk_quota: bool,
    pub kept: Kept,
}

/// Places to attach the new root at until it is the only one: they hide nothing that is needed.
const STAGING: [&str; 3] = ["/sys", "/dev", "/proc"];

/// Builds as much of the new root as is the same for every session.
pub(super) fn begin(how: &Namespaces, trees: Trees) -> Result<OwnedFd, Step> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private).stage("private mounts")?;
    let root = new_fs("tmpfs", &[("size", ROOT_SIZE), ("mode", "755")], FLAGS).stage("root")?;
    stage(&root).stage("root")?;
    attach_all(&root, trees)?;
    let shm = [("size", SHM_SIZE), ("nr_inodes", "10000"), ("mode", "1777")];
    mount_at(&root, "dev/shm", "tmpfs", &shm, FLAGS).stage("shm")?;
    let mut pts = vec![("mode", "0620"), ("ptmxmode", "0666")];
    if matches!(how.ids, Ids::Range { .. }) {
        pts.push(("gid", "5"));
    }
    // Not `nodev`: terminals are devices.
    let no_suid = MountAttrFlags::MOUNT_ATTR_NOSUID | NOEXEC;
    mount_at(&root, "dev/pts", "devpts", &pts, no_suid).stage("pts")?;
    let proc = [("hidepid", "invisible"), ("subset", "pid")];
    mount_at(&root, "proc", "proc", &proc, FLAGS | NOEXEC).stage("proc")?;
    expected(&root)?;
    Ok(root)
}

/// Empty directories programs expect.
fn expected(root: &OwnedFd) -> Result<(), Step> {
    for dir in ["run", "var", "sys", "root"] {
        make_dir(root, Path::new(dir)).stage("directories")?;
    }
    rustix::fs::symlinkat("/tmp", root, "var/tmp").stage("directories")
}

/// Builds the whole tree at `at`, without what a runtime brings itself, in this process's own mount
/// namespace.
pub(super) fn on_stage(at: &Path, bind: &Bind, trees: Trees, folders: Folders) -> Result<(), Step> {
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
    let all = Mode::from_raw_mode(0o1777);
    rustix::fs::chmodat(&root, "tmp", all, AtFlags::empty()).stage("directories")?;
    expected(&root)?;
    rustix::process::fchdir(&root).stage("root")?;
    own(bind, &root, folders, false, false)?;
    if let Some(certificate) = bind.network.as_ref().and_then(|n| n.authority.as_ref()) {
        trust::add(&root, certificate).stage("certificates")?;
    }
    std::env::set_current_dir("/").stage("root")?;
    set_attributes(&root, libc::MOUNT_ATTR_RDONLY, false).stage("read-only root")
}

/// Mount points a runtime fills.
const BROUGHT: [&str; 3] = ["proc", "dev", "tmp"];

/// Makes the new root the only one.
pub(super) fn move_in(root: &OwnedFd) -> Result<(), Step> {
    rustix::process::fchdir(root).stage("pivot")?;
    rustix::process::pivot_root(".", ".").stage("pivot")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).stage("pivot")?;
    std::env::set_current_dir("/").stage("pivot")
}

/// Attaches what is the session's own, in the new root. `opened`: whether the inside's root may write
/// over the system.
pub(super) fn finish(
    bind: &Bind,
    root: OwnedFd,
    folders: Folders,
    opened: bool,
) -> Result<Built, Step> {
    let tmp_size = bind.limits.tmp_bytes.to_string();
    let inodes = TMP_INODES.to_string();
    let tmp = [
        ("size", tmp_size.as_str()),
        ("nr_inodes", &inodes),
        ("mode", "1777"),
    ];
    mount_at(&root, "tmp", "tmpfs", &tmp, FLAGS).stage("tmp")?;
    let own_disk = folders.own_disk;
    let (hidden_paths, kept) = own(bind, &root, folders, opened, true)?;
    if let Some(certificate) = bind.network.as_ref().and_then(|n| n.authority.as_ref()) {
        trust::add(&root, certificate).stage("certificates")?;
    }
    set_attributes(&root, libc::MOUNT_ATTR_RDONLY, false).stage("read-only root")?;
    Ok(Built {
        hidden_paths,
        disk_quota: own_disk,
        kept,
    })
}

/// Store, layers and shares; `apart`: with system directories of the sandbox's own; whether the
/// mounts of what is written hide where it lies, and that.
fn own(
    bind: &Bind,
    root: &OwnedFd,
    folders: Folders,
    opened: bool,
    apart: bool,
) -> Result<(bool, Kept), Step> {
    let Folders {
        store,
        own_disk,
        shares,
        layers,
    } = folders;
    let count = layers.len();
    attach_new(&store, root, layers::STORE).stage("state directories")?;
    for (n, layer) in layers.iter().enumerate() {
        attach_new(layer, root, &format!("{}/{n}", layers::LAYERS)).stage("layers")?;
    }
    let laid = layers::lay_over(root, count).stage("layers")?;
    // What is installed is written over the system itself.
    if apart && bind.keeps != Keeps::Written {
        layers::set_apart(root, &laid).stage("system directories")?;
    }
    let (mut hidden, mut kept) = (true, Kept::new());
    for folder in folders::writable(bind) {
        kept.push(keep(&store, folder.0)?);
        hidden &= layers::writable(root, own_disk, count, folder).stage("state directories")?;
    }
    let read_only = bind.shares.iter().filter(|s| s.access == Access::ReadOnly);
    for (share, tree) in read_only.zip(&shares) {
        attach_securely(tree, root, share.at.trim_start_matches('/')).stage("shares")?;
    }
    if bind.keeps == Keeps::Written {
        install::open_up(root, own_disk, opened).stage("system to install into")?;
    }
    if bind.keeps != Keeps::Folders {
        kept = vec![keep(&store, LAYER)?];
    }
    layers::tidy(count).stage("layers")?;
    Ok((hidden, kept))
}

/// A folder of the store, to be reached by descriptor.
fn keep(store: &OwnedFd, name: &str) -> Result<(String, OwnedFd), Step> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(store, name, flags, Mode::empty());
    Ok((name.to_owned(), dir.stage("state directories")?))
}

fn attach_all(root: &OwnedFd, Trees(trees): Trees) -> Result<(), Step> {
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
        What::Text(text) => make_file(root, at, &text).map(drop),
    }
}

/// Makes a directory and those above it; what is there already is left.
pub(super) fn make_dir(root: &OwnedFd, at: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    if at.as_os_str().is_empty() {
        // The root itself.
        return Ok(());
    }
    match (
        rustix::fs::mkdirat(root, at, Mode::from_raw_mode(0o755)),
        at.parent(),
    ) {
        (Ok(()) | Err(Errno::EXIST), _) => Ok(()),
        (Err(Errno::NOENT), Some(parent)) => {
            make_dir(root, parent)?;
            Ok(rustix::fs::mkdirat(root, at, Mode::from_raw_mode(0o755))?)
        }
        (Err(e), _) => Err(e.into()),
    }
}

pub(super) fn make_file(root: &OwnedFd, at: &Path, text: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(root, at, flags, Mode::from_raw_mode(0o644))?;
    let mut file = File::from(fd);
    file.write_all(text.as_bytes())?;
    Ok(file)
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

pub(super) fn attach(mount: &OwnedFd, root: &OwnedFd, at: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", root, at, flags)?)
}

fn attach_new(mount: &OwnedFd, root: &OwnedFd, at: &str) -> io::Result<()> {
    make_dir(root, Path::new(at))?;
    attach(mount, root, Path::new(at))
}

/// Attaches at a place that may lie in a folder the inside writes to: whatever is in the way, a
/// link for example, makes room.
pub(super) fn attach_securely(mount: &OwnedFd, root: &OwnedFd, at: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = rustix::fs::openat(root, ".", flags, Mode::empty())?;
    for part in at.split('/') {
        dir = match rustix::fs::openat(&dir, part, flags, Mode::empty()) {
            Ok(next) => next,
            Err(error) => {
                if error != rustix::io::Errno::NOENT {
                    rustix::fs::unlinkat(&dir, part, AtFlags::empty())?;
                }
                rustix::fs::mkdirat(&dir, part, Mode::from_raw_mode(0o755))?;
                rustix::fs::openat(&dir, part, flags, Mode::empty())?
            }
        };
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", &dir, "", flags)?)
}

/// A detached copy of the mount at a path.
pub(super) fn clone_of(path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

fn stage(root: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let mut last = io::ErrorKind::NotFound.into();
    for at in STAGING {
        match rustix::mount::move_mount(root, "", CWD, at, flags) {
            Ok(()) => return Ok(()),
            Err(e) => last = e.into(),
        }
    }
    Err(last)
}
