//! Archives on their way out and in: a thread at work for each, and the host that pulls or pushes
//! pieces.

use std::collections::HashMap;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::archive::{self, Bounds};
use super::serve::failed;
use super::still::Still;
use super::unpack;
use crate::protocol::{Answer, CHUNK, MAX_REASON, Problem};

/// Pieces that wait.
const QUEUE: usize = 4;
/// Stack of a thread at work, bytes; directories are walked by recursion.
const STACK: usize = 8 * 1024 * 1024;

/// Archives at work, by handle. One at a time: each is as large as the sandbox.
pub(super) struct Transfers {
    folders: Arc<Vec<(String, OwnedFd)>>,
    open: Mutex<HashMap<u64, Transfer>>,
}

enum Transfer {
    Out {
        pieces: Receiver<Vec<u8>>,
        done: JoinHandle<Result<u64, String>>,
    },
    In {
        pieces: SyncSender<Vec<u8>>,
        done: JoinHandle<Result<(), String>>,
    },
}

type Answered = (Answer, Vec<u8>);

impl Transfers {
    /// Of these folders, by the name each has in an archive.
    pub(super) fn new(folders: Vec<(String, OwnedFd)>) -> Self {
        Self {
            folders: Arc::new(folders),
            open: Mutex::default(),
        }
    }

    /// The folders.
    pub(super) fn folders(&self) -> &[(String, OwnedFd)] {
        &self.folders
    }

    /// Begins an archive.
    pub(super) fn pack(&self, handle: u64, bytes: u64, entries: u64) -> Answered {
        let (piece, pieces) = sync_channel(QUEUE);
        let folders = self.folders.clone();
        let work = move || {
            let _still = Still::new();
            let to = BufWriter::with_capacity(CHUNK, Pieces(piece));
            archive::pack(&folders, to, Bounds { bytes, entries }).map_err(|e| e.to_string())
        };
        self.begin(handle, work, |done| Transfer::Out { pieces, done })
    }

    /// Begins to unpack one.
    pub(super) fn unpack(&self, handle: u64, bytes: u64, entries: u64) -> Answered {
        let (pieces, waiting) = sync_channel(QUEUE);
        let folders = self.folders.clone();
        let work = move || {
            let from = Joined {
                pieces: waiting,
                piece: io::Cursor::default(),
            };
            unpack::unpack(&folders, from, Bounds { bytes, entries })
        };
        self.begin(handle, work, |done| Transfer::In { pieces, done })
    }

    fn begin<T: Send + 'static>(
        &self,
        handle: u64,
        work: impl FnOnce() -> T + Send + 'static,
        transfer: impl FnOnce(JoinHandle<T>) -> Transfer,
    ) -> Answered {
        let mut open = self.table();
        if self.folders.is_empty() || !open.is_empty() {
            return failed(Problem::Busy);
        }
        let thread = std::thread::Builder::new()
            .name("archive".to_owned())
            .stack_size(STACK)
            .spawn(work);
        match thread {
            Ok(done) => {
                open.insert(handle, transfer(done));
                (Answer::Done, Vec::new())
            }
            Err(_) => failed(Problem::Busy),
        }
    }

    /// The next piece of an archive; at the end, how many entries are not in it.
    pub(super) fn next(&self, handle: u64) -> Answered {
        let transfer = self.table().remove(&handle);
        let Some(Transfer::Out { pieces, done }) = transfer else {
            return failed(Problem::Protocol);
        };
        if let Ok(piece) = pieces.recv() {
            self.table().insert(handle, Transfer::Out { pieces, done });
            return (Answer::Chunk { last: false }, piece);
        }
        match done.join() {
            Ok(Ok(skipped)) => (Answer::Packed { skipped }, Vec::new()),
            Ok(Err(reason)) => refused(reason),
            Err(_) => failed(Problem::Protocol),
        }
    }

    /// Takes the next piece of an archive to unpack; an empty one ends it.
    pub(super) fn push(&self, handle: u64, piece: Vec<u8>) -> Answered {
        let transfer = self.table().remove(&handle);
        let Some(Transfer::In { pieces, done }) = transfer else {
            return failed(Problem::Protocol);
        };
        if !piece.is_empty() && pieces.send(piece).is_ok() {
            self.table().insert(handle, Transfer::In { pieces, done });
            return (Answer::Done, Vec::new());
        }
        // All is there, or the other side has stopped listening because it refuses.
        drop(pieces);
        match done.join() {
            Ok(Ok(())) => (Answer::Done, Vec::new()),
            Ok(Err(reason)) => refused(reason),
            Err(_) => failed(Problem::Protocol),
        }
    }

    /// Gives up.
    pub(super) fn close(&self, handle: u64) {
        self.table().remove(&handle);
    }

    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Transfer>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(reason: String) -> Answered {
    let mut reason = reason.into_bytes();
    reason.truncate(MAX_REASON);
    (failed(Problem::Refused).0, reason)
}

/// Sends what is written.
struct Pieces(SyncSender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(CHUNK)];
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.send(piece.to_vec()).map_err(gone)?;
        Ok(piece.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads what is received.
struct Joined {
    pieces: Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Read for Joined {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.piece.read(to)? {
                0 if !to.is_empty() => match self.pieces.recv() {
                    Ok(piece) => self.piece = io::Cursor::new(piece),
                    Err(_) => return Ok(0),
                },
                n => return Ok(n),
            }
        }
    }
}
