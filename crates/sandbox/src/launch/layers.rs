//! Layers over the base system, and the folders that are written to. All paths are relative to the
//! new root, which is the current directory.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::MountAttrFlags;

use super::folders::{EMPTY, WORK};
use super::mounts::{attach, attach_securely, clone_of, make_dir};
use super::overlay::{Upper, overlay};
use super::tree::OWN;

/// Where the store is attached while the sandbox is built.
pub(super) const STORE: &str = ".store";
/// Where layers are, by number.
pub(super) const LAYERS: &str = ".layers";

/// Largest single file below a layer's `/etc` that is taken over, bytes; they are held in memory.
const MAX_COPY: u64 = 64 * 1024;

const FLAGS: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const READ_ONLY: MountAttrFlags = FLAGS.union(MountAttrFlags::MOUNT_ATTR_RDONLY);

/// Puts `count` layers over the system directories; which those are.
pub(super) fn lay_over(root: &OwnedFd, count: usize) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for layer in 0..count {
        for entry in fs::read_dir(format!("{LAYERS}/{layer}"))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let plain = !name.contains([':', ',', '\\']) && !OWN.contains(&name.as_str());
            if plain && entry.file_type()?.is_dir() && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    for name in &names {
        if name == "etc" {
            add_to_etc(root, count)?;
            continue;
        }
        let base = match fs::symlink_metadata(name) {
            Ok(base) if base.is_dir() => true,
            // `/bin` of a system that keeps it in `/usr`, for example.
            Ok(_) => continue,
            Err(_) => false,
        };
        let mut lower = having(count, name);
        lower.extend(base.then(|| name.clone()));
        let tree = read_only(lower)?;
        make_dir(root, Path::new(name))?;
        attach(&tree, root, Path::new(name))?;
    }
    Ok(names)
}

/// Gives the system directories, but those that layers were `laid` over, inodes of the sandbox's own, by an overlay.
/// On the host's inodes the inside could watch (inotify) what the host and other sandboxes open and
/// run, and hold locks that they wait for.
pub(super) fn set_apart(root: &OwnedFd, laid: &[String]) -> io::Result<()> {
    let own = fs::metadata(".")?.dev();
    for entry in fs::read_dir(".")? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let meta = fs::symlink_metadata(name)?;
        let system = !OWN.contains(&name) && !matches!(name, "etc" | STORE | LAYERS);
        let done = laid.iter().any(|laid| laid == name);
        if !system || done || !meta.is_dir() || meta.dev() == own {
            continue;
        }
        match read_only(vec![name.to_owned()]) {
            Ok(tree) => attach(&tree, root, Path::new(name))?,
            // A host whose own system is too many overlays already: the inside can see what is
            // opened, and nothing else.
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// What never changes, as an overlay: a mount of the directory itself would say where it lies.
fn read_only(mut lower: Vec<String>) -> io::Result<OwnedFd> {
    if lower.len() == 1 {
        lower.push(format!("{STORE}/{EMPTY}"));
    }
    overlay(&lower, None, READ_ONLY)
}

/// Layers that have the directory `name`, topmost first.
fn having(count: usize, name: &str) -> Vec<String> {
    let at = |layer| format!("{LAYERS}/{layer}/{name}");
    let is_dir = |path: &String| fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
    (0..count).rev().map(at).filter(is_dir).collect()
}

/// What layers have in `/etc` and the base has not: the base's is made of single files. Directories
/// of both are laid over one another.
fn add_to_etc(root: &OwnedFd, count: usize) -> io::Result<()> {
    let own = rustix::fs::fstat(root)?.st_dev;
    for dir in having(count, "etc") {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let at = PathBuf::from("etc").join(entry.file_name());
            let kind = entry.file_type()?;
            if let Ok(base) = fs::symlink_metadata(&at) {
                let name = at.to_str().filter(|p| !p.contains([':', ',', '\\']));
                // What is on the root itself has others' files attached in it.
                if let (true, true, Some(name)) =
                    (base.is_dir() && base.dev() != own, kind.is_dir(), name)
                {
                    let mut lower = having(count, name);
                    lower.push(name.to_owned());
                    attach(&read_only(lower)?, root, &at)?;
                }
                continue;
            }
            if kind.is_symlink() {
                rustix::fs::symlinkat(fs::read_link(entry.path())?, root, &at)?;
            } else if kind.is_dir() {
                let path = entry.path().into_os_string().into_string();
                let Some(path) = path.ok().filter(|p| !p.contains([':', ',', '\\'])) else {
                    continue;
                };
                make_dir(root, &at)?;
                attach(&read_only(vec![path])?, root, &at)?;
            } else if kind.is_file() && entry.metadata()?.len() <= MAX_COPY {
                // A file cannot be the lower part of an overlay.
                let target = super::mounts::make_file(root, &at, "")?;
                io::copy(&mut fs::File::open(entry.path())?, &mut &target)?;
            }
        }
    }
    Ok(())
}

/// Shows the store's folder `name` at `at`; whether its mount says nothing of where it lies.
///
/// On a file system of the sandbox's own a plain piece of it will do. Otherwise an overlay with
/// nothing below hides the path.
pub(super) fn writable(
    root: &OwnedFd,
    own_disk: bool,
    layers: usize,
    (name, at): (&str, &str),
) -> io::Result<bool> {
    let at = at.trim_start_matches('/');
    let dir = format!("{STORE}/{name}");
    let mut lower = having(layers, at);
    let needed = !lower.is_empty();
    if !needed {
        lower.push(format!("{STORE}/{}", EMPTY));
    }
    let laid = if own_disk && !needed {
        None
    } else {
        let work = format!("{STORE}/{}/{name}", WORK);
        let upper = Upper {
            dir: &dir,
            work: &work,
        };
        match overlay(&lower, Some(upper), FLAGS) {
            Ok(tree) => Some(tree),
            Err(e) if needed => return Err(e),
            // A file system that cannot be the upper one, an overlay for example.
            Err(_) => None,
        }
    };
    let hidden = own_disk || laid.is_some();
    let tree = laid.map_or_else(|| clone_of(&dir), Ok)?;
    attach_securely(&tree, root, at)?;
    Ok(hidden)
}

/// Forgets where store and layers were attached.
pub(super) fn tidy(count: usize) -> io::Result<()> {
    let detach = |at: &str| -> io::Result<()> {
        rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH)?;
        fs::remove_dir(at)
    };
    for layer in 0..count {
        detach(&format!("{LAYERS}/{layer}"))?;
    }
    if count > 0 {
        rustix::fs::unlinkat(CWD, LAYERS, rustix::fs::AtFlags::REMOVEDIR)?;
    }
    detach(STORE)
}
