//! `glob` (contract 55 §10).

use std::cmp::Reverse;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use rustix::fs::{AtFlags, FileType, statat};

use crate::failure::{Failure, Result};
use crate::file::{self, Found};
use crate::path::{self, Place, canonical};
use crate::walk::{Entry, Next, Visitor, walk};
use crate::{Cancel, ToolOutput, Workspace, input};

/// Most matches that are collected to be sorted.
const MAX_MATCHES: usize = 50_000;
/// Most matches that are told.
const MAX_SHOWN: usize = 200;
/// Characters with a meaning in patterns.
const SPECIAL: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// Lists what matches a pattern, newest first.
pub(crate) fn call(
    workspace: &Workspace,
    input: &input::Search,
    cancel: &Cancel,
) -> Result<ToolOutput> {
    let pattern = Pattern::parse(&input.pattern)?;
    let place = match input.path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => path::resolve(workspace, "glob", path)?,
        None => path::workdir(workspace, "glob")?,
    };
    let mut matches = Vec::new();
    if let Some((start, dir)) = start(&place, &pattern.fixed) {
        let root = &place.full;
        let mut search = Search {
            pattern: &pattern,
            root,
            start,
            cancel,
            matches,
        };
        walk(dir, &mut search);
        matches = search.matches;
    }
    if cancel.is_cancelled() {
        return Err(Failure::new("glob: aborted"));
    }
    if matches.is_empty() {
        return Ok(ToolOutput::text("no matches"));
    }
    matches.sort_by_key(|(modified, _)| Reverse(*modified));
    let shown: Vec<_> = matches
        .iter()
        .take(MAX_SHOWN)
        .map(|(_, path)| path.to_string_lossy())
        .collect();
    Ok(ToolOutput::text(shown.join("\n")))
}

/// A pattern in two parts.
struct Pattern {
    /// The directories at its beginning that are spelled out.
    fixed: PathBuf,
    /// The rest, for paths below them.
    rest: GlobMatcher,
    /// How deep below them it can match; `None` without end.
    depth: Option<usize>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Failure::new(format!("glob: {why}")));
        if text.is_empty() {
            return refuse("pattern is required");
        }
        if text.starts_with('/') {
            return refuse(
                "absolute pattern not permitted; pass a relative pattern (and optionally path)",
            );
        }
        let names: Vec<_> = text
            .split('/')
            .filter(|name| !matches!(*name, "" | "."))
            .collect();
        if names.contains(&"..") {
            return refuse("'..' is not permitted in the pattern");
        }
        let is_fixed = |name: &&&str| !name.contains(SPECIAL);
        let fixed = names
            .iter()
            .take_while(is_fixed)
            .count()
            .min(names.len().saturating_sub(1));
        let rest = names[fixed..].join("/");
        let glob = GlobBuilder::new(&rest)
            .literal_separator(true)
            .backslash_escape(true)
            .empty_alternates(true)
            .build()
            .map_err(|error| Failure::new(format!("glob: {}", error.kind())))?;
        Ok(Self {
            fixed: names[..fixed].iter().collect(),
            // Alternatives can hold slashes, so this is the most it can be.
            depth: (!rest.contains("**")).then(|| rest.matches('/').count() + 1),
            rest: glob.compile_matcher(),
        })
    }
}

/// Where to begin: the shown path and the directory. `None` if there is no such directory inside
/// `place`.
fn start(place: &Place, fixed: &Path) -> Option<(PathBuf, std::os::fd::OwnedFd)> {
    let shown = place.full.join(fixed);
    let full = canonical(&shown).ok()?;
    if !full.starts_with(&place.full) {
        return None;
    }
    let inner = Place {
        full,
        root: place.root.clone(),
        written: String::new(),
        read_only: None,
    };
    match file::open(&inner).ok()? {
        Found::Directory(dir) => Some((shown, dir)),
        Found::File(..) | Found::Other => None,
    }
}

struct Search<'a> {
    pattern: &'a Pattern,
    /// Nothing outside is told.
    root: &'a Path,
    start: PathBuf,
    cancel: &'a Cancel,
    /// When modified (seconds, nanoseconds), and what.
    matches: Vec<((i64, i64), PathBuf)>,
}

impl Visitor for Search<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> Next {
        if self.cancel.is_cancelled() || self.matches.len() == MAX_MATCHES {
            return Next::Stop;
        }
        if self.pattern.rest.is_match(entry.path) {
            let path = self.start.join(entry.path);
            if let Some(modified) = self.modified(entry, &path) {
                self.matches.push((modified, path));
            }
        }
        let depth = entry
            .path
            .components()
            .filter(|c| matches!(c, Component::Normal(_)))
            .count();
        match self.pattern.depth {
            Some(most) if depth >= most => Next::Pass,
            _ => Next::Enter,
        }
    }
}

impl Search<'_> {
    /// When the entry was modified; `None` for links that lead outside.
    fn modified(&self, entry: &Entry<'_>, path: &Path) -> Option<(i64, i64)> {
        if entry.kind == FileType::Symlink {
            if !canonical(path).ok()?.starts_with(self.root) {
                return None;
            }
            let seen = std::fs::metadata(path);
            return Some(seen.map_or((0, 0), |seen| (seen.mtime(), seen.mtime_nsec())));
        }
        let seen = statat(entry.dir, entry.name, AtFlags::SYMLINK_NOFOLLOW);
        Some(seen.map_or((0, 0), |seen| (seen.st_mtime, seen.st_mtime_nsec as i64)))
    }
}
