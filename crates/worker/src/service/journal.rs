//! What this host did for a session, so that a restarted worker neither runs a call twice nor
//! forgets a result. A file a session, outside everything its sandbox sees, one JSON object a line.
//!
//! A call is on the disk before it runs. Its result is noted before it is sent, and reaches the disk
//! while it is sent: a process that dies forgets nothing, and a host that loses power between the two
//! has a call whose outcome is unknown. What the server has is dropped, so the file holds at most the
//! open calls of one session; only one process at a time has it open.
//!
//! After the last line come zeros, written beforehand: a line over them is on the disk sooner than one
//! that makes the file longer.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_wire::content::ContentBlock;
use serde::{Deserialize, Serialize};

use crate::content::Reply;

/// Greatest file that is read, bytes: a few results of the greatest size. A greater one is not ours.
const MAX_FILE: u64 = 512 * 1024 * 1024;
/// Items remembered: more than can lapse before one is served to its end.
const MAX_HELD: usize = 64;
/// Above this the file is written anew, without what the server has.
const COMPACT_ABOVE: u64 = 1024 * 1024;
/// Zeros written beforehand, bytes: lines of some dozens of calls.
const ROOM: u64 = 16 * 1024;
/// Longest wait for another process that still serves the session.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks whether it is gone.
const LOCK_RETRY: Duration = Duration::from_millis(50);

/// Why a journal cannot be kept; the session is then not served here.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("another worker process of this host still serves the session")]
    InUse,
    /// It is larger than anything that was written here.
    #[error("the journal is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// The disk does not answer.
    #[error("the journal could not be opened in time")]
    Stalled,
    /// The disk.
    #[error("cannot {doing} the journal")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    move |source| JournalError::Io { doing, source }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
enum Line {
    /// The call is about to run.
    Started { call: String },
    /// It ran to its end.
    Done {
        call: String,
        content: Vec<ContentBlock>,
        is_error: bool,
    },
    /// The server has its result.
    Posted { call: String },
    /// This host serves an item.
    Held { work: String },
}

/// What is known of a call that has no result on the server.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Known {
    /// It may have run, in part or whole.
    Started,
    /// It ran; its result.
    Done(Reply),
}

/// A session's journal, open and locked.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// The same, opened another time: the system tells each of an error of the disk once, and a sync
    /// beside the calls must not take that from the one that a call waits for.
    beside: Arc<File>,
    /// Where the next line goes, bytes.
    len: u64,
    /// How far there is something to write over, bytes.
    room: u64,
    open: HashMap<String, Known>,
    /// Items this host served, oldest first.
    held: VecDeque<String>,
}

impl Journal {
    /// Opens the journal of `session` in `dir`, making both if need be. Waits a while for another
    /// process that has it.
    pub(super) async fn at(dir: &Path, session: &str) -> Result<Self, JournalError> {
        let path = dir.join(format!("{session}.journal"));
        let waited = tokio::time::timeout(LOCK_TIMEOUT, async {
            loop {
                match lock(&path) {
                    Err(JournalError::InUse) => tokio::time::sleep(LOCK_RETRY).await,
                    other => return other,
                }
            }
        });
        let file = waited.await.map_err(|_| JournalError::InUse)??;
        tokio::task::spawn_blocking(move || Self::read(path, file))
            .await
            .map_err(|e| failed("read")(io::Error::other(e)))?
    }

