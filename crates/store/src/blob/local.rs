//! Blobs in a directory: `blobs/ab/cdef…`, written to `blobs/tmp` first and renamed into place
//! when they and their length are on disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use freehold_base::{IdSource, Timestamp};
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{Blob, BlobError, BlobPin, BlobStore, Pins, StillUsed};
use crate::StoreError;

/// Bytes read and hashed at a time.
const CHUNK: usize = 128 * 1024;

/// The local disk as a [`BlobStore`].
pub struct LocalBlobs {
    root: PathBuf,
    ids: IdSource,
    pins: Pins,
    /// Held to pin, and to ask whether a blob is used and remove it.
    removal: tokio::sync::Mutex<()>,
}

impl LocalBlobs {
    /// Blobs below `root`, which is made if needed. Leftovers of writes that a crash cut off are
    /// removed: the caller holds the data directory's lock, so nobody is writing.
    ///
    /// # Errors
    /// The directory cannot be used.
    pub fn open(root: &Path, ids: IdSource) -> Result<Self, StoreError> {
        let tmp = root.join("tmp");
        let clear = || -> std::io::Result<()> {
            std::fs::create_dir_all(&tmp)?;
            for entry in std::fs::read_dir(&tmp)? {
                std::fs::remove_file(entry?.path())?;
            }
            std::fs::File::open(root)?.sync_all()
        };
        clear().map_err(io("prepare", root))?;
        let removal = tokio::sync::Mutex::new(());
        Ok(Self {
            root: root.to_owned(),
            ids,
            pins: Pins::default(),
            removal,
        })
    }

    /// Where a blob is; `None` if the key is no key of ours, so that none can name another path.
    fn path(&self, key: &str) -> Option<PathBuf> {
        let valid = key.len() == 64 && key.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        valid.then(|| self.root.join(&key[..2]).join(&key[2..]))
    }

    async fn pin(&self, key: &str) -> BlobPin {
        let _lock = self.removal.lock().await;
        self.pins.pin(key)
    }

    /// Writes the content to `file`; gives its digest and size.
    async fn write(
        &self,
        path: &Path,
        mut content: Box<dyn AsyncRead + Send + Unpin + '_>,
        limit: u64,
    ) -> Result<(String, u64), BlobError> {
        let mut file = fs::OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .await
            .map_err(io("create", path))?;
        let (mut hash, mut size, mut buffer) = (Sha256::new(), 0u64, vec![0; CHUNK]);
        loop {
            let n = content
                .read(&mut buffer)
                .await
                .map_err(BlobError::Content)?;
            if n == 0 {
                break;
            }
            size += n as u64;
            if size > limit {
                return Err(BlobError::TooLarge { limit });
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n])
                .await
                .map_err(io("write", path))?;
        }
        file.sync_all().await.map_err(io("flush", path))?;
        Ok((freehold_base::hex::encode(hash.finalize()), size))
    }

    /// Moves a written file to its place, durably.
    async fn publish(&self, from: &Path, to: &Path) -> Result<(), BlobError> {
        let shard = to.parent().unwrap_or(&self.root);
        match fs::create_dir(shard).await {
            Ok(()) => sync_dir(&self.root).await?,
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io("create", shard)(e)),
        }
        // If the same content is there, this replaces it by itself; its age starts anew.
        fs::rename(from, to).await.map_err(io("rename", from))?;
        sync_dir(shard).await
    }
}

#[async_trait]
impl BlobStore for LocalBlobs {
    async fn put<'c>(
        &self,
        content: Box<dyn AsyncRead + Send + Unpin + 'c>,
        limit: u64,
    ) -> Result<Blob, BlobError> {
        let tmp = Tmp(self.root.join("tmp").join(self.ids.hex(16)));
        let (key, size) = self.write(&tmp.0, content, limit).await?;
        let pin = self.pin(&key).await;
        let to = self.path(&key).ok_or(BlobError::NotFound)?;
        self.publish(&tmp.0, &to).await?;
        Ok(Blob { key, size, pin })
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, BlobError> {
        let path = self.path(key).ok_or(BlobError::NotFound)?;
        match fs::File::open(&path).await {
            Ok(file) => Ok(Box::new(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(BlobError::NotFound),
            Err(e) => Err(io("open", &path)(e)),
        }
    }

    async fn remove(&self, key: &str, still_used: StillUsed<'_>) -> Result<bool, StoreError> {
        let Some(path) = self.path(key) else {
            return Ok(false);
        };
        let _lock = self.removal.lock().await;
        if self.pins.pinned(key) || still_used.await? {
            return Ok(false);
        }
        match fs::remove_file(&path).await {
            Ok(()) => {
                sync_dir(path.parent().unwrap_or(&self.root)).await?;
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(StoreError::Blob(io("remove", &path)(e))),
        }
    }

    async fn older_than(&self, time: Timestamp, limit: usize) -> Result<Vec<String>, BlobError> {
        let mut found = Vec::new();
        let mut shards = fs::read_dir(&self.root)
            .await
            .map_err(io("list", &self.root))?;
        while let Some(shard) = shards.next_entry().await.map_err(io("list", &self.root))? {
            let shard = shard.path();
            if shard.file_name().is_none_or(|name| name.len() != 2) {
                continue; // `tmp`
            }
            let mut blobs = fs::read_dir(&shard).await.map_err(io("list", &shard))?;
            while let Some(blob) = blobs.next_entry().await.map_err(io("list", &shard))? {
                let path = blob.path();
                let modified = match blob.metadata().await.and_then(|m| m.modified()) {
                    Ok(modified) => modified,
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(io("inspect", &path)(e)),
                };
                let age = modified
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                if age.as_micros() < u128::try_from(time.as_micros()).unwrap_or(0) {
                    let part = |p: &Path| {
                        p.file_name()
                            .unwrap_or_default()
                            .to_string_lossy()
                            .into_owned()
                    };
                    found.push(format!("{}{}", part(&shard), part(&path)));
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// A file that is gone when this is, unless it was renamed away.
struct Tmp(PathBuf);

impl Drop for Tmp {
    fn drop(&mut self) {
        // Nothing to do if it is not there; a leftover is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn sync_dir(dir: &Path) -> Result<(), BlobError> {
    let opened = fs::File::open(dir).await.map_err(io("open", dir))?;
    opened.sync_all().await.map_err(io("flush", dir))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> BlobError + use<> {
    let path = path.to_owned();
    move |source| BlobError::Io {
        action,
        path,
        source,
    }
}
