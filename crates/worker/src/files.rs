//! Files that go into and come out of sandboxes.

use std::io;
use std::pin::Pin;

use async_trait::async_trait;
use freehold_sandbox::FileStream;
use futures_util::stream;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

/// Where the bytes of attached files come from.
#[async_trait]
pub trait FileSource: Send + Sync + 'static {
    /// Opens the content stored under `key`.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    async fn open(&self, key: &str) -> io::Result<Box<dyn AsyncRead + Send + Unpin>>;
}

/// A file below `/mnt/session/outputs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Relative to the outputs folder, `/`-separated, without `.` and `..`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Microseconds since the epoch, as the sandbox claims.
    pub mtime_micros: i64,
}

/// The content of an output.
pub type OutputReader = Pin<Box<dyn AsyncRead + Send>>;

/// A sandbox's file as a reader.
pub(crate) fn reader(file: FileStream) -> OutputReader {
    let chunks = stream::unfold(file, async |mut file| {
        let chunk = file.next().await?;
        Some((chunk.map_err(io::Error::other), file))
    });
    Box::pin(StreamReader::new(Box::pin(chunks)))
}
