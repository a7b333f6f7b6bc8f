//! Which files ripgrep leaves out by itself: hidden ones, and those named in `.gitignore` (inside a
//! git repository), `.git/info/exclude`, `.ignore` and `.rgignore`. Ours and not that of the
//! `ignore` crate because ignore files are read like everything else here: no links, no pipes, no
//! more than a bound. Ignore files above the root and the user's own git excludes do not count.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::file::{open_regular, step};

/// Most of an ignore file that is read, bytes.
const MAX_FILE: u64 = 64 * 1024;
/// Most lines of an ignore file that count.
const MAX_LINES: usize = 1_000;

/// The ignore files of the directories on the way to where a walk is, outermost first.
#[derive(Default)]
pub(crate) struct Ignoring(Vec<Level>);

struct Level {
    /// `.rgignore`, `.ignore`, `.gitignore`, `.git/info/exclude`: the first to say something wins.
    kinds: [Gitignore; 4],
    is_repository: bool,
}

/// Where in [`Level::kinds`] the files begin that only count in a repository.
const GIT: usize = 2;

impl Ignoring {
    /// Goes into `dir`, whose path is `path`.
    pub(crate) fn enter(&mut self, dir: impl AsFd, path: &Path) {
        let git = step(&dir, OsStr::new(".git"));
        let info = git
            .as_ref()
            .ok()
            .and_then(|git| step(git, OsStr::new("info")).ok());
        let exclude = info.map_or_else(Gitignore::empty, |info| read(info, "exclude", path));
        let is_repository =
            git.is_ok() || matches!(open_regular(&dir, OsStr::new(".git")), Ok(Some(_)));
        let kinds = [
            read(&dir, ".rgignore", path),
            read(&dir, ".ignore", path),
            read(&dir, ".gitignore", path),
            exclude,
        ];
        self.0.push(Level {
            kinds,
            is_repository,
        });
    }

    /// Leaves the directory entered last.
    pub(crate) fn leave(&mut self) {
        self.0.pop();
    }

    /// Whether the entry `path` of the directory entered last is left out.
    pub(crate) fn leaves_out(&self, path: &Path, is_dir: bool) -> bool {
        match self.verdict(path, is_dir) {
            Match::Ignore(()) => true,
            Match::Whitelist(()) => false,
            Match::None => path
                .file_name()
                .is_some_and(|name| name.as_bytes().starts_with(b".")),
        }
    }

    fn verdict(&self, path: &Path, is_dir: bool) -> Match<()> {
        let in_repository = self.0.iter().any(|level| level.is_repository);
        let mut found = [const { Match::None }; 4];
        let mut left_repository = false;
        // The innermost directory that says something decides, for each kind by itself.
        for level in self.0.iter().rev() {
            for (kind, (rules, found)) in level.kinds.iter().zip(&mut found).enumerate() {
                let counts = kind < GIT || (in_repository && !left_repository);
                if counts && found.is_none() {
                    *found = rules.matched(path, is_dir).map(drop);
                }
            }
            // Rules of a repository do not reach into one inside it.
            left_repository |= level.is_repository;
        }
        found
            .into_iter()
            .find(|found| !found.is_none())
            .unwrap_or(Match::None)
    }
}

/// The rules of the file `name` in `dir`; none if it is missing or cannot be read. Rules that make
/// no sense are passed over, as ripgrep does.
fn read(dir: impl AsFd, name: &str, path: &Path) -> Gitignore {
    let Ok(Some((file, _))) = open_regular(dir, OsStr::new(name)) else {
        return Gitignore::empty();
    };
    let mut bytes = Vec::new();
    if file.take(MAX_FILE).read_to_end(&mut bytes).is_err() {
        return Gitignore::empty();
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut builder = GitignoreBuilder::new(path);
    for line in text.trim_start_matches('\u{feff}').lines().take(MAX_LINES) {
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}
