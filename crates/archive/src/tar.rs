//! Tar, plain or gzipped.

use std::io::{BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use tar::{Archive, EntryType};

use crate::error::ArchiveError;
use crate::meter::Meter;
use crate::read::{Claim, Walk};

/// Bytes beside content that a member may take: headers, long names, padding.
const OVERHEAD: u64 = 4 * 1024;

/// Walks a gzipped tar.
pub(crate) fn walk_gzipped<R: Read>(archive: R, walk: &mut Walk<'_>) -> Result<(), ArchiveError> {
    self::walk(MultiGzDecoder::new(BufReader::new(archive)), walk)
}

/// Walks a tar.
pub(crate) fn walk<R: Read>(archive: R, walk: &mut Walk<'_>) -> Result<(), ArchiveError> {
    // Long names are read whole into memory before they are members: the stream is bounded too.
    let limits = walk.rules.limits;
    let overhead = OVERHEAD.saturating_mul(limits.members as u64 + 1);
    let limit = limits.bytes.saturating_add(overhead);
    let stream = Meter::new(limit, limits.ratio, walk.size);
    let walked = entries(Archive::new(stream.read(archive)), walk);
    match stream.verdict() {
        Some(ArchiveError::TooLarge { .. }) => Err(ArchiveError::TooLarge {
            limit: limits.bytes,
        }),
        Some(error) => Err(error),
        None => walked,
    }
}

fn entries<R: Read>(mut archive: Archive<R>, walk: &mut Walk<'_>) -> Result<(), ArchiveError> {
    members(&mut archive, walk)?;
    // To the very end, where a gzip stream has its checksum.
    match std::io::copy(&mut archive.into_inner(), &mut std::io::sink()) {
        Ok(_) => Ok(()),
        Err(error) => Err(ArchiveError::Damaged(error.to_string())),
    }
}

fn members<R: Read>(archive: &mut Archive<R>, walk: &mut Walk<'_>) -> Result<(), ArchiveError> {
    let broken = |error: std::io::Error| ArchiveError::Damaged(error.to_string());
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let mode = entry.header().mode().unwrap_or(0);
        let claim = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => Claim::File {
                executable: mode & 0o111 != 0,
            },
            EntryType::Directory => Claim::Directory,
            EntryType::XGlobalHeader => continue,
            _ => Claim::Special,
        };
        let name = entry.path_bytes().into_owned();
        let size = entry.size();
        let mut bytes = Whole {
            inner: &mut entry,
            left: size,
            cut: false,
        };
        let taken = walk.member(&name, claim, &mut bytes);
        if bytes.cut {
            return Err(ArchiveError::Damaged(
                "it ends in the middle of a member".to_owned(),
            ));
        }
        taken?;
    }
    Ok(())
}

/// Fails where a member ends before its header says so.
struct Whole<R> {
    inner: R,
    left: u64,
    cut: bool,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer);
        match read {
            Ok(0) if self.left > 0 && !buffer.is_empty() => {
                self.cut = true;
                Err(std::io::ErrorKind::UnexpectedEof.into())
            }
            Ok(n) => {
                self.left = self.left.saturating_sub(n as u64);
                Ok(n)
            }
            Err(error) => {
                self.cut |= error.kind() != std::io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}
