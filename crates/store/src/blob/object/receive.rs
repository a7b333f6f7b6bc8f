//! Content that is received before it is sent on: little in memory, more in a file.

use std::io::SeekFrom;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use freehold_base::hex;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::super::BlobError;
use super::PART;

/// Bytes read and hashed at a time.
const CHUNK: usize = 128 * 1024;

/// Content, whole.
pub(super) struct Received {
    /// SHA-256, hexadecimal.
    pub(super) hash: String,
    /// Bytes.
    pub(super) size: u64,
    pub(super) body: Body,
}

/// Where received content is.
pub(super) enum Body {
    /// At most [`PART`] bytes.
    Memory(Bytes),
    /// More.
    Spool(Spool),
}

/// Content in a file that has no name, and so is gone with its last handle.
pub(super) struct Spool {
    file: File,
    dir: std::path::PathBuf,
}

/// Receives content to its end.
///
/// # Errors
/// [`BlobError::TooLarge`], [`BlobError::Content`], or [`BlobError::Io`].
pub(super) async fn receive(
    mut content: Box<dyn AsyncRead + Send + Unpin + '_>,
    limit: u64,
    dir: &Path,
) -> Result<Received, BlobError> {
    let (mut hash, mut size) = (Sha256::new(), 0u64);
    let (mut held, mut spool) = (BytesMut::new(), None);
    loop {
        held.reserve(CHUNK);
        let begin = held.len();
        let n = content.read_buf(&mut held).await;
        let n = n.map_err(BlobError::Content)?;
        size += n as u64;
        if limit < size {
            return Err(BlobError::TooLarge { limit });
        }
        hash.update(&held[begin..]);
        if n != 0 && held.len() <= PART {
            continue;
        }
        if n != 0 || spool.is_some() {
            let spool = match &mut spool {
                Some(spool) => spool,
                None => spool.insert(Spool::new(dir).await?),
            };
            spool.append(&held).await?;
            held.clear();
        }
        if n == 0 {
            break;
        }
    }
    let body = match spool {
        Some(spool) => Body::Spool(spool.rewound().await?),
        None => Body::Memory(held.freeze()),
    };
    Ok(Received {
        hash: hex::encode(hash.finalize()),
        size,
        body,
    })
}

impl Spool {
    async fn new(dir: &Path) -> Result<Self, BlobError> {
        let dir = dir.to_owned();
        let made = tokio::task::spawn_blocking({
            let dir = dir.clone();
            move || tempfile::tempfile_in(dir)
        });
        let made = made.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        match made {
            Ok(file) => Ok(Self {
                file: File::from_std(file),
                dir,
            }),
            Err(source) => Err(BlobError::Io {
                action: "make a file in",
                path: dir,
                source,
            }),
        }
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let written = self.file.write_all(bytes).await;
        written.map_err(|e| self.failed("write to a file in", e))
    }

    async fn rewound(mut self) -> Result<Self, BlobError> {
        // The last write is reported by the flush.
        let done = self.file.flush().await;
        done.map_err(|e| self.failed("write to a file in", e))?;
        let done = self.file.seek(SeekFrom::Start(0)).await;
        done.map_err(|e| self.failed("read a file in", e))?;
        Ok(self)
    }

    /// The next `size` bytes, or what is left; `None` at the end.
    ///
    /// # Errors
    /// [`BlobError::Io`].
    pub(super) async fn next(&mut self, size: usize) -> Result<Option<Bytes>, BlobError> {
        let mut part = BytesMut::with_capacity(size);
        let mut rest = (&mut self.file).take(size as u64);
        loop {
            match rest.read_buf(&mut part).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => return Err(self.failed("read a file in", e)),
            }
        }
        Ok((!part.is_empty()).then(|| part.freeze()))
    }

    fn failed(&self, action: &'static str, source: std::io::Error) -> BlobError {
        BlobError::Io {
            action,
            path: self.dir.clone(),
            source,
        }
    }
}
