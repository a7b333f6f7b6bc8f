//! What this host did for a session, so that a restarted worker neither runs a call twice nor
//! forgets a result. A file a session, outside everything its sandbox sees, one JSON object a line.
//!
//! A call is noted before it runs, and its result before it is sent. What the server has is dropped,
//! so the file holds at most the open calls of one session; only one process at a time has it open.
//!
//! No call waits for the disk. What a process wrote outlives it, however it ends; only a host that
//! goes down forgets what had not reached the disk. So what does reach the disk before the first call
//! is in which boot of the host the session is served, and the end of a service says that everything
//! has. A journal that was served in an earlier boot and not ended may lack lines
//! ([`Journal::has_gaps`]): a call that waits then, and that it does not know, may have run.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use freehold_base::{Entropy, SystemEntropy};
use freehold_wire::content::ContentBlock;
use serde::{Deserialize, Serialize};

use crate::content::Reply;

/// Greatest file that is read, bytes: a few results of the greatest size. A greater one is not ours.
const MAX_FILE: u64 = 512 * 1024 * 1024;
/// Items remembered: more than can lapse before one is served to its end.
const MAX_HELD: usize = 64;
/// Bytes of calls above which they are cut off, once the server has them all.
const COMPACT_ABOVE: u64 = 1024 * 1024;
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
    Held {
        work: String,
        /// In this boot of it, or an earlier one after which lines may be missing. Nothing is
        /// missing where there is no such name.
        boot: Option<String>,
    },
    /// It does so no longer, and every line before this one is on the disk.
    Ended,
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
    /// Where the next line goes, bytes.
    len: u64,
    /// What is never cut off, bytes: the lines up to those of the item that is served.
    head: u64,
    open: HashMap<String, Known>,
    /// Items this host served, oldest first.
    held: VecDeque<String>,
    /// The boot of the host in which the last item was served, unless that ended well.
    served_in: Option<String>,
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
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read"))?;
        let written = text
            .iter()
            .rposition(|&b| b != 0)
            .map_or(0, |last| last + 1);
        let mut journal = Self {
            path,
            file,
            len: written as u64,
            head: 0,
            open: HashMap::new(),
            held: VecDeque::new(),
            served_in: None,
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
        if journal.open.is_empty() && !journal.has_gaps() {
            // Nothing in it counts but the items held, and without those a worker is more careful.
            journal.cut()?;
            for work in std::mem::take(&mut journal.held) {
                journal.write(Line::Held { work, boot: None })?;
            }
        } else {
            // Ends a torn line, so that what comes next is a line of its own.
            journal.append(b"\n")?;
        }
        Ok(journal)
    }

    /// Whether there may have been lines that are not in it, because the host went down. It stays so
    /// until [`Journal::doubt`] has been told what they can have been about.
    pub(super) fn has_gaps(&self) -> bool {
        match &self.served_in {
            Some(boot) => boot != boot_id(),
            None => false,
        }
    }

    /// What is known of a call. While there are gaps any may have run.
    pub(super) fn known(&self, call: &str) -> Option<&Known> {
        let doubtful = self.has_gaps().then_some(&Known::Started);
        self.open.get(call).or(doubtful)
    }

    /// Calls that the server is not known to have results of.
    pub(super) fn open(&self) -> Vec<String> {
        self.open.keys().cloned().collect()
    }

    /// Whether this host served the item.
    pub(super) fn held(&self, work: &str) -> bool {
        self.held.iter().any(|held| held == work)
    }

    /// The call is about to run.
    pub(super) fn started(&mut self, call: &str) -> Result<(), JournalError> {
        let call = call.to_owned();
        self.write(Line::Started { call })
    }

    /// The call ran to its end.
    pub(super) fn done(&mut self, call: &str, reply: &Reply) -> Result<(), JournalError> {
        self.write(Line::Done {
            call: call.to_owned(),
            content: reply.content.clone(),
            is_error: reply.is_error,
        })
    }

    /// The server has the call's result. May be lost: the history says the same.
    pub(super) fn posted(&mut self, call: &str) -> Result<(), JournalError> {
        if !self.open.contains_key(call) {
            return Ok(());
        }
        let call = call.to_owned();
        self.write(Line::Posted { call })?;
        if self.open.is_empty() && self.head + COMPACT_ABOVE < self.len {
            self.cut()?;
        }
        Ok(())
    }

    /// This host serves the item from now on. On the disk when this returns.
    pub(super) fn hold(&mut self, work: &str) -> Result<(), JournalError> {
        let gaps_since = self.served_in.clone().filter(|boot| boot != boot_id());
        self.write(Line::Held {
            work: work.to_owned(),
            boot: Some(gaps_since.unwrap_or_else(|| boot_id().to_owned())),
        })?;
        self.file.sync_data().map_err(failed("write"))?;
        self.head = self.len;
        Ok(())
    }

    /// Lines may have been lost, and these are all calls that wait: each of them that is not known may
    /// have run. On the disk when this returns, and then there are no gaps any more.
    pub(super) fn doubt(&mut self, calls: &[String]) -> Result<(), JournalError> {
        for call in calls {
            if !self.open.contains_key(call) {
                self.started(call)?;
            }
        }
        // Before the line that closes the gaps.
        self.file.sync_data().map_err(failed("write"))?;
        self.served_in = None;
        let work = self.held.back().cloned().unwrap_or_default();
        self.hold(&work)
    }

    /// The item is served no longer, and none of its calls runs.
    pub(super) fn end(&mut self) -> Result<(), JournalError> {
        if self.has_gaps() {
            return Ok(());
        }
        self.file.sync_data().map_err(failed("write"))?;
        self.write(Line::Ended)
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
            Line::Held { work, boot } => {
                self.served_in = boot;
                if !self.held(&work) {
                    self.held.push_back(work);
                }
                if MAX_HELD < self.held.len() {
                    self.held.pop_front();
                }
            }
            Line::Ended => self.served_in = None,
        }
    }

    fn write(&mut self, line: Line) -> Result<(), JournalError> {
        let mut text = serde_json::to_vec(&line).map_err(|e| failed("write")(e.into()))?;
        text.push(b'\n');
        self.append(&text)?;
        self.take(line);
        Ok(())
    }

    fn append(&mut self, text: &[u8]) -> Result<(), JournalError> {
        let written = self.file.write_all_at(text, self.len);
        written.map_err(failed("write"))?;
        self.len += text.len() as u64;
        Ok(())
    }

    /// Drops what is known of calls; nothing else is ever rewritten, so nothing can be cut short.
    fn cut(&mut self) -> Result<(), JournalError> {
        self.file.set_len(self.head).map_err(failed("write"))?;
        self.len = self.head;
        Ok(())
    }
}

