//! Unpacking an archive into the kept folders. It may have been made by anyone: nothing is written
//! but plain files, directories, links and an overlay's marks, each below its folder and through no
//! link, and no more than was said.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};
use tar::{Archive, Entry, EntryType};

use super::archive::{Bounds, OPAQUE, OPAQUE_RECORD};
use super::roots::open_below;
use crate::FileProblem;

/// Longest path of an entry, bytes.
const MAX_PATH: usize = 4096;
/// Greatest memory a compressed stream may make the decoder use, as a power of two.
const MAX_WINDOW: u32 = 27;
/// Why an archive is refused.
type Refusal = String;

/// Unpacks what [`super::archive::pack`] wrote into `folders`, which must be empty.
///
/// # Errors
/// Why the archive is refused. What was written before stays: the caller throws the sandbox away.
pub(super) fn unpack(
    folders: &[(String, OwnedFd)],
    from: impl Read,
    bounds: Bounds,
) -> Result<(), Refusal> {
    let said = |e: io::Error| format!("it cannot be read: {e}");
    let mut decoder = zstd::Decoder::new(from).map_err(said)?;
    decoder.window_log_max(MAX_WINDOW).map_err(said)?;
    let mut archive = Archive::new(decoder);
    let mut unpack = Unpack {
        folders,
        left: bounds,
        directories: Vec::new(),
    };
    for entry in archive.entries().map_err(said)? {
        unpack.entry(entry.map_err(said)?)?;
    }
    unpack.finish()
}

struct Unpack<'a> {
    folders: &'a [(String, OwnedFd)],
    left: Bounds,
    /// Directories made, whose modes are set last: they may forbid writing.
    directories: Vec<(PathBuf, u32, i64)>,
}