    fn read(path: PathBuf, mut file: File) -> Result<Self, JournalError> {
        let len = file.metadata().map_err(failed("read"))?.len();
        if MAX_FILE < len {
            return Err(JournalError::TooLarge);
        }
        let beside = OpenOptions::new().write(true).open(&path);
        let beside = beside.map_err(failed("open"))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read"))?;
        let written = text
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        let mut journal = Self {
            path,
            file,
            beside: Arc::new(beside),
            len: written as u64,
            room: len,
            open: HashMap::new(),
            held: VecDeque::new(),
        };
        // Zeros may also be where a part of a line did not reach the disk.
        let lines = text.split(|&b| b == b'\n' || b == 0);
        for line in lines.filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(line) => journal.take(line),
                // The line being written when the process or the host died: its step was not taken.
                Err(_) => tracing::warn!("a line of a journal cannot be read; left out"),
            }
        }
        // Ends a torn line, so that what comes next is a line of its own.
        journal.compact()?;
        Ok(journal)
    }

    /// What is known of a call.
    pub(super) fn known(&self, call: &str) -> Option<&Known> {
        self.open.get(call)
    }

    /// Calls that the server is not known to have results of.
    pub(super) fn open(&self) -> Vec<String> {
        self.open.keys().cloned().collect()
    }

    /// Whether this host served the item.
    pub(super) fn held(&self, work: &str) -> bool {
        self.held.iter().any(|held| held == work)
    }

    /// The call is about to run. On the disk when this returns.
    pub(super) fn started(&mut self, call: &str) -> Result<(), JournalError> {
        let call = call.to_owned();
        self.write(Line::Started { call }, true)
    }

    /// The call ran to its end. On the disk after the next [`Shared::sync`].
    pub(super) fn done(&mut self, call: &str, reply: &Reply) -> Result<(), JournalError> {
        let line = Line::Done {
            call: call.to_owned(),
            content: reply.content.clone(),
            is_error: reply.is_error,
        };
        self.write(line, false)
    }

    /// The server has the call's result. May be lost: the history says the same.
    pub(super) fn posted(&mut self, call: &str) -> Result<(), JournalError> {
        if !self.open.contains_key(call) {
            return Ok(());
        }
        let call = call.to_owned();
        self.write(Line::Posted { call }, false)?;
        if COMPACT_ABOVE < self.len {
            self.compact()?;
        }
        Ok(())
    }

    /// This host serves the item. On the disk when this returns.
    pub(super) fn hold(&mut self, work: &str) -> Result<(), JournalError> {
        if self.held(work) {
            return Ok(());
        }
        let work = work.to_owned();
        self.write(Line::Held { work }, true)
    }

    /// Deletes the journal: the session is over.
    pub(super) fn remove(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "a journal was not deleted");
        }
    }

    fn take(&mut self, line: Line) {
        match line {
            Line::Started { call } => {
                self.open.insert(call, Known::Started);
            }
            Line::Done {
                call,
                content,
                is_error,
            } => {
                self.open
                    .insert(call, Known::Done(Reply { content, is_error }));
            }
            Line::Posted { call } => {
                self.open.remove(&call);
            }
            Line::Held { work } => {
                self.held.push_back(work);
                if MAX_HELD < self.held.len() {
                    self.held.pop_front();
                }
            }
        }
    }

    fn write(&mut self, line: Line, sync: bool) -> Result<(), JournalError> {
        let mut text = serde_json::to_vec(&line).map_err(|e| failed("write")(e.into()))?;
        text.push(b'\n');
        self.append(&text)?;
        if sync {
            self.file.sync_data().map_err(failed("write"))?;
        }
        self.take(line);
        Ok(())
    }

    fn append(&mut self, text: &[u8]) -> Result<(), JournalError> {
        let write = |bytes: &[u8], at| self.file.write_all_at(bytes, at);
        write(text, self.len).map_err(failed("write"))?;
        self.len += text.len() as u64;
        // Where a disk is full the lines to come may still fit without.
        if self.room < self.len && write(&[0; ROOM as usize], self.len).is_ok() {
            self.room = self.len + ROOM;
        }
        Ok(())
    }

    /// Empties the file if no call is open, but for the items held, which may be lost: then the
    /// worker is merely more careful. Otherwise only ends
    /// a torn last line: what counts is never rewritten, so it cannot be cut short.
    fn compact(&mut self) -> Result<(), JournalError> {
        if self.open.is_empty() {
            self.file.set_len(0).map_err(failed("write"))?;
            (self.len, self.room) = (0, 0);
            for work in std::mem::take(&mut self.held) {
                self.write(Line::Held { work }, false)?;
            }
            return Ok(());
        }
        self.append(b"\n")
    }
}

/// A journal for the tasks of one session. The disk is waited for off the async threads.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Journal>>);

impl Shared {
    pub(super) fn new(journal: Journal) -> Self {
        Self(Arc::new(Mutex::new(journal)))
    }