/// Names this boot of the host. Where the system does not say, every process is taken for one.
fn boot_id() -> &'static str {
    static BOOT: LazyLock<String> = LazyLock::new(|| {
        let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let told = told.map(|id| id.trim().to_owned()).ok();
        told.filter(|id| !id.is_empty())
            .unwrap_or_else(|| SystemEntropy.hex(16))
    });
    &BOOT
}

/// A journal for the tasks of one session.
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

    /// The same off the async threads, for what waits for the disk.
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
    async fn all_lines_are_kept_while_calls_are_open() {
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
        journal.hold("work_1").unwrap();
        for call in ["a", "b", "c", "d", "e"] {
            journal.started(call).unwrap();
            journal.done(call, &large).unwrap();
            journal.posted(call).unwrap();
        }
        let len = std::fs::metadata(dir.path().join("s.journal"))
            .unwrap()
            .len();
        assert!(len < COMPACT_ABOVE, "{len}");
        drop(journal);
        went_down(&dir.path().join("s.journal"), 0);
        let journal = Journal::at(dir.path(), "s").await.unwrap();
        assert!(journal.has_gaps() && journal.held("work_1"));
    }

    /// What the disk of a host has that went down: lines of an earlier boot, the last not complete.
    fn went_down(path: &Path, cut: usize) {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.replace(boot_id(), "another boot");
        std::fs::write(path, &text[..text.len() - cut]).unwrap();
    }

    #[tokio::test]
    async fn a_host_that_went_down_may_have_forgotten_calls_that_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.journal");
        let at = || Journal::at(dir.path(), "s");
        let mut journal = at().await.unwrap();
        journal.hold("work_1").unwrap();
        journal.started("a").unwrap();
        drop(journal);
        // A process that dies leaves no gap.
        assert!(!at().await.unwrap().has_gaps());
        went_down(&path, 5);
        let mut journal = at().await.unwrap();
        assert!(journal.has_gaps() && journal.held("work_1") && journal.open().is_empty());
        assert_eq!(journal.known("a"), Some(&Known::Started));
        journal.hold("work_2").unwrap();
        journal.end().unwrap();
        drop(journal);
        let mut journal = at().await.unwrap();
        assert!(journal.has_gaps());
        journal.doubt(&["a".to_owned(), "b".to_owned()]).unwrap();
        drop(journal);
        let mut journal = at().await.unwrap();
        assert!(!journal.has_gaps() && journal.held("work_2"));
        assert_eq!(journal.known("a"), Some(&Known::Started));
        assert_eq!(journal.known("c"), None);
        journal.hold("work_3").unwrap();
        journal.end().unwrap();
        drop(journal);
        went_down(&path, 0);
        let journal = at().await.unwrap();
        assert!(!journal.has_gaps());
        assert_eq!(journal.known("b"), Some(&Known::Started));
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
