//! Blobs in a directory: `blobs/ab/cdef…`, written to `blobs/tmp` first and renamed into place
//! when they and their length are on disk. Equal content is stored once: one process has the
//! directory, and its lock decides between a put and a removal of the same bytes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use freehold_base::{IdSource, Timestamp};
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::pin::Pins;
use super::{Blob, BlobError, BlobPin, BlobStore, StillUsed, key};
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

    /// Blobs below `root`, to be read beside the process that has the directory open; prepares nothing.
    pub fn reading(root: &Path, ids: IdSource) -> Self {
        Self {
            root: root.to_owned(),
            ids,
            pins: Pins::default(),
            removal: tokio::sync::Mutex::new(()),
        }
    }

    /// Where a blob is; `None` if the key is none.
    fn path(&self, key: &str) -> Option<PathBuf> {
        key::place(key).map(|(shard, name)| self.root.join(shard).join(name))
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

    async fn put_as<'c>(
        &self,
        key: &str,
        content: Box<dyn AsyncRead + Send + Unpin + 'c>,
    ) -> Result<(), BlobError> {
        let to = self.path(key).ok_or(BlobError::NotFound)?;
        let tmp = Tmp(self.root.join("tmp").join(self.ids.hex(16)));
        let (hash, _) = self.write(&tmp.0, content, u64::MAX).await?;
        if key::hash(key) != Some(&hash) {
            return Err(BlobError::NotFound);
        }
        self.publish(&tmp.0, &to).await
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

    async fn older_than(
        &self,
        time: Timestamp,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BlobError> {
        let mut found = Vec::new();
        for shard in names(&self.root).await? {
            if shard.len() != 2
                || after
                    .and_then(|key| key.get(..2))
                    .is_some_and(|a| shard.as_str() < a)
            {
                continue; // `tmp`, or seen
            }
            for name in names(&self.root.join(&shard)).await? {
                let path = self.root.join(&shard).join(&name);
                let Some(key) =
                    key::at(&shard, &name).filter(|key| after.is_none_or(|a| a < key.as_str()))
                else {
                    continue;
                };
                let modified = match fs::metadata(&path).await.and_then(|m| m.modified()) {
                    Ok(modified) => modified,
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    Err(e) => return Err(io("inspect", &path)(e)),
                };
                let age = modified
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap_or_default();
                if age.as_micros() < u128::try_from(time.as_micros()).unwrap_or(0) {
                    found.push(key);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }
}

/// What is in a directory, in ascending order.
async fn names(dir: &Path) -> Result<Vec<String>, BlobError> {
    let mut entries = fs::read_dir(dir).await.map_err(io("list", dir))?;
    let mut names = Vec::new();
    while let Some(entry) = entries.next_entry().await.map_err(io("list", dir))? {
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
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
