//! From the path a model wrote to a place inside the workspace or an extra root (contract 55 §6).
//!
//! The path is resolved as text first: `.` and `..` collapse lexically, then every symbolic link is
//! followed, also a dangling one at the end, and names that do not exist yet are kept. Only then is
//! it checked. What is opened afterwards ([`crate::file`]) is the resolved path, walked from the
//! root without following links, so that nothing swapped in meanwhile leads outside.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::Workspace;
use crate::failure::{Failure, Result, quote, reason};

/// Links followed in one path before it counts as a loop.
const MAX_LINKS: usize = 40;
/// Longest resolved path, bytes (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// A checked path.
#[derive(Debug)]
pub(crate) struct Place {
    /// As the model wrote it; the only form that goes into messages.
    pub(crate) written: String,
    /// Free of links when it was resolved.
    pub(crate) full: PathBuf,
    /// The innermost root around it.
    pub(crate) root: PathBuf,
    /// Set if that root is read-only, as configured.
    pub(crate) read_only: Option<PathBuf>,
}

impl Place {
    /// The names below the root: those of the directories on the way, and the last. None for the
    /// root itself.
    pub(crate) fn names(&self) -> Option<(Vec<&OsStr>, &OsStr)> {
        let mut names: Vec<_> = self.full.strip_prefix(&self.root).ok()?.iter().collect();
        let last = names.pop()?;
        Some((names, last))
    }

    /// The failure of `op` at this place.
    pub(crate) fn failed(&self, op: &str, error: &io::Error) -> Failure {
        Failure::file(op, &self.written, error)
    }

    /// Refuses `op` under a read-only root.
    pub(crate) fn writable(&self, op: &str) -> Result<()> {
        match &self.read_only {
            None => Ok(()),
            Some(root) => Err(Failure::new(format!(
                "{op}: {} is inside read-only directory {}",
                self.written,
                root.display()
            ))),
        }
    }
}

/// Resolves `written` for the tool `op`.
pub(crate) fn resolve(workspace: &Workspace, op: &str, written: &str) -> Result<Place> {
    let bad = |why: &str| Failure::new(format!("{op}: path {}{why}", quote(written)));
    if written.contains('\0') {
        return Err(bad(": embedded null byte"));
    }
    let unreadable = |error: io::Error| bad(&format!(": {}", reason(&error)));
    let workdir = canonical(&workspace.root).map_err(unreadable)?;
    let full = canonical(&workdir.join(written)).map_err(unreadable)?;
    match innermost(workspace, workdir, &full) {
        Some((root, read_only)) => Ok(Place {
            written: written.to_owned(),
            full,
            root,
            read_only,
        }),
        None if workspace.extra_roots.is_empty() => {
            Err(bad(" is outside the session's working directory"))
        }
        None => Err(bad(
            " is outside the session's working directory and its other permitted directories",
        )),
    }
}

/// The workspace itself, where a search without a path begins.
pub(crate) fn workdir(workspace: &Workspace, op: &str) -> Result<Place> {
    resolve(workspace, op, ".")
}

/// The innermost root around `full`. Roots that cannot be resolved permit nothing.
fn innermost(
    workspace: &Workspace,
    workdir: PathBuf,
    full: &Path,
) -> Option<(PathBuf, Option<PathBuf>)> {
    let extra = workspace.extra_roots.iter().filter_map(|root| {
        let read_only = root.read_only.then(|| root.path.clone());
        Some((canonical(&root.path).ok()?, read_only))
    });
    std::iter::once((workdir, None))
        .chain(extra)
        .filter(|(root, _)| full.starts_with(root))
        .max_by_key(|(root, _)| root.as_os_str().len())
}

