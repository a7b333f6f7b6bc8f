//! Why an archive was not taken.

use std::io;

/// What is wrong with a member's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// It starts at the root.
    #[error("is absolute")]
    Absolute,
    /// It goes up.
    #[error("goes up with `..`")]
    Parent,
    /// It names nothing.
    #[error("is empty")]
    Empty,
    /// A part or the whole is too long.
    #[error("is too long")]
    Long,
    /// Too many folders in each other.
    #[error("is too deep")]
    Deep,
    /// Its bytes are no UTF-8.
    #[error("is not UTF-8")]
    Encoding,
    /// It holds a control character or a backslash.
    #[error("holds a control character or a backslash")]
    Character,
}

/// Why an archive was not taken. The text is fit for whoever sent it.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Neither zip nor tar nor gzipped tar.
    #[error("the file is neither a zip nor a tar nor a gzipped tar archive")]
    Format,
    /// It is cut off, contradicts itself, or is damaged.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// A member is encrypted or compressed in a way that is not supported.
    #[error("the archive uses {0}, which is not supported")]
    Unsupported(&'static str),
    /// More members than allowed.
    #[error("the archive has more than {limit} members")]
    TooManyMembers {
        /// How many are.
        limit: usize,
    },
    /// More bytes than allowed.
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// How many are.
        limit: u64,
    },
    /// It unpacks to far more than was sent.
    #[error("the archive unpacks to more than {ratio} times its size")]
    Bomb {
        /// How many times would be allowed.
        ratio: u64,
    },
    /// A path is not one that is unpacked.
    #[error("the path of member `{member}` {problem}")]
    Path {
        /// The path, shortened and made printable.
        member: String,
        /// Why not.
        problem: PathProblem,
    },
    /// Two members want the same place, perhaps only where case does not count.
    #[error("member `{member}` is in the way of another one")]
    Collision {
        /// The later one.
        member: String,
    },
    /// A member is a link, a device or the like.
    #[error("member `{member}` is neither a regular file nor a directory")]
    Special {
        /// Its path.
        member: String,
    },
    /// What was unpacked could not be kept.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl ArchiveError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// Characters of a member's path that an error repeats.
const MAX_ECHO: usize = 100;

/// A member's path as an error shows it.
pub(crate) fn echo(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let mut shown: String = text
        .chars()
        .take(MAX_ECHO)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MAX_ECHO).is_some() {
        shown.push('…');
    }
    shown
}
