//! Listing regular files below a directory, whatever a hostile process made of it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags};

use super::roots::{Roots, open_below, problem};
use crate::protocol::{MAX_FILES, MAX_LISTING};
use crate::{FileEntry, FileProblem};

/// Directories within directories that are looked into.
const MAX_DEPTH: usize = 64;
/// Directory entries looked at in all, of any kind.
const MAX_SEEN: usize = 200_000;
/// Longest path reported, bytes.
const MAX_PATH: usize = 4096;

/// The files, sorted, and whether some were left out.
pub(crate) fn list(roots: &Roots, dir: &str) -> Result<(Vec<FileEntry>, bool), FileProblem> {
    let place = roots.locate(dir)?;
    let top = place.open(OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut walk = Walk {
        top,
        files: Vec::new(),
        bytes: 0,
        seen: 0,
        truncated: false,
    };
    let mut waiting = vec![(PathBuf::new(), 0)];
    while let Some((at, depth)) = waiting.pop() {
        walk.directory(&at, depth, &mut waiting);
    }
    walk.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((walk.files, walk.truncated))
}

struct Walk {
    top: OwnedFd,
    files: Vec<FileEntry>,
    bytes: usize,
    seen: usize,
    truncated: bool,
}

impl Walk {
    fn directory(&mut self, at: &Path, depth: usize, waiting: &mut Vec<(PathBuf, usize)>) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        // A directory that vanished or cannot be entered holds nothing we could serve.
        let Ok(fd) = open_below(&self.top, at, flags, Mode::empty()) else {
            self.truncated = true;
            return;
        };
        let Ok(entries) = Dir::read_from(&fd) else {
            self.truncated = true;
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            self.seen += 1;
            if self.seen > MAX_SEEN || self.files.len() >= MAX_FILES {
                self.truncated = true;
                return;
            }
            let Ok(name) = std::str::from_utf8(name) else {
                self.truncated = true;
                continue;
            };
            let path = at.join(name);
            if path.as_os_str().len() > MAX_PATH {
                self.truncated = true;
                continue;
            }
            match self.file(&fd, name, &path) {
                Ok(FileType::Directory) if depth + 1 < MAX_DEPTH => waiting.push((path, depth + 1)),
                Ok(FileType::Directory) | Err(_) => self.truncated = true,
                Ok(_) => {}
            }
        }
    }

    /// Adds the entry if it is a regular file; its type.
    fn file(&mut self, dir: &OwnedFd, name: &str, path: &Path) -> Result<FileType, FileProblem> {
        let stat = rustix::fs::statx(
            dir,
            name,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BASIC_STATS,
        )
        .map_err(problem)?;
        let kind = FileType::from_raw_mode(stat.stx_mode.into());
        if kind.is_file() {
            let path = path.to_string_lossy().into_owned();
            // With the field names, the numbers and JSON's escapes, so that it fits its frame.
            let escaped = |b: u8| match b {
                0..0x20 => 6,
                b'"' | b'\\' => 2,
                _ => 1,
            };
            self.bytes += path.bytes().map(escaped).sum::<usize>() + 100;
            if self.bytes > MAX_LISTING {
                self.truncated = true;
                return Ok(kind);
            }
            self.files.push(FileEntry {
                path,
                size: stat.stx_size,
                mtime_micros: stat
                    .stx_mtime
                    .tv_sec
                    .saturating_mul(1_000_000)
                    .saturating_add(i64::from(stat.stx_mtime.tv_nsec) / 1000),
            });
        }
        Ok(kind)
    }
}
