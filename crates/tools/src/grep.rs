//! `grep` (contract 55 §11): ripgrep's own libraries, so that a search comes out as from
//! `rg --no-config -n --no-heading -e PATTERN -- PATH`, sorted by path.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use grep_printer::{Standard, StandardBuilder};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};
use rustix::fs::FileType;

use crate::failure::{Failure, Result};
use crate::file::{self, Found, open_regular};
use crate::ignoring::Ignoring;
use crate::path::{self, Place};
use crate::walk::{Entry, Next, Visitor, walk};
use crate::{Cancel, ToolOutput, Workspace, input};

/// Most output, bytes.
const MAX_OUTPUT: usize = 102_400;
/// Longest search.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Longest line, bytes; a file with a longer one is searched up to it.
const MAX_LINE: usize = 16 * 1024 * 1024;
/// Largest compiled pattern, bytes.
const MAX_REGEX: usize = 10 * 1024 * 1024;

/// Searches file contents.
pub(crate) fn call(
    workspace: &Workspace,
    input: &input::Search,
    cancel: &Cancel,
) -> Result<ToolOutput> {
    search(workspace, input, cancel, MAX_TIME)
}

fn search(
    workspace: &Workspace,
    input: &input::Search,
    cancel: &Cancel,
    time: Duration,
) -> Result<ToolOutput> {
    let place = match input.path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => path::resolve(workspace, "grep", path)?,
        None => path::workdir(workspace, "grep")?,
    };
    let matcher = RegexMatcherBuilder::new()
        .line_terminator(Some(b'\n'))
        .size_limit(MAX_REGEX)
        .dfa_size_limit(MAX_REGEX)
        .build(&input.pattern)
        .map_err(|error| Failure::new(format!("grep: invalid regex: {error}")))?;
    let until = Until {
        cancel,
        deadline: Instant::now() + time,
    };
    let printed = match file::open(&place).map_err(|error| place.failed("grep", &error))? {
        Found::File(file, _) => one(file, &matcher, &until),
        Found::Directory(dir) => {
            let mut tree = Tree::new(&place, &matcher, &until);
            tree.enter_parents(&place);
            walk(dir, &mut tree);
            tree.lines.printer.into_inner().into_inner()
        }
        Found::Other => {
            let path = &place.written;
            return Err(Failure::new(format!("grep: {path}: not a regular file")));
        }
    };
    if cancel.is_cancelled() {
        return Err(Failure::new("grep: aborted"));
    }
    let is_late = until.is_late();
    match (printed.text.is_empty(), is_late) {
        (true, true) => Err(Failure::new(format!(
            "grep: timed out after {}s",
            time.as_secs()
        ))),
        (true, false) => Ok(ToolOutput::text("no matches")),
        (false, _) => Ok(ToolOutput::text(printed.into_text(is_late.then_some(time)))),
    }
}

/// A file the model named: searched also if it is binary, and its path is not repeated.
fn one(file: File, matcher: &RegexMatcher, until: &Until<'_>) -> Printed {
    let mut lines = Lines {
        searcher: searcher(BinaryDetection::convert(0)),
        printer: StandardBuilder::new()
            .path(false)
            .build_no_color(Printed::default()),
    };
    let from = Watched { file, until };
    // An error is the end of the time, of the room or of what can be read; what was found stays.
    let _ = lines
        .searcher
        .search_reader(matcher, from, lines.printer.sink(matcher));
    lines.printer.into_inner().into_inner()
}

fn searcher(binary: BinaryDetection) -> Searcher {
    SearcherBuilder::new()
        .line_number(true)
        .binary_detection(binary)
        .heap_limit(Some(MAX_LINE))
        .build()
}

struct Lines {
    searcher: Searcher,
    printer: Standard<termcolor::NoColor<Printed>>,
}

/// A search through a directory.
struct Tree<'a> {
    top: PathBuf,
    ignoring: Ignoring,
    matcher: &'a RegexMatcher,
    until: &'a Until<'a>,
    lines: Lines,
}

