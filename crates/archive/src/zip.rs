//! Zip.

use std::io::{Read, Seek};

use zip::read::Config;
use zip::result::ZipError;
// Outside the crate's promise of stability, and worth it: the stable reader indexes every member before
// one can count them.
use zip::ZipReadOptions;
use zip::unstable::read::ZipIterable;

use crate::error::ArchiveError;
use crate::read::{Claim, Walk};

/// File type bits of a Unix mode, and the two types that are kept.
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// Walks the central directory. Local headers must say the same, and no two members may share
/// bytes, so that nobody sees another archive in the same file than we do.
pub(crate) fn walk<R: Read + Seek>(archive: R, walk: &mut Walk<'_>) -> Result<(), ArchiveError> {
    let config = Config::default();
    let mut archive = ZipIterable::try_new(archive, config)
        .map_err(damaged)?
        .enforce_header_consistency(true);
    walk.check_members(archive.len())?;
    let mut entries = Vec::with_capacity(archive.len());
    for entry in archive.files().map_err(damaged)? {
        entries.push(entry.map_err(damaged)?);
    }
    let mut ranges: Vec<_> = entries
        .iter()
        .map(|e| (e.header_start(), e.compressed_size()))
        .collect();
    ranges.sort_unstable();
    let overlap = |pair: &[(u64, u64)]| pair[0].0.saturating_add(pair[0].1) >= pair[1].0;
    if ranges.windows(2).any(overlap) {
        return Err(ArchiveError::Damaged("members overlap".to_owned()));
    }
    for entry in entries {
        if entry.encrypted() {
            return Err(ArchiveError::Unsupported("encryption"));
        }
        let name = entry.name_raw().to_vec();
        let claim = claim(&name, entry.unix_mode());
        let files = archive.files().map_err(damaged)?;
        let mut file = entry
            .with_reader(files.reader_mut(), ZipReadOptions::new())
            .map_err(damaged)?;
        let mut bytes = Counted {
            inner: &mut file,
            failure: None,
        };
        let taken = walk.member(&name, claim, &mut bytes);
        // A checksum that is wrong, a stream that ends early: the archive's fault, not the disk's.
        match bytes.failure {
            Some(why) => return Err(ArchiveError::Damaged(why)),
            None => taken?,
        }
    }
    Ok(())
}

fn claim(name: &[u8], mode: Option<u32>) -> Claim {
    let mode = mode.unwrap_or(0);
    match mode & TYPE {
        0 | REGULAR if name.ends_with(b"/") => Claim::Directory,
        DIRECTORY => Claim::Directory,
        0 | REGULAR => Claim::File {
            executable: mode & 0o111 != 0,
        },
        _ => Claim::Special,
    }
}

fn damaged(error: ZipError) -> ArchiveError {
    match error {
        ZipError::UnsupportedArchive(_) => ArchiveError::Unsupported("a feature of zip"),
        ZipError::CompressionMethodNotSupported(_) => {
            ArchiveError::Unsupported("a compression other than deflate")
        }
        ZipError::InvalidPassword => ArchiveError::Unsupported("encryption"),
        other => ArchiveError::Damaged(other.to_string()),
    }
}

/// Remembers why the archive could not be read, which the callback's error would hide.
struct Counted<R> {
    inner: R,
    failure: Option<String>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer);
        if let Err(error) = &read
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            self.failure = Some(error.to_string());
        }
        read
    }
}