impl Unpack<'_> {
    fn entry<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), Refusal> {
        let path = entry.path().map_err(|e| e.to_string())?.into_owned();
        let refuse = |what: &str| Err(format!("{}: {what}", path.display()));
        let header = entry.header();
        let kind = header.entry_type();
        let said = |e: io::Error| e.to_string();
        let (mode, mtime) = (
            header.mode().map_err(said)?,
            i64::try_from(header.mtime().map_err(said)?).unwrap_or(0),
        );
        if mode & !0o777 & 0o7777 != 0 {
            return refuse("a set-user-id, set-group-id or sticky bit");
        }
        let full = || format!("{}: more than a snapshot may hold", path.display());
        self.left.bytes = self.left.bytes.checked_sub(entry.size()).ok_or_else(full)?;
        self.left.entries = self.left.entries.checked_sub(1).ok_or_else(full)?;
        let opaque = opaque(&mut entry)?;
        let io = |e: FileProblem| format!("{}: {e}", path.display());
        let os = |e: rustix::io::Errno| format!("{}: {e}", path.display());
        if kind == EntryType::Directory {
            let dir = self.directory(&path)?;
            if opaque {
                rustix::fs::fsetxattr(&dir, OPAQUE, b"y", XattrFlags::empty()).map_err(os)?;
            }
            self.directories.push((path, mode, mtime));
            return Ok(());
        }
        let (parent, name) = self.parent(&path)?;
        match kind {
            EntryType::Regular => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let fd =
                    open_below(&parent, &name, flags, Mode::from_raw_mode(0o600)).map_err(io)?;
                let mut file = File::from(fd);
                let size = entry.size();
                let copied = io::copy(&mut entry, &mut file).map_err(said)?;
                if copied != size {
                    return refuse("it ends early");
                }
                rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(os)?;
                rustix::fs::futimens(&file, &times(mtime)).map_err(os)
            }
            EntryType::Symlink => {
                let target = entry.link_name().map_err(said)?;
                let target = target.ok_or("a link without a target")?.into_owned();
                // Where it points does not matter: nothing here follows it.
                rustix::fs::symlinkat(&target, &parent, &name).map_err(os)
            }
            EntryType::Link => {
                let target = entry.link_name().map_err(said)?;
                let target = target.ok_or("a link without a target")?.into_owned();
                let (from, old) = self.parent(&target)?;
                let stat =
                    rustix::fs::statat(&from, &old, AtFlags::SYMLINK_NOFOLLOW).map_err(os)?;
                if !FileType::from_raw_mode(stat.st_mode).is_file() {
                    return refuse("a hard link to something else than a file");
                }
                rustix::fs::linkat(&from, &old, &parent, &name, AtFlags::empty()).map_err(os)
            }
            EntryType::Char => {
                let device = (entry.header().device_major(), entry.header().device_minor());
                if !matches!(device, (Ok(Some(0)), Ok(Some(0)))) {
                    return refuse("a device");
                }
                rustix::fs::mknodat(&parent, &name, FileType::CharacterDevice, Mode::empty(), 0)
                    .map_err(os)
            }
            _ => refuse("neither a file, a directory nor a link"),
        }
    }

    /// The folder of a path and the rest, which is free of everything but names.
    fn locate<'p>(&self, path: &'p Path) -> Result<(&OwnedFd, &'p Path), Refusal> {
        let refuse = || format!("{}: outside the folders of a snapshot", path.display());
        let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
        let bytes = path.as_os_str().as_encoded_bytes();
        if !plain || bytes.len() > MAX_PATH || bytes.contains(&0) {
            return Err(refuse());
        }
        let mut parts = path.components();
        let first = parts.next().ok_or_else(refuse)?;
        let folder = self
            .folders
            .iter()
            .find(|(n, _)| first.as_os_str() == n.as_str());
        let (_, folder) = folder.ok_or_else(refuse)?;
        Ok((folder, parts.as_path()))
    }

    fn parent(&self, path: &Path) -> Result<(OwnedFd, PathBuf), Refusal> {
        let (folder, rest) = self.locate(path)?;
        let name = rest.file_name();
        let name = name.ok_or_else(|| format!("{}: not a directory", path.display()))?;
        let parent = rest.parent().unwrap_or(Path::new(""));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let dir = open_below(folder, parent, flags, Mode::empty())
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok((dir, PathBuf::from(name)))
    }

    /// Makes a directory, or finds that of a folder itself.
    fn directory(&self, path: &Path) -> Result<OwnedFd, Refusal> {
        let said = |e: FileProblem| format!("{}: {e}", path.display());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let (folder, rest) = self.locate(path)?;
        if rest.as_os_str().is_empty() {
            return open_below(folder, rest, flags, Mode::empty()).map_err(said);
        }
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(&parent, &name, Mode::RWXU)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        open_below(&parent, &name, flags, Mode::empty()).map_err(said)
    }

    fn finish(self) -> Result<(), Refusal> {
        // The inner ones first: an outer one may not let us through afterwards.
        for (path, mode, mtime) in self.directories.iter().rev() {
            let (folder, rest) = self.locate(path)?;
            let said = |e: rustix::io::Errno| format!("{}: {e}", path.display());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let dir = open_below(folder, rest, flags, Mode::empty())
                .map_err(|e| format!("{}: {e}", path.display()))?;
            rustix::fs::futimens(&dir, &times(*mtime)).map_err(said)?;
            rustix::fs::fchmod(&dir, Mode::from_raw_mode(*mode)).map_err(said)?;
        }
        Ok(())
    }
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Whether an entry's records mark it as opaque. Other attributes are not restored.
fn opaque<R: Read>(entry: &mut Entry<'_, R>) -> Result<bool, Refusal> {
    let Some(records) = entry.pax_extensions().map_err(|e| e.to_string())? else {
        return Ok(false);
    };
    for record in records {
        let record = record.map_err(|e| e.to_string())?;
        if record.key() == Ok(OPAQUE_RECORD) && record.value_bytes() == b"y" {
            return Ok(true);
        }
    }
    Ok(false)
}
