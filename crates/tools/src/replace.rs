//! Writing a whole file: into a new file beside the old, then renamed over it, so that a full disk
//! or a kill leaves the old contents. Where that would lose something (hard links, an owner, a
//! directory that may not be written) the file is overwritten in place.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use freehold_base::{Entropy, SystemEntropy};
use rustix::fs::{
    Access, AtFlags, FileType, Mode, OFlags, Stat, accessat, fchmod, fstat, ftruncate, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::file::FILE;

/// Why a file could not be written.
pub(crate) enum Refused {
    /// A pipe, a socket or a device has the name.
    NotRegular,
    /// The system said no.
    Io(io::Error),
}

impl<E: Into<io::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

/// Makes `bytes` the contents of the file `name` in `dir`. A new file gets the usual mode, an old
/// one keeps its own.
pub(crate) fn replace(dir: &OwnedFd, name: &OsStr, bytes: &[u8]) -> Result<(), Refused> {
    let old = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Some(stat),
        Err(Errno::NOENT) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(old) = &old {
        match FileType::from_raw_mode(old.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR.into()),
            // It was no link when the path was resolved.
            FileType::Symlink => return Err(Errno::LOOP.into()),
            _ => return Err(Refused::NotRegular),
        }
        accessat(dir, name, Access::WRITE_OK, AtFlags::EACCESS)?;
        if old.st_nlink > 1 {
            return in_place(dir.as_fd(), name, bytes);
        }
    }
    match beside(dir.as_fd(), name, bytes, old.as_ref()) {
        Err(Errno::ACCESS | Errno::PERM | Errno::BUSY | Errno::XDEV) if old.is_some() => {
            in_place(dir.as_fd(), name, bytes)
        }
        done => Ok(done?),
    }
}

fn in_place(dir: BorrowedFd<'_>, name: &OsStr, bytes: &[u8]) -> Result<(), Refused> {
    let fd = openat(dir, name, OFlags::WRONLY | FILE, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(Refused::NotRegular);
    }
    ftruncate(&fd, 0)?;
    Ok(File::from(fd).write_all(bytes)?)
}

/// Writes a new file and renames it to `name`; on failure nothing stays behind.
fn beside(
    dir: BorrowedFd<'_>,
    name: &OsStr,
    bytes: &[u8],
    old: Option<&Stat>,
) -> Result<(), Errno> {
    let temporary = temporary_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | FILE;
    let fd = openat(dir, &temporary, flags, Mode::from_raw_mode(0o666))?;
    let fill = || {
        if let Some(old) = old {
            let new = fstat(&fd)?;
            if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
                return Err(Errno::PERM);
            }
            fchmod(&fd, Mode::from_raw_mode(old.st_mode & 0o7777))?;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&fd, rest) {
                Ok(0) => return Err(Errno::IO),
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        renameat(dir, &temporary, dir, name)
    };
    fill().inspect_err(|_| {
        // The first failure is the one to tell; a file left behind is all this can add.
        let _ = unlinkat(dir, &temporary, AtFlags::empty());
    })
}

fn temporary_name() -> String {
    format!(".freehold-{}.tmp", SystemEntropy.hex(8))
}
