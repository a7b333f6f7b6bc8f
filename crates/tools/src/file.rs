//! Opening what a path was resolved to, name by name from its root and never through a link, so
//! that a directory swapped for a link after the check makes the call fail, not escape. Only
//! regular files are opened: a pipe or a device could block a call for ever.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::path::Place;

/// How directories on the way are held: enough to go on from, not to read.
const STEP: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// How files are opened, beside the access mode.
pub(crate) const FILE: OFlags = OFlags::NONBLOCK
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// What stands at a place.
pub(crate) enum Found {
    /// A regular file, open for reading, and its size in bytes.
    File(File, u64),
    /// A directory, held, not readable by itself.
    Directory(OwnedFd),
    /// Anything else: a pipe, a socket, a device.
    Other,
}

/// Opens the regular file or directory at `place`.
pub(crate) fn open(place: &Place) -> io::Result<Found> {
    let root = openat(CWD, &place.root, STEP, Mode::empty())?;
    let Some((parents, last)) = place.names() else {
        return Ok(Found::Directory(root));
    };
    let dir = parents.into_iter().try_fold(root, step)?;
    match file_type(&dir, last)? {
        FileType::Directory => Ok(Found::Directory(step(dir, last)?)),
        FileType::RegularFile => match open_regular(&dir, last)? {
            Some((file, size)) => Ok(Found::File(file, size)),
            None => Ok(Found::Other),
        },
        // It was no link when the path was resolved.
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Ok(Found::Other),
    }
}

/// The regular file at `place`; `None` if what is there is something else.
pub(crate) fn open_file(place: &Place) -> io::Result<Option<(File, u64)>> {
    Ok(match open(place)? {
        Found::File(file, size) => Some((file, size)),
        Found::Directory(_) | Found::Other => None,
    })
}

/// The directory that holds the last name of `place`, made with its parents if missing.
pub(crate) fn make_parents(place: &Place) -> io::Result<OwnedFd> {
    let root = openat(CWD, &place.root, STEP, Mode::empty())?;
    let (parents, _) = place.names().ok_or(Errno::ISDIR)?;
    let count = parents.len();
    parents
        .into_iter()
        .enumerate()
        .try_fold(root, |dir, (index, name)| {
            match openat(&dir, name, STEP, Mode::empty()) {
                Err(Errno::NOENT) => match mkdirat(&dir, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => step(dir, name),
                    Err(error) => Err(error.into()),
                },
                // What making the innermost directory says when a file has its name.
                Err(Errno::NOTDIR) if index + 1 == count => Err(Errno::EXIST.into()),
                opened => Ok(opened?),
            }
        })
}

/// The regular file `name` of `dir`, open for reading, and its size; `None` if it is anything else.
/// Never blocks and never follows a link.
pub(crate) fn open_regular(dir: impl AsFd, name: &OsStr) -> io::Result<Option<(File, u64)>> {
    // Looked at first: opening a device can have effects of its own.
    if file_type(&dir, name)? != FileType::RegularFile {
        return Ok(None);
    }
    let fd = openat(&dir, name, OFlags::RDONLY | FILE, Mode::empty())?;
    let stat = fstat(&fd)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then(|| {
        (
            File::from(fd),
            u64::try_from(stat.st_size).unwrap_or_default(),
        )
    }))
}

/// The directory `name` of `dir`.
pub(crate) fn step(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(openat(dir, name, STEP, Mode::empty())?)
}

fn file_type(dir: impl AsFd, name: &OsStr) -> io::Result<FileType> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// All of `file` if that is at most `limit` bytes, else `Err` with the bytes it has at least; a file
/// may grow after its size was read.
pub(crate) fn read_whole(file: File, limit: u64) -> io::Result<Result<Vec<u8>, u64>> {
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes)?;
    Ok(if read as u64 > limit {
        Err(read as u64)
    } else {
        Ok(bytes)
    })
}