/// `path` with `.` and `..` collapsed lexically and all links followed. Names that do not exist are
/// kept. `path` must be absolute.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    let mut pending: VecDeque<OsString> =
        lexical(path).iter().skip(1).map(OsStr::to_owned).collect();
    let mut done = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            done.pop();
            continue;
        }
        done.push(&name);
        if done.as_os_str().len() > MAX_PATH {
            return Err(Errno::NAMETOOLONG.into());
        }
        let target = match rustix::fs::readlink(&done, Vec::new()) {
            Ok(target) => PathBuf::from(OsString::from_vec(target.into_bytes())),
            // Not a link, or nothing there: the name stands as it is, and so do names below it.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => continue,
            Err(error) => return Err(error.into()),
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        done.pop();
        if target.is_absolute() {
            done = PathBuf::from("/");
        }
        // `..` in a link is kept: it leads to the parent of where the link's text has led so far.
        for part in target.components().rev() {
            match part {
                Component::Normal(name) => pending.push_front(name.to_owned()),
                Component::ParentDir => pending.push_front("..".into()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
    }
    Ok(done)
}

/// `path`, absolute, with `.` and `..` collapsed as text.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;
    use crate::Root;

    struct Fixture {
        dir: tempfile::TempDir,
        workspace: Workspace,
    }

    /// `work/` with files and links, `store/` as an extra root, `outside/secret` beside them.
    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        for name in ["work/a/b", "store/deep", "outside"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        std::fs::write(top.join("work/a/file"), "x").unwrap();
        std::fs::write(top.join("outside/secret"), "x").unwrap();
        for (target, link) in [
            ("a/file", "work/inside"),
            ("../outside/secret", "work/out"),
            ("../outside/new", "work/dangling-out"),
            ("a/new", "work/dangling-in"),
            ("../../outside", "work/a/up"),
            ("loop2", "work/loop1"),
            ("loop1", "work/loop2"),
            ("/proc/self/root/etc/passwd", "work/magic"),
            ("../store", "work/store"),
            ("/", "work/slash"),
        ] {
            symlink(target, top.join(link)).unwrap();
        }
        let workspace = Workspace {
            root: top.join("work"),
            extra_roots: vec![],
        };
        Fixture { dir, workspace }
    }

    fn shown(fixture: &Fixture, path: &str) -> String {
        let top = fixture.dir.path().canonicalize().unwrap();
        match resolve(&fixture.workspace, "read", path) {
            Ok(place) => place.full.strip_prefix(top).unwrap().display().to_string(),
            Err(failure) => failure.0,
        }
    }

    #[test]
    fn paths_inside_resolve() {
        let f = fixture();
        for (path, full) in [
            ("", "work"),
            (".", "work"),
            ("a/file", "work/a/file"),
            ("a//./file/", "work/a/file"),
            ("missing/../a/file", "work/a/file"),
            ("inside", "work/a/file"),
            ("dangling-in", "work/a/new"),
            ("new/deeper/file", "work/new/deeper/file"),
            ("a/file/below", "work/a/file/below"),
            // Lexical first: `a/up` is a link, and `..` behind it still means `a`.
            ("a/up/../file", "work/a/file"),
        ] {
            assert_eq!(shown(&f, path), full, "{path}");
        }
        let absolute = f.workspace.root.join("a/file");
        assert_eq!(shown(&f, absolute.to_str().unwrap()), "work/a/file");
    }

    #[test]
    fn paths_outside_are_refused_however_they_get_there() {
        let mut f = fixture();
        let outside = |path: &str, more: &str| {
            format!("read: path '{path}' is outside the session's working directory{more}")
        };
        let bad = [
            "..",
            "../outside/secret",
            "/etc/passwd",
            "/",
            "out",
            "dangling-out",
            "a/up/secret",
            "slash/etc/passwd",
            "../work2",
            "../workspace/x",
            "store/deep",
            "magic",
        ];
        for path in bad {
            assert_eq!(shown(&f, path), outside(path, ""), "{path}");
        }
        let store = f.workspace.root.with_file_name("store");
        f.workspace.extra_roots.push(Root {
            path: store,
            read_only: false,
        });
        for path in bad.into_iter().filter(|path| *path != "store/deep") {
            let more = " and its other permitted directories";
            assert_eq!(shown(&f, path), outside(path, more), "{path}");
        }
        assert_eq!(shown(&f, "store/deep"), "store/deep");
    }

    #[test]
    fn loops_nulls_and_long_names_have_their_own_words() {
        let f = fixture();
        let loops = "read: path 'loop1/x': too many levels of symbolic links";
        assert_eq!(shown(&f, "loop1/x"), loops);
        assert_eq!(
            shown(&f, "a\0b"),
            "read: path 'a\\x00b': embedded null byte"
        );
        let long = "n".repeat(300);
        assert_eq!(
            shown(&f, &long),
            format!("read: path '{long}': file name too long")
        );
        let deep = "d/".repeat(3000);
        assert!(shown(&f, &deep).ends_with(": file name too long"));
    }

    #[test]
    fn the_innermost_root_decides_about_writing() {
        let mut f = fixture();
        let root = f.workspace.root.clone();
        let ro = |name: &str, read_only| Root {
            path: root.join(name),
            read_only,
        };
        f.workspace.extra_roots = vec![ro("a", true), ro("a/b", false)];
        let may = |path: &str| {
            resolve(&f.workspace, "write", path)
                .unwrap()
                .writable("write")
        };
        assert_eq!(may("x"), Ok(()));
        assert_eq!(may("a/b/x"), Ok(()));
        let refused = format!(
            "write: inside is inside read-only directory {}",
            root.join("a").display()
        );
        assert_eq!(may("inside"), Err(Failure::new(refused)));
    }

    fn hostile_path() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just(String::new()),
            Just("slash".to_owned()),
            Just("up".to_owned()),
            Just("a".to_owned()),
            Just("store".to_owned()),
            Just("proc".to_owned()),
            Just("loop1".to_owned()),
            "\\PC{0,4}",
        ];
        (any::<bool>(), prop::collection::vec(part, 0..8))
            .prop_map(|(root, parts)| format!("{}{}", if root { "/" } else { "" }, parts.join("/")))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..Default::default() })]
        #[test]
        fn no_path_ends_outside_its_root(paths in prop::collection::vec(hostile_path(), 50)) {
            let f = fixture();
            for path in paths {
            if let Ok(place) = resolve(&f.workspace, "read", &path) {
                prop_assert!(place.full.starts_with(&f.workspace.root));
                prop_assert!(place.full.components().all(|c| !matches!(c, Component::ParentDir)));
                // What the system makes of the resolved path is inside too.
                if let Ok(real) = place.full.canonicalize() {
                    prop_assert_eq!(real, place.full);
                }
            }
            }
        }
    }
}
