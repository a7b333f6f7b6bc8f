//! Archives of unknown origin: zip, tar and gzipped tar in, folders or a plain zip out.
//!
//! Everything an archive says is a claim of whoever made it. A member's path is checked before
//! anything else is done with it ([`MemberPath`]), two members never meet in one place, only
//! regular files and directories have content, and what is inflated is counted while it is, never
//! taken from a header. The work done for an archive is bounded by [`Limits`] and, through
//! [`Limits::ratio`], by the bytes that were sent.
//!
//! Blocking; callers on an async runtime use its pool for such work.

mod error;
mod meter;
mod pack;
mod path;
mod read;
mod tar;
mod unpack;
mod zip;

pub use error::{ArchiveError, PathProblem};
pub use pack::{File, pack};
pub use path::{MemberPath, Places};
pub use read::{Content, Member, Rules, Special, read};
pub use unpack::{Unpacked, unpack};

/// What an archive may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Members, directories included.
    pub members: usize,
    /// Bytes of all files together, unpacked.
    pub bytes: u64,
    /// Unpacked bytes for each byte of the archive, once more than a mebibyte is unpacked.
    pub ratio: u64,
}
