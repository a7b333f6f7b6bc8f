//! Detached copies of the host directories a sandbox gets to see, taken while the launcher can
//! still reach them and made safe before they are attached anywhere.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Pid;

use super::plan::{LIBRARIES, LOADER, Namespaces, PROGRAM, Program, Root, USER};
use super::{InStage, Step, devices, etc};

pub(super) const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
pub(super) const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
pub(super) const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
pub(super) const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Top-level names of an image that the sandbox makes for itself.
pub(super) const OWN: [&str; 9] = [
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "mnt",
    "home",
    "root",
    "workspace",
];

/// Something to attach in the new root.
pub(super) struct Tree {
    /// Relative to the new root.
    pub at: PathBuf,
    pub what: What,
}

pub(super) enum What {
    Dir(OwnedFd),
    File(OwnedFd),
    Link(PathBuf),
    Text(String),
}

pub(super) struct Trees(pub Vec<Tree>);

impl Trees {
    /// The read-only system and the devices, in the order in which they are to be attached.
    pub(super) fn of_the_system(how: &Namespaces) -> Result<Self, Step> {
        let Self(mut trees) = Self::without_devices(&how.root, USER)?;
        trees.extend(devices::lent().stage("clone devices")?);
        if how.installs && matches!(how.root, Root::Host { .. }) {
            etc::add_system_users(&mut trees);
            for path in etc::lent_to_installers() {
                trees.extend(system(&path, &path).stage("clone host directories")?);
            }
        }
        Ok(Self(trees))
    }

    /// Shows what belongs to the host's users as belonging to the same ids inside, where `inside`
    /// is: only then the inside's root may write over it.
    pub(super) fn map_ids(&self, inside: Pid) -> io::Result<()> {
        let user = fs::File::open(format!("/proc/{}/ns/user", inside.as_raw_nonzero()))?;
        for tree in &self.0 {
            if let What::Dir(mount) = &tree.what {
                map_ids(mount, &user)?;
            }
        }
        Ok(())
    }

    /// The read-only system alone, for tools that run as `user`.
    pub(super) fn without_devices(root: &Root, user: u32) -> Result<Self, Step> {
        let mut trees = Vec::new();
        match root {
            Root::Host { dirs } => {
                for dir in dirs {
                    trees.extend(system(dir, dir).stage("clone host directories")?);
                }
                trees.extend(etc::made_up(user));
                for path in etc::lent() {
                    trees.extend(system(&path, &path).stage("clone host directories")?);
                }
            }
            Root::Image { dir } => trees.extend(image(dir).stage("clone image directories")?),
        }
        Ok(Self(trees))
    }

    /// Adds this very program, its loader and its libraries below `dir`.
    pub(super) fn add_program(&mut self, dir: &Path, program: &Program) -> io::Result<()> {
        let dir = dir.strip_prefix("/").unwrap_or(dir);
        let mut add = |at: PathBuf, path: &Path| {
            let what = What::File(lend(path, RDONLY | NOSUID | NODEV)?);
            self.0.push(Tree { at, what });
            io::Result::Ok(())
        };
        add(dir.join(PROGRAM), Path::new("/proc/self/exe"))?;
        if let Some(interpreter) = &program.interpreter {
            add(dir.join(LOADER), interpreter)?;
        }
        for library in &program.libraries {
            if let Some(name) = library.file_name() {
                add(dir.join(LIBRARIES).join(name), library)?;
            }
        }
        Ok(())
    }
}

/// A read-only system path at the same place inside; nothing where the host has nothing.
fn system(path: &Path, at: &Path) -> io::Result<Option<Tree>> {
    let at = at.strip_prefix("/").unwrap_or(at).to_owned();
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let what = if kind.is_symlink() {
        What::Link(fs::read_link(path)?)
    } else if kind.is_dir() {
        What::Dir(lend(path, RDONLY | NOSUID | NODEV)?)
    } else if kind.is_file() {
        What::File(lend(path, RDONLY | NOSUID | NODEV)?)
    } else {
        return Ok(None);
    };
    Ok(Some(Tree { at, what }))
}

fn image(dir: &Path) -> io::Result<Vec<Tree>> {
    let mut trees = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        trees.extend(system(&entry.path(), Path::new(&name))?);
    }
    Ok(trees)
}

/// A detached mount of `path` and all below it with `attributes` added.
pub(super) fn lend(path: &Path, attributes: u64) -> io::Result<OwnedFd> {
    let recursive = OpenTreeFlags::AT_RECURSIVE;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | recursive;
    let fd = open_tree(CWD, path, flags)?;
    set_attributes(&fd, attributes, true)?;
    Ok(fd)
}

/// Adds mount attributes to a mount, or to all below it.
pub(super) fn set_attributes(mount: &OwnedFd, attributes: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    set(mount, &attr, recursive)
}

/// Maps the owners of what a mount shows as the user namespace does. The mount must not have been
/// attached yet.
fn map_ids(mount: &OwnedFd, user: &fs::File) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user.as_raw_fd().unsigned_abs().into(),
    };
    set(mount, &attr, false)
}

fn set(mount: &OwnedFd, attr: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is a static C string and `attr` outlives the call, its size given.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr,
            size_of::<libc::mount_attr>(),
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
