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
            // gVisor before 2024.
            Err(Errno::NOSYS) => return step_by_step(dir, path, flags, mode).map_err(problem),
            other => return other.map_err(problem),
        }
    }
    Err(FileProblem::Io)
}

/// The same where the kernel has no `openat2`: one name at a time, each opened as what it is, so
/// that there is no link to follow. `path` has no `..` (see [`Roots::locate`]).
fn step_by_step(dir: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(dir, ".", step, Mode::empty())?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        let part: &Path = part.as_ref();
        at = rustix::fs::openat(&at, part, step, Mode::empty())?;
    }
    let name: &Path = path.file_name().unwrap_or(path.as_os_str()).as_ref();
    rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW, mode)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn without_openat2_no_link_is_followed_either() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/file"), "x").unwrap();
        symlink("a", at("link")).unwrap();
        symlink("file", at("a/b/alias")).unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        let open = |path: &str| step_by_step(&root, Path::new(path), OFlags::RDONLY, Mode::empty());
        open(".").unwrap();
        open("a/b/file").unwrap();
        open("a/./b").unwrap();
        for through_a_link in ["link/b/file", "a/b/alias", "link"] {
            assert!(open(through_a_link).is_err(), "{through_a_link}");
        }
        assert_eq!(open("a/c/file").unwrap_err(), Errno::NOENT);
    }
}
