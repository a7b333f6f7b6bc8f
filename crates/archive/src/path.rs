//! Paths of members, and that no two of them meet.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use crate::error::{ArchiveError, PathProblem, echo};

/// Bytes of a path.
const MAX_PATH: usize = 1_024;
/// Bytes of one part of it, as every file system has it.
const MAX_PART: usize = 255;
/// Parts.
const MAX_DEPTH: usize = 32;

/// A path below the folder an archive is unpacked to: relative, `/`-separated, of parts that are
/// names and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberPath(String);

impl MemberPath {
    /// Checks a path as an archive or a form names it. `.` parts and a trailing slash are dropped.
    ///
    /// # Errors
    /// [`ArchiveError::Path`] for anything that is no such path. A path that means the folder
    /// itself is [`PathProblem::Empty`].
    pub fn new(raw: &[u8]) -> Result<Self, ArchiveError> {
        check(raw).map_err(|problem| ArchiveError::Path {
            member: echo(raw),
            problem,
        })
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first part.
    pub fn top(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(top, _)| top)
    }

    /// The path without its first part, if anything is left.
    pub fn below_top(&self) -> Option<Self> {
        let (_, rest) = self.0.split_once('/')?;
        Some(Self(rest.to_owned()))
    }

    /// The folders the path leads through, outermost first.
    fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }
}

impl AsRef<Path> for MemberPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for MemberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(raw: &[u8]) -> Result<MemberPath, PathProblem> {
    let text = std::str::from_utf8(raw).map_err(|_| PathProblem::Encoding)?;
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(PathProblem::Character);
    }
    if text.starts_with('/') {
        return Err(PathProblem::Absolute);
    }
    if MAX_PATH < text.len() {
        return Err(PathProblem::Long);
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(PathProblem::Parent),
            part if MAX_PART < part.len() => return Err(PathProblem::Long),
            part => parts.push(part),
        }
    }
    if MAX_DEPTH < parts.len() {
        return Err(PathProblem::Deep);
    }
    if parts.is_empty() {
        return Err(PathProblem::Empty);
    }
    Ok(MemberPath(parts.join("/")))
}

/// The places that members of one archive have taken so far.
#[derive(Default)]
pub struct Places(HashMap<String, Place>);

struct Place {
    /// As first written.
    path: String,
    is_file: bool,
}

impl Places {
    /// Takes a directory's place; again is nothing new.
    ///
    /// # Errors
    /// [`ArchiveError::Collision`].
    pub fn directory(&mut self, path: &MemberPath) -> Result<(), ArchiveError> {
        for folder in path.parents().chain([path.as_str()]) {
            self.folder(folder, path)?;
        }
        Ok(())
    }

    /// Takes a file's place.
    ///
    /// # Errors
    /// [`ArchiveError::Collision`].
    pub fn file(&mut self, path: &MemberPath) -> Result<(), ArchiveError> {
        for folder in path.parents() {
            self.folder(folder, path)?;
        }
        let place = Place {
            path: path.as_str().to_owned(),
            is_file: true,
        };
        match self.0.insert(path.as_str().to_lowercase(), place) {
            None => Ok(()),
            Some(_) => Err(collision(path)),
        }
    }

    fn folder(&mut self, folder: &str, of: &MemberPath) -> Result<(), ArchiveError> {
        let place = self
            .0
            .entry(folder.to_lowercase())
            .or_insert_with(|| Place {
                path: folder.to_owned(),
                is_file: false,
            });
        // Two folders that differ in case only are one folder on some hosts.
        if place.is_file || place.path != folder {
            return Err(collision(of));
        }
        Ok(())
    }
}

fn collision(path: &MemberPath) -> ArchiveError {
    ArchiveError::Collision {
        member: echo(path.as_str().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(raw: &[u8]) -> PathProblem {
        match MemberPath::new(raw) {
            Err(ArchiveError::Path { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_a_path() {
        for (raw, path) in [
            ("a", "a"),
            ("./a//b/", "a/b"),
            ("a b/ä.md", "a b/ä.md"),
            ("...", "..."),
        ] {
            assert_eq!(MemberPath::new(raw.as_bytes()).unwrap().as_str(), path);
        }
    }

    #[test]
    fn what_is_none() {
        use PathProblem::*;
        let (part, deep) = ("n".repeat(256), vec!["d"; 33].join("/"));
        let long = vec!["n".repeat(200); 6].join("/");
        for (raw, why) in [
            (&b"/etc/passwd"[..], Absolute),
            (b"//host/share", Absolute),
            (b"../x", Parent),
            (b"a/../../x", Parent),
            (b"a/..", Parent),
            (b"..\\x", Character),
            (b"C:\\x", Character),
            (b"a\0b", Character),
            (b"a\nb", Character),
            (b"a\xffb", Encoding),
            (b"", Empty),
            (b"./", Empty),
            (part.as_bytes(), Long),
            (long.as_bytes(), Long),
            (deep.as_bytes(), Deep),
        ] {
            assert_eq!(problem(raw), why, "{}", echo(raw));
        }
    }

    #[test]
    fn no_two_members_meet() {
        let p = |s: &str| MemberPath::new(s.as_bytes()).unwrap();
        let mut places = Places::default();
        places.file(&p("a/b")).unwrap();
        places.directory(&p("a")).unwrap();
        places.file(&p("a/c")).unwrap();
        for meets in ["a/b", "A/B", "a", "a/b/c", "A/d"] {
            assert!(places.file(&p(meets)).is_err(), "{meets}");
        }
        assert!(places.directory(&p("a/c")).is_err());
    }
}
