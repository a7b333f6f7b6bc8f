//! Going through a directory tree without following links: each directory is opened from the one
//! above it, so that nothing swapped in on the way leads out of the tree. Sorted by name.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

use crate::file::step;

/// Deepest directory that is entered; each level holds a descriptor.
const MAX_DEPTH: usize = 128;
/// Most entries looked at in one walk.
const MAX_ENTRIES: usize = 1_000_000;

/// An entry of a directory.
pub(crate) struct Entry<'a> {
    /// Its directory.
    pub(crate) dir: BorrowedFd<'a>,
    pub(crate) name: &'a OsStr,
    /// Below where the walk began.
    pub(crate) path: &'a Path,
    /// Not looked through links.
    pub(crate) kind: FileType,
}

/// What comes after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Go on, and if it is a directory, into it.
    Enter,
    /// Go on behind it.
    Pass,
    /// End the walk.
    Stop,
}

/// Who is told about a walk. A directory is entered before its entries are told and left after.
pub(crate) trait Visitor {
    /// `dir` is about to be gone through; `path` is empty for the first.
    fn enter(&mut self, _dir: BorrowedFd<'_>, _path: &Path) {}
    /// An entry other than `.` and `..`.
    fn entry(&mut self, entry: &Entry<'_>) -> Next;
    /// The directory entered last is done.
    fn leave(&mut self) {}
}

struct Level {
    dir: OwnedFd,
    entries: std::vec::IntoIter<(OsString, FileType)>,
}

/// Walks through `dir`. Directories that cannot be read are passed over, and so is what lies too
/// deep or comes after too many entries.
pub(crate) fn walk(dir: OwnedFd, visitor: &mut impl Visitor) {
    let mut room = MAX_ENTRIES;
    let mut path = PathBuf::new();
    visitor.enter(dir.as_fd(), &path);
    let mut levels = vec![level(dir, &mut room)];
    while let Some(Level { dir, entries }) = levels.last_mut() {
        let Some((name, kind)) = entries.next() else {
            levels.pop();
            path.pop();
            visitor.leave();
            continue;
        };
        path.push(&name);
        let entry = Entry {
            dir: dir.as_fd(),
            name: &name,
            path: &path,
            kind,
        };
        match visitor.entry(&entry) {
            Next::Stop => return,
            Next::Enter if kind == FileType::Directory && levels.len() < MAX_DEPTH => {
                // `levels` was only looked at since, so the last is still the same.
                let opened = levels.last().and_then(|level| step(&level.dir, &name).ok());
                if let Some(dir) = opened {
                    visitor.enter(dir.as_fd(), &path);
                    levels.push(level(dir, &mut room));
                    continue;
                }
            }
            Next::Enter | Next::Pass => {}
        }
        path.pop();
    }
}

fn level(dir: OwnedFd, room: &mut usize) -> Level {
    let mut entries = Vec::new();
    // `dir` itself is only held; reading needs a descriptor of its own.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(&dir, ".", flags, Mode::empty()).and_then(Dir::new);
    for entry in readable.into_iter().flatten().map_while(Result::ok) {
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if *room == 0 {
            break;
        }
        *room -= 1;
        let kind = match entry.file_type() {
            FileType::Unknown => match statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(_) => continue,
            },
            kind => kind,
        };
        entries.push((name.to_owned(), kind));
    }
    entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Level {
        dir,
        entries: entries.into_iter(),
    }
}
