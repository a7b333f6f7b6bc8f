//! Blobs in object storage that speaks the S3 API. Any number of processes may share the place.
//!
//! **Removal.** Object storage has no delete that looks first: between any check of a process and its
//! DELETE another process may store the same content again, or the first may be stopped for an hour.
//! So an object is written by one put alone: its name ends in an id that is used once, and equal
//! content is stored as often as it is put. (Files attached to sessions, and skills, copy the key and
//! not the bytes.) Then an object without a row is in one of two states, and never goes from the
//! second to the first:
//!
//! 1. *Not yet referred to*: its put runs, or its caller is about to write the row. The pin keeps it
//!    from this process. Others know it from a listing at most, and do not look at what is younger
//!    than a day by the storage's own clock.
//! 2. *No longer referred to*: its last row is gone. A row is made from a put, once, or from another
//!    row in a transaction that a deletion of that row waits for. So there will not be another, and
//!    whoever sees that there is none may delete at once, however late the request arrives.
//!
//! So bytes are deleted as soon as their last row is; what a failure leaves over goes with the next
//! collection after a day. What would break this is a caller that takes more than a day between a put
//! and its row, or a process whose clock is a day ahead of the storage's.
//!
//! **Writing.** The name holds the hash, so content is received first: up to [`PART`] bytes in memory,
//! more of it in a file without a name. What is refused (too large, broken off) has then never been
//! sent. Then it is one PUT, or a multipart upload that is aborted if it fails, in a task of its own:
//! if nobody waits any more, it is deleted again. Bodies are signed, so the storage refuses what was
//! changed on its way. Uploads that a crash cut off are out of reach for this API; a rule of the
//! bucket ends them (`docs/storage.md`).
//!
//! **Reading** checks size and hash, and keeps the last piece back until they are right, so that what
//! is damaged is never whole.

mod cause;
mod client;
mod receive;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freehold_base::{IdSource, Secret, Timestamp};
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig, WriteMultipart,
};
use tokio::io::AsyncRead;
use tokio::sync::oneshot;
use tokio_util::io::StreamReader;

use super::pin::Pins;
use super::{Blob, BlobError, BlobStore, StillUsed, StorageCause, key};
use crate::StoreError;
use cause::failed;
use client::Client;
use receive::{Body, Received};

/// Bytes that are sent at a time, and of which more are not held in memory: the least is 5 MiB.
const PART: usize = 8 << 20;
/// Parts of one upload that are under way at a time.
const PARTS_AT_ONCE: usize = 4;
/// Retries of one request.
const RETRIES: usize = 8;
/// What the probe writes.
const PROBE: &[u8] = b"freehold";

/// Where the object storage is, and how to get in.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    /// Name of the bucket. It must exist.
    pub bucket: String,
    /// What the names of all objects begin with, as a folder; may be empty.
    pub prefix: String,
    /// URL of the storage; without one that of AWS in the region. Plain HTTP only if it says so.
    pub endpoint: Option<String>,
    /// Region that requests are signed for.
    pub region: String,
    /// Id of the access key.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: Secret<String>,
    /// Token of temporary credentials.
    pub session_token: Option<Secret<String>>,
    /// PEM of certificate authorities that are trusted beside those of the system.
    pub authorities: Option<Vec<u8>>,
    /// How long a request that fails is tried again.
    pub patience: Duration,
    /// Folder for content that is being received and larger than fits into memory. Must exist.
    pub spool: PathBuf,
}

/// Object storage as a [`BlobStore`].
pub struct ObjectBlobs {
    storage: Arc<AmazonS3>,
    prefix: Path,
    spool: PathBuf,
    ids: IdSource,
    pins: Pins,
}