impl<'a> Tree<'a> {
    fn new(place: &Place, matcher: &'a RegexMatcher, until: &'a Until<'a>) -> Self {
        let lines = Lines {
            searcher: searcher(BinaryDetection::quit(0)),
            printer: StandardBuilder::new()
                .heading(false)
                .build_no_color(Printed::default()),
        };
        Self {
            top: place.full.clone(),
            ignoring: Ignoring::default(),
            matcher,
            until,
            lines,
        }
    }

    /// The directories from the root down to where the search begins have a say in what is left
    /// out.
    fn enter_parents(&mut self, place: &Place) {
        let mut path = place.root.clone();
        let below = place
            .full
            .strip_prefix(&place.root)
            .unwrap_or(Path::new(""));
        for name in below.iter() {
            let parent = Place {
                full: path.clone(),
                root: place.root.clone(),
                written: String::new(),
                read_only: None,
            };
            if let Ok(Found::Directory(dir)) = file::open(&parent) {
                self.ignoring.enter(dir, &path);
            }
            path.push(name);
        }
    }
}

impl Visitor for Tree<'_> {
    fn enter(&mut self, dir: BorrowedFd<'_>, path: &Path) {
        self.ignoring.enter(dir, &self.top.join(path));
    }

    fn leave(&mut self) {
        self.ignoring.leave();
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Next {
        if self.until.is_over() {
            return Next::Stop;
        }
        let path = self.top.join(entry.path);
        let is_dir = entry.kind == FileType::Directory;
        if self.ignoring.leaves_out(&path, is_dir) {
            return Next::Pass;
        }
        if entry.kind == FileType::RegularFile
            && let Ok(Some((file, _))) = open_regular(entry.dir, entry.name)
        {
            let Lines { searcher, printer } = &mut self.lines;
            let from = Watched {
                file,
                until: self.until,
            };
            let sink = printer.sink_with_path(self.matcher, &path);
            // A file that cannot be read is passed over, as one that cannot be opened.
            let _ = searcher.search_reader(self.matcher, from, sink);
            if printer.get_mut().get_mut().is_full {
                return Next::Stop;
            }
        }
        Next::Enter
    }
}

/// When a search has to end.
struct Until<'a> {
    cancel: &'a Cancel,
    deadline: Instant,
}

impl Until<'_> {
    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }
    fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.is_late()
    }
}

/// A file that ends with an error when the search has to end.
struct Watched<'a> {
    file: File,
    until: &'a Until<'a>,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.until.is_over() {
            return Err(io::Error::other("the search has to end"));
        }
        self.file.read(buffer)
    }
}

/// What was found, up to [`MAX_OUTPUT`].
#[derive(Default)]
struct Printed {
    text: Vec<u8>,
    /// Whether there was more than fits.
    is_full: bool,
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_OUTPUT - self.text.len();
        if bytes.len() > room {
            self.text.extend_from_slice(&bytes[..room]);
            self.is_full = true;
            return Err(io::Error::other("the output is full"));
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Printed {
    fn into_text(self, late: Option<Duration>) -> String {
        let mut bytes = &self.text[..];
        if self.is_full {
            // Not the first half of a character.
            let torn = bytes
                .utf8_chunks()
                .last()
                .map_or(0, |chunk| chunk.invalid().len());
            bytes = &bytes[..bytes.len() - torn];
        }
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        if self.is_full {
            text.push_str(&format!("\n[output truncated at {MAX_OUTPUT} bytes]"));
        }
        if let Some(time) = late {
            text.push_str(&format!(
                "\n[the search was cut short after {} ms]",
                time.as_millis()
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_without_time_says_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x\n").unwrap();
        let root = dir.path().canonicalize().unwrap();
        let workspace = Workspace {
            root,
            extra_roots: vec![],
        };
        let input = input::Search {
            pattern: "x".to_owned(),
            path: None,
        };
        let out = search(&workspace, &input, &Cancel::new(), Duration::ZERO);
        assert_eq!(out, Err(Failure::new("grep: timed out after 0s")));
        let late = Printed {
            text: b"1:x\n".to_vec(),
            is_full: false,
        }
        .into_text(Some(MAX_TIME));
        assert_eq!(late, "1:x\n\n[the search was cut short after 60000 ms]");
    }
}
