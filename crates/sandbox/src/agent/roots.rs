//! Which paths the agent serves to the host, and how they are opened: below a directory held
//! open, through no symbolic link, never waiting on a pipe or device.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::FileProblem;

/// Longest path the host may name, bytes.
const MAX_PATH: usize = 4096;

/// Served directories: the path the host names, and where it really is. The two differ only
/// without isolation.
#[derive(Debug, Clone)]
pub(crate) struct Roots(Vec<(PathBuf, PathBuf)>);

/// A place below a root.
pub(crate) struct Place {
    pub root: OwnedFd,
    pub rest: PathBuf,
}

impl Roots {
    /// One of them may lie within another: the inner one counts.
    pub(crate) fn new(mut roots: Vec<(PathBuf, PathBuf)>) -> Self {
        roots.sort_by_key(|(named, _)| std::cmp::Reverse(named.components().count()));
        Self(roots)
    }

    /// Finds the root of `path` and opens it.
    pub(crate) fn locate(&self, path: &str) -> Result<Place, FileProblem> {
        if path.len() > MAX_PATH || path.contains('\0') {
            return Err(FileProblem::Outside);
        }
        let path = Path::new(path);
        let plain = path.components().all(|c| {
            matches!(
                c,
                std::path::Component::RootDir | std::path::Component::Normal(_)
            )
        });
        if !plain {
            return Err(FileProblem::Outside);
        }
        let (named, real) = self
            .0
            .iter()
            .find(|(named, _)| path.starts_with(named))
            .ok_or(FileProblem::Outside)?;
        let rest = path.strip_prefix(named).map_err(|_| FileProblem::Outside)?;
        let root = rustix::fs::open(
            real,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(problem)?;
        Ok(Place {
            root,
            rest: rest.to_owned(),
        })
    }
}

impl Place {
    /// Opens it without following any link and without blocking.
    pub(crate) fn open(&self, flags: OFlags) -> Result<OwnedFd, FileProblem> {
        open_below(&self.root, &self.rest, flags, Mode::empty())
    }
}

/// Opens `path` (empty: the directory itself) below `dir`.
pub(crate) fn open_below(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, FileProblem> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // The kernel may give up with EAGAIN while directories move about; a few tries are enough for
    // honest use, and a hostile one gets an error.
    for _ in 0..16 {
        match rustix::fs::openat2(&dir, path, flags, mode, how) {
            Err(Errno::AGAIN) => {}
            other => return other.map_err(problem),
        }
    }
    Err(FileProblem::Io)
}

/// The system's answer in our words.
pub(crate) fn problem(errno: Errno) -> FileProblem {
    match errno {
        Errno::NOENT | Errno::NOTDIR => FileProblem::NotFound,
        Errno::LOOP | Errno::ISDIR | Errno::NXIO => FileProblem::NotRegular,
        Errno::XDEV => FileProblem::Outside,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => FileProblem::Denied,
        Errno::NOSPC | Errno::DQUOT => FileProblem::NoSpace,
        Errno::FBIG => FileProblem::TooLarge,
        _ => FileProblem::Io,
    }
}
