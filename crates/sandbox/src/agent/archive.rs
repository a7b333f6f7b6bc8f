//! The kept folders as one archive: tar, compressed with zstd. What an overlay notes about deleted
//! files (character devices 0:0) and replaced directories (an attribute) is part of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::roots::open_below;

/// The attribute that marks a directory which hides what lies below it.
pub(super) const OPAQUE: &str = "user.overlay.opaque";
/// As a record of an archive.
pub(super) const OPAQUE_RECORD: &str = "SCHILY.xattr.user.overlay.opaque";
/// Compression; higher levels cost more time than they save space.
const LEVEL: i32 = 1;
/// Directories within directories that are looked into.
const MAX_DEPTH: usize = 512;

/// Bounds of an archive's content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Sizes of files, holes included, together.
    pub bytes: u64,
    /// Entries of any kind.
    pub entries: u64,
}

/// Writes an archive of `folders`; how many entries could not be part of it: sockets, pipes, what
/// lies too deep, what vanished.
pub(super) fn pack(
    folders: &[(String, OwnedFd)],
    to: impl Write,
    bounds: Bounds,
) -> io::Result<u64> {
    let mut pack = Pack {
        out: Builder::new(zstd::Encoder::new(to, LEVEL)?),
        links: HashMap::new(),
        left: bounds,
        skipped: 0,
    };
    for (name, folder) in folders {
        pack.directory(folder, Path::new(""), Path::new(name), 0)?;
    }
    let skipped = pack.skipped;
    pack.out.into_inner()?.finish()?.flush()?;
    Ok(skipped)
}

struct Pack<W: Write> {
    out: Builder<zstd::Encoder<'static, W>>,
    /// Files with several names, and the name they are stored under.
    links: HashMap<(u64, u64), PathBuf>,
    left: Bounds,
    skipped: u64,
}

impl<W: Write> Pack<W> {
    /// A directory and all below it. `path` is below `parent`, `name` its place in the archive.
    fn directory(
        &mut self,
        parent: &OwnedFd,
        path: &Path,
        name: &Path,
        depth: usize,
    ) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = match open_below(parent, path, flags, Mode::empty()) {
            Ok(dir) if depth <= MAX_DEPTH => dir,
            _ => {
                self.skipped += 1;
                return Ok(());
            }
        };
        let stat = rustix::fs::fstat(&dir)?;
        let mut mark = [0u8; 8];
        let opaque = rustix::fs::fgetxattr(&dir, OPAQUE, &mut mark);
        if opaque.is_ok_and(|len| mark.get(..len) == Some(b"y")) {
            let record = [(OPAQUE_RECORD, &b"y"[..])];
            self.out.append_pax_extensions(record)?;
        }
        self.entry(&stat, EntryType::Directory, name, 0, io::empty())?;
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if bytes != b"." && bytes != b".." {
                let inner = Path::new(std::ffi::OsStr::from_bytes(bytes));
                self.any(&dir, inner, &name.join(inner), depth)?;
            }
        }
        Ok(())
    }

    fn any(&mut self, dir: &OwnedFd, inner: &Path, name: &Path, depth: usize) -> io::Result<()> {
        let Ok(stat) = rustix::fs::statat(dir, inner, AtFlags::SYMLINK_NOFOLLOW) else {
            self.skipped += 1;
            return Ok(());
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind.is_dir() {
            return self.directory(dir, inner, name, depth + 1);
        }
        if kind.is_symlink() {
            let target = rustix::fs::readlinkat(dir, inner, Vec::new())?;
            let target = Path::new(std::ffi::OsStr::from_bytes(target.as_bytes()));
            let mut header = self.header(&stat, EntryType::Symlink, 0)?;
            return self.out.append_link(&mut header, name, target);
        }
        if kind.is_char_device() && stat.st_rdev == 0 {
            return self.entry(&stat, EntryType::Char, name, 0, io::empty());
        }
        if !kind.is_file() {
            self.skipped += 1;
            return Ok(());
        }
        let key = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&key).cloned() {
            let mut header = self.header(&stat, EntryType::Link, 0)?;
            return self.out.append_link(&mut header, name, first);
        }
        let file = match open_below(dir, inner, OFlags::RDONLY, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(_) => match readable(dir, inner, &stat) {
                Some(file) => file,
                None => {
                    self.skipped += 1;
                    return Ok(());
                }
            },
        };
        if stat.st_nlink > 1 {
            self.links.insert(key, name.to_owned());
        }
        // It may change while it is read; the size that was announced is what is written.
        let size = stat.st_size.unsigned_abs();
        let content = file.chain(io::repeat(0)).take(size);
        self.entry(&stat, EntryType::Regular, name, size, content)
    }

    fn entry(
        &mut self,
        stat: &Stat,
        kind: EntryType,
        name: &Path,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let mut header = self.header(stat, kind, size)?;
        self.out.append_data(&mut header, name, content)
    }

    fn header(&mut self, stat: &Stat, kind: EntryType, size: u64) -> io::Result<Header> {
        let full = || io::Error::other("there is more than a snapshot may hold");
        self.left.bytes = self.left.bytes.checked_sub(size).ok_or_else(full)?;
        self.left.entries = self.left.entries.checked_sub(1).ok_or_else(full)?;
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(stat.st_mode & 0o777);
        header.set_mtime(stat.st_mtime.max(0).unsigned_abs());
        header.set_uid(0);
        header.set_gid(0);
        if kind == EntryType::Char {
            header.set_device_major(0)?;
            header.set_device_minor(0)?;
        }
        Ok(header)
    }
}

/// Opens a file that its owner, who we are, has made unreadable.
fn readable(dir: impl AsFd + Copy, name: &Path, stat: &Stat) -> Option<File> {
    let change = |mode| rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty());
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return None;
    }
    change(stat.st_mode & 0o777 | 0o400).ok()?;
    let file = open_below(dir, name, OFlags::RDONLY, Mode::empty());
    // Everything stands still, so that nobody saw the difference.
    let _ = change(stat.st_mode & 0o7777);
    file.ok().map(File::from)
}
