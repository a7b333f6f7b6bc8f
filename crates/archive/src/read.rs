//! Walking through an archive.

use std::io::{Read, Seek, SeekFrom};

use crate::error::{ArchiveError, echo};
use crate::meter::Meter;
use crate::path::{MemberPath, Places};
use crate::{Limits, tar, zip};

/// How an archive is read.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Its bounds.
    pub limits: Limits,
    /// What becomes of links, devices, fifos and sparse files.
    pub special: Special,
}

/// What becomes of a member that is neither a regular file nor a directory. None is ever made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// The archive is refused.
    Refuse,
    /// It is left out.
    Skip,
}

/// A member with content.
pub struct Member<'a> {
    /// Where it goes.
    pub path: MemberPath,
    /// What it is.
    pub content: Content<'a>,
}

/// What a member is.
pub enum Content<'a> {
    /// A directory, which may be empty or named before or after what it holds.
    Directory,
    /// A file.
    File {
        /// Whether any execute bit is set.
        executable: bool,
        /// Its bytes.
        bytes: &'a mut dyn Read,
    },
}

/// What is done with each member.
pub(crate) type Each<'e> = dyn FnMut(Member<'_>) -> Result<(), ArchiveError> + 'e;

/// Gives each member to `each`, in the archive's order; returns how many special ones were left
/// out. What `each` keeps is good only if the whole archive is.
///
/// # Errors
/// See [`ArchiveError`], or what `each` gave.
pub fn read<R: Read + Seek>(
    mut archive: R,
    rules: Rules,
    each: &mut Each<'_>,
) -> Result<usize, ArchiveError> {
    let broken = |error: std::io::Error| ArchiveError::Damaged(error.to_string());
    let size = archive.seek(SeekFrom::End(0)).map_err(broken)?;
    archive.rewind().map_err(broken)?;
    let mut head = Vec::with_capacity(HEAD);
    let start = (&mut archive).take(HEAD as u64).read_to_end(&mut head);
    start.map_err(broken)?;
    archive.rewind().map_err(broken)?;
    let mut walk = Walk {
        rules,
        size,
        meter: Meter::new(rules.limits.bytes, rules.limits.ratio, size),
        places: Places::default(),
        members: 0,
        skipped: 0,
        each,
    };
    let walked = match Format::of(&head)? {
        Format::Zip => zip::walk(archive, &mut walk),
        Format::Tar => tar::walk(archive, &mut walk),
        Format::GzippedTar => tar::walk_gzipped(archive, &mut walk),
    };
    // A reader that was stopped makes every kind of error; this is the reason for it.
    if let Some(error) = walk.meter.verdict() {
        return Err(error);
    }
    walked.map(|()| walk.skipped)
}

/// Bytes that tell a format.
const HEAD: usize = 512;

enum Format {
    Zip,
    Tar,
    GzippedTar,
}

impl Format {
    /// By the first bytes only, never by a name: a zip that begins as something else is refused.
    fn of(head: &[u8]) -> Result<Self, ArchiveError> {
        match head {
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Self::Zip),
            [0x1f, 0x8b, ..] => Ok(Self::GzippedTar),
            [b'B', b'Z', b'h', ..] => Err(ArchiveError::Unsupported("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(ArchiveError::Unsupported("xz")),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(ArchiveError::Unsupported("zstd")),
            head if head.get(257..262) == Some(b"ustar") => Ok(Self::Tar),
            _ => Err(ArchiveError::Format),
        }
    }
}

/// What a member says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Directory,
    File { executable: bool },
    Special,
}

/// The state of a walk: what the formats have in common.
pub(crate) struct Walk<'w> {
    pub(crate) rules: Rules,
    /// Bytes of the archive.
    pub(crate) size: u64,
    pub(crate) meter: Meter,
    places: Places,
    members: usize,
    skipped: usize,
    each: &'w mut Each<'w>,
}

impl Walk<'_> {
    /// Takes a member: checks it, and passes it on if it is one to keep.
    pub(crate) fn member(
        &mut self,
        raw: &[u8],
        claim: Claim,
        bytes: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        self.members += 1;
        self.check_members(self.members)?;
        // `./`, as tar names the folder it was made in.
        if claim == Claim::Directory && matches!(raw, b"." | b"./") {
            return Ok(());
        }
        let path = MemberPath::new(raw)?;
        let content = match claim {
            Claim::Special => {
                self.skipped += 1;
                return match self.rules.special {
                    Special::Skip => Ok(()),
                    Special::Refuse => Err(ArchiveError::Special { member: echo(raw) }),
                };
            }
            Claim::Directory => {
                self.places.directory(&path)?;
                return (self.each)(Member {
                    path,
                    content: Content::Directory,
                });
            }
            Claim::File { executable } => executable,
        };
        self.places.file(&path)?;
        let mut bytes = self.meter.read(bytes);
        (self.each)(Member {
            path,
            content: Content::File {
                executable: content,
                bytes: &mut bytes,
            },
        })
    }

    /// Refuses more members than allowed.
    pub(crate) fn check_members(&self, members: usize) -> Result<(), ArchiveError> {
        let limit = self.rules.limits.members;
        match members > limit {
            true => Err(ArchiveError::TooManyMembers { limit }),
            false => Ok(()),
        }
    }
}
