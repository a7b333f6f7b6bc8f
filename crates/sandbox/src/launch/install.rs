//! A system that packages can be installed into: what is written goes to one folder of the store,
//! which is a layer for other sandboxes afterwards. All paths are relative to the new root, which is
//! the current directory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::Path;

use rustix::mount::MountAttrFlags;

use super::etc::DPKG;
use super::folders::{EMPTY, WORK};
use super::layers::{STORE, writable};
use super::mounts::{attach, make_dir};
use super::overlay::{Upper, overlay};
use super::tree::OWN;
use crate::spec::LAYER;

/// Where programs that belong to no system are put, and the only place that is open to an ordinary
/// user.
const OPT: &str = "opt";
/// Where programs note things, and what they expect there.
const VAR: &str = "var";
const EXPECTED: [&str; 4] = ["cache", "lib", "log", "spool"];
/// Largest file of a made-up directory that is copied, bytes.
const MAX_COPY: u64 = 4 << 20;
/// Directories within directories that are copied.
const MAX_DEPTH: usize = 16;

const FLAGS: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);

/// Makes `/opt` writable and, if the inside's root may write over it (`whole`), the rest of the
/// system.
pub(super) fn open_up(root: &OwnedFd, own_disk: bool, whole: bool) -> io::Result<()> {
    if whole {
        if !is_lent(root, VAR)? {
            for dir in EXPECTED {
                make_dir(root, &Path::new(VAR).join(dir))?;
            }
        }
        for name in system()? {
            open_up_one(root, &name)?;
        }
    }
    if !whole || !Path::new(OPT).is_dir() {
        let folder = format!("{LAYER}/{OPT}");
        for dir in [&folder, &format!("{WORK}/{folder}")] {
            make(&format!("{STORE}/{dir}"))?;
        }
        writable(root, own_disk, 0, (&folder, OPT))?;
    }
    Ok(())
}

/// Whether a directory is the host's or an image's own, and not made up.
fn is_lent(root: &OwnedFd, name: &str) -> io::Result<bool> {
    Ok(fs::symlink_metadata(name)?.dev() != rustix::fs::fstat(root)?.st_dev)
}

/// The system's directories, by name.
fn system() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(".")? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let plain = !name.contains([':', ',', '\\']) && !name.starts_with('.');
        if plain && entry.file_type()?.is_dir() && !OWN.contains(&name.as_str()) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Lays a folder over one of them.
fn open_up_one(root: &OwnedFd, name: &str) -> io::Result<()> {
    let lent = is_lent(root, name)?;
    let lower = if lent {
        name.to_owned()
    } else {
        // An overlay does not see what is attached in it.
        let copy = format!("{STORE}/{WORK}/{LAYER}/{name}-base");
        copy_tree(Path::new(name), Path::new(&copy), 0)?;
        copy
    };
    let notes = Path::new(DPKG.trim_start_matches('/'));
    let notes = (!lent && notes.starts_with(name) && notes.is_dir()).then_some(notes);
    // Attached there so far, and hidden by what is laid over now. They are needed to install, and
    // no part of what is shown to others.
    let scratch = format!("{WORK}/{LAYER}/{name}-notes");
    let known = notes.map(|at| laid(&at.to_string_lossy(), &scratch, "notes"));
    let known = known.transpose()?;
    attach(
        &laid(&lower, &format!("{LAYER}/{name}"), name)?,
        root,
        Path::new(name),
    )?;
    if let (Some(known), Some(at)) = (known, notes) {
        make_dir(root, at)?;
        attach(&known, root, at)?;
    }
    Ok(())
}

/// `lower` with what is written going to a folder of the store.
fn laid(lower: &str, folder: &str, work: &str) -> io::Result<OwnedFd> {
    let dir = format!("{STORE}/{folder}");
    let work = format!("{STORE}/{WORK}/{LAYER}/{work}");
    make(&dir)?;
    make(&work)?;
    let upper = Upper {
        dir: &dir,
        work: &work,
    };
    let lower = [lower.to_owned(), format!("{STORE}/{EMPTY}")];
    overlay(&lower, Some(upper), FLAGS)
}

fn make(dir: &str) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Copies directories, links and small files; whatever else there is, is left out, and so is what
/// cannot be read or names a password.
fn copy_tree(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    fs::create_dir(to)?;
    if depth == MAX_DEPTH || from == Path::new(DPKG.trim_start_matches('/')) {
        return Ok(());
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&path, &to, depth + 1)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&path)?, &to)?;
        } else if kind.is_file() && entry.metadata()?.len() <= MAX_COPY {
            let mut text = Vec::new();
            let read =
                File::open(&path).and_then(|file| file.take(MAX_COPY).read_to_end(&mut text));
            if read.is_ok() && !names_password(&text) {
                File::create_new(&to)?.write_all(&text)?;
            }
        }
    }
    Ok(())
}

/// Whether a URL in it has a user's name, as the source of a package manager may.
fn names_password(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(|c: char| c == '/' || c.is_whitespace()).next();
        authority.is_some_and(|a| a.contains('@'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_seen() {
        for text in ["deb https://u:p@h.test/x y", "a\nURIs: http://token@h.test"] {
            assert!(names_password(text.as_bytes()), "{text}");
        }
        for text in ["deb https://h.test/a@b x", "# mail a@b.test", "://", ""] {
            assert!(!names_password(text.as_bytes()), "{text}");
        }
    }
}