    /// Reads it, or writes what need not be on the disk: that is not worth another thread.
    pub(super) fn now<T>(&self, act: impl FnOnce(&mut Journal) -> T) -> T {
        // Whole between any two lines, so a poisoned lock is still usable.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what must be on the disk.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Journal) -> T + Send + 'static,
    ) -> T {
        let journal = self.clone();
        match tokio::task::spawn_blocking(move || journal.now(act)).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Has what was written reach the disk, beside what else happens.
    pub(super) fn sync(&self) {
        let file = self.now(|journal| Arc::clone(&journal.beside));
        tokio::task::spawn_blocking(move || {
            if let Err(error) = file.sync_data() {
                tracing::error!(%error, "a journal was not synced");
            }
        });
    }

    /// Deletes the journal.
    pub(super) async fn remove(&self) {
        self.with(|journal| journal.remove()).await;
    }
}

/// Opens the file and locks it, whoever opened it first.
fn lock(path: &Path) -> Result<File, JournalError> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed("make room for"))?;
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    let file = options.open(path).map_err(failed("open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse),
        Err(TryLockError::Error(e)) => Err(failed("lock")(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Reply {
        Reply {
            content: vec![ContentBlock::text(text)],
            is_error: false,
        }
    }

    #[tokio::test]
    async fn what_was_noted_is_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), "sesn_1").await.unwrap();
        journal.hold("work_1").unwrap();
        journal.started("a").unwrap();
        journal.done("a", &reply("one")).unwrap();
        journal.started("b").unwrap();
        journal.started("c").unwrap();
        journal.done("c", &reply("three")).unwrap();
        journal.posted("c").unwrap();
        drop(journal);
        let journal = Journal::at(dir.path(), "sesn_1").await.unwrap();
        assert_eq!(journal.known("a"), Some(&Known::Done(reply("one"))));
        assert_eq!(journal.known("b"), Some(&Known::Started));
        assert_eq!((journal.known("c"), journal.known("d")), (None, None));
        assert!(journal.held("work_1") && !journal.held("work_2"));
        let mut journal = journal;
        journal.remove();
        drop(journal);
        let journal = Journal::at(dir.path(), "sesn_1").await.unwrap();
        assert_eq!((journal.known("a"), journal.held("work_1")), (None, false));
    }

    #[tokio::test]
    async fn a_torn_line_is_a_step_not_taken_and_spoils_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), "s").await.unwrap();
        journal.started("a").unwrap();
        journal.done("a", &reply("x")).unwrap();
        drop(journal);
        let path = dir.path().join("s.journal");
        let text = std::fs::read(&path).unwrap();
        let end = text.iter().rposition(|&b| b != 0).unwrap();
        // The file ends early, or a block of the line, its first or its last, was never written.
        for torn in [end - 5..text.len(), end - 5..end + 1, end - 9..end - 5] {
            let mut text = text.clone();
            match torn.end == text.len() {
                true => text.truncate(torn.start),
                false => text[torn].fill(0),
            }
            std::fs::write(&path, &text).unwrap();
            let mut journal = Journal::at(dir.path(), "s").await.unwrap();
            assert_eq!(journal.known("a"), Some(&Known::Started));
            journal.started("b").unwrap();
            drop(journal);
            let journal = Journal::at(dir.path(), "s").await.unwrap();
            assert_eq!(journal.known("a"), Some(&Known::Started));
            assert_eq!(journal.known("b"), Some(&Known::Started));
        }
    }

    #[tokio::test]
    async fn lines_that_outgrow_the_room_are_all_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), "s").await.unwrap();
        let calls: Vec<_> = (0..600).map(|n| format!("sevt_{n}")).collect();
        for call in &calls {
            journal.started(call).unwrap();
        }
        journal.done("large", &reply(&"x".repeat(100_000))).unwrap();
        journal.started("last").unwrap();
        drop(journal);
        let journal = Journal::at(dir.path(), "s").await.unwrap();
        let mut open = journal.open();
        open.sort();
        let mut all = calls;
        all.extend(["large".to_owned(), "last".to_owned()]);
        all.sort();
        assert_eq!(open, all);
    }

    #[tokio::test]
    async fn what_the_server_has_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::at(dir.path(), "s").await.unwrap();
        let large = reply(&"x".repeat(300_000));
        for call in ["a", "b", "c", "d", "e"] {
            journal.started(call).unwrap();
            journal.done(call, &large).unwrap();
            journal.posted(call).unwrap();
        }
        let len = std::fs::metadata(dir.path().join("s.journal"))
            .unwrap()
            .len();
        assert!(len < COMPACT_ABOVE, "{len}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::at(dir.path(), "s").await.unwrap();
        let second = Journal::at(dir.path(), "s").await;
        assert!(matches!(second, Err(JournalError::InUse)));
        drop(first);
        Journal::at(dir.path(), "s").await.unwrap();
    }
}