impl ObjectBlobs {
    /// Blobs in a bucket. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`BlobError::Storage`]: the settings cannot be used.
    pub fn new(settings: ObjectStorage, ids: IdSource) -> Result<Self, BlobError> {
        let unusable = |reason: &str| BlobError::Storage {
            action: "be set up",
            source: StorageCause::Settings {
                reason: reason.to_owned(),
            },
        };
        let plain = (settings.endpoint.as_deref()).is_some_and(|url| url.starts_with("http://"));
        let client = Client::new(settings.authorities.as_deref(), plain)
            .ok_or_else(|| unusable("the certificate authorities are not PEM certificates"))?;
        let retry = RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.,
            },
            max_retries: RETRIES,
            retry_timeout: settings.patience,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key_id)
            .with_secret_access_key(settings.secret_access_key.expose())
            .with_disable_bulk_delete(true)
            .with_retry(retry);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(token.expose());
        }
        let storage = builder
            .with_allow_http(plain)
            .with_http_connector(client)
            .build()
            .map_err(|_| unusable("bucket, endpoint or credentials cannot be used"))?;
        let prefix = Path::parse(&settings.prefix)
            .map_err(|_| unusable("the prefix cannot be part of a name"))?;
        Ok(Self {
            storage: Arc::new(storage),
            prefix,
            spool: settings.spool,
            ids,
            pins: Pins::default(),
        })
    }

    /// Whether all goes that is needed: writes, reads, lists and deletes a blob. A crash may leave
    /// it; then it is collected like any other.
    ///
    /// # Errors
    /// [`BlobError::Storage`] says what does not go, and why.
    pub async fn probe(&self) -> Result<(), BlobError> {
        let blob = self.put(Box::new(PROBE), PROBE.len() as u64).await?;
        let read = async {
            let mut content = Vec::new();
            let mut reader = self.open(&blob.key).await?;
            tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut content)
                .await
                .map_err(BlobError::Content)?;
            self.older_than(Timestamp::from_micros(0), None, 1).await
        };
        let read = read.await;
        let deleted = self.delete(&blob.key).await;
        read.and(deleted).map(drop)
    }

    /// The object's name; `None` if the key is none.
    fn object(&self, key: &str) -> Option<Path> {
        key::place(key).map(|(folder, name)| self.prefix.clone().join(folder).join(name))
    }

    /// The key of an object; `None` if it is none of ours.
    fn key(&self, object: &Path) -> Option<String> {
        let mut parts = object.prefix_match(&self.prefix)?;
        let (folder, name) = (parts.next()?, parts.next()?);
        let key = key::at(folder.as_ref(), name.as_ref())?;
        parts.next().is_none().then_some(key)
    }

    /// Gives whether there may have been one.
    async fn delete(&self, key: &str) -> Result<bool, BlobError> {
        let Some(object) = self.object(key) else {
            return Ok(false);
        };
        match self.storage.delete(&object).await.map_err(failed("delete")) {
            Ok(()) => Ok(true),
            Err(BlobError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl BlobStore for ObjectBlobs {
    async fn put<'c>(
        &self,
        content: Box<dyn AsyncRead + Send + Unpin + 'c>,
        limit: u64,
    ) -> Result<Blob, BlobError> {
        let Received { hash, size, body } = receive::receive(content, limit, &self.spool).await?;
        let key = key::unique(&hash, &self.ids);
        let object = self.object(&key).ok_or(BlobError::NotFound)?;
        // Before there is anything to remove.
        let pin = self.pins.pin(&key);
        let (storage, (done, outcome)) = (Arc::clone(&self.storage), oneshot::channel());
        tokio::spawn(async move {
            let written = write(&storage, &object, body).await;
            if let Err(Ok(())) = done.send(written) {
                // The caller has gone: nothing will refer to it. If this fails, it is collected.
                let _ = storage.delete(&object).await;
            }
        });
        // Without an answer the runtime is ending.
        outcome.await.unwrap_or(Err(BlobError::Storage {
            action: "write",
            source: StorageCause::TimedOut,
        }))?;
        Ok(Blob { key, size, pin })
    }

    async fn put_as<'c>(
        &self,
        key: &str,
        content: Box<dyn AsyncRead + Send + Unpin + 'c>,
    ) -> Result<(), BlobError> {
        let object = self.object(key).ok_or(BlobError::NotFound)?;
        let Received { hash, body, .. } = receive::receive(content, u64::MAX, &self.spool).await?;
        if key::hash(key) != Some(&hash) {
            return Err(BlobError::NotFound);
        }
        write(&self.storage, &object, body).await
    }

    async fn open(&self, key: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, BlobError> {
        let (object, hash) = match (self.object(key), key::hash(key)) {
            (Some(object), Some(hash)) => (object, hash.to_owned()),
            _ => return Err(BlobError::NotFound),
        };
        let found = self.storage.get(&object).await.map_err(failed("read"))?;
        let size = found.meta.size;
        let pieces = found.into_stream().map_err(failed("read"));
        let checked = verify::checked(pieces, hash, size);
        Ok(Box::new(StreamReader::new(Box::pin(checked))))
    }

    async fn remove(&self, key: &str, still_used: StillUsed<'_>) -> Result<bool, StoreError> {
        // In this order: who lets go of a pin has written the row that the question finds.
        if self.pins.pinned(key) || still_used.await? {
            return Ok(false);
        }
        Ok(self.delete(key).await?)
    }

    async fn older_than(
        &self,
        time: Timestamp,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, BlobError> {
        // An empty prefix lists the bucket.
        let prefix = Some(&self.prefix);
        let mut objects = match after.and_then(|key| self.object(key)) {
            Some(last) => self.storage.list_with_offset(prefix, &last),
            None => self.storage.list(prefix),
        };
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(object) = objects.try_next().await.map_err(failed("list"))? else {
                break;
            };
            if object.last_modified.timestamp_micros() < time.as_micros() {
                found.extend(self.key(&object.location));
            }
        }
        Ok(found)
    }
}

/// Stores an object, whole or not at all.
async fn write(storage: &AmazonS3, object: &Path, body: Body) -> Result<(), BlobError> {
    let write = || failed("write");
    let mut spool = match body {
        Body::Memory(bytes) => {
            let put = storage.put(object, PutPayload::from_bytes(bytes)).await;
            return put.map(drop).map_err(write());
        }
        Body::Spool(spool) => spool,
    };
    let upload = storage.put_multipart(object).await.map_err(write())?;
    let mut parts = WriteMultipart::new_with_chunk_size(upload, PART);
    let sent = async {
        while let Some(part) = spool.next(PART).await? {
            parts
                .wait_for_capacity(PARTS_AT_ONCE)
                .await
                .map_err(write())?;
            parts.put(part);
        }
        Ok(())
    };
    if let Err(error) = sent.await {
        // The first failure is the one to tell.
        let _ = parts.abort().await;
        return Err(error);
    }
    // Aborts by itself if it fails.
    parts.finish().await.map(drop).map_err(write())
}
