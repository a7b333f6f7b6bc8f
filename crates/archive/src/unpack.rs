//! Unpacking into a folder.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::ArchiveError;
use crate::read::{Content, Rules, read};

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Links, devices and the like that were left out.
    pub skipped: usize,
}

/// Unpacks an archive as the folder `to`: whole or not at all (but for a host that loses power),
/// replacing what is there. If all of
/// it lies in one folder, that folder is what `to` becomes. Files are 0755 if the archive says
/// executable, otherwise 0644; folders are 0755.
///
/// The folder that `to` is made in must exist, and nobody hostile may write to it.
///
/// # Errors
/// See [`ArchiveError`]; what `to` was is then still there.
pub fn unpack<R: Read + Seek>(
    archive: R,
    to: &Path,
    rules: Rules,
) -> Result<Unpacked, ArchiveError> {
    let beside = to.parent().unwrap_or(Path::new("."));
    // Removed when dropped, with all that was unpacked so far.
    let staging = tempfile::Builder::new()
        .prefix(".unpack-")
        .tempdir_in(beside)
        .map_err(ArchiveError::io("make a folder to unpack to"))?;
    let root = staging.path().join("new");
    directory(&root).map_err(ArchiveError::io("make a folder to unpack to"))?;
    let mut unpacked = Unpacked::default();
    unpacked.skipped = read(archive, rules, &mut |member| {
        let path = root.join(&member.path);
        match member.content {
            Content::Directory => directories(&root, &path),
            Content::File { executable, bytes } => {
                directories(&root, path.parent().unwrap_or(&root))?;
                unpacked.files += 1;
                unpacked.bytes += file(&path, executable, bytes)?;
                Ok(())
            }
        }
    })?;
    let top = only_folder(&root).map_err(ArchiveError::io("look at what was unpacked"))?;
    replace(&top, to, &staging.path().join("old")).map_err(ArchiveError::io("place the folder"))?;
    Ok(unpacked)
}

/// The one folder that holds everything, or the root.
fn only_folder(root: &Path) -> io::Result<PathBuf> {
    let mut entries = fs::read_dir(root)?;
    let first = entries.next().transpose()?;
    match (first, entries.next()) {
        (Some(only), None) if only.file_type()?.is_dir() => Ok(only.path()),
        _ => Ok(root.to_owned()),
    }
}

/// Puts `new` where `to` is; the old one goes to `aside`.
fn replace(new: &Path, to: &Path, aside: &Path) -> io::Result<()> {
    match fs::rename(to, aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::rename(new, to)
}

fn directories(root: &Path, path: &Path) -> Result<(), ArchiveError> {
    let below: Vec<_> = path
        .ancestors()
        .take_while(|p| *p != root)
        .filter(|p| !p.is_dir())
        .collect();
    for folder in below.into_iter().rev() {
        directory(folder).map_err(ArchiveError::io("make a folder"))?;
    }
    Ok(())
}

fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)?;
    // Whatever the umask.
    fs::set_permissions(path, Permissions::from_mode(0o755))
}

fn file(path: &Path, executable: bool, bytes: &mut dyn Read) -> Result<u64, ArchiveError> {
    let mode = if executable { 0o755 } else { 0o644 };
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(ArchiveError::io("make a file"))?;
    let copied = io::copy(bytes, &mut file).map_err(ArchiveError::io("write a file"))?;
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(ArchiveError::io("write a file"))?;
    Ok(copied)
}
