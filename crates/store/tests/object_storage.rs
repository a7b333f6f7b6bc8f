//! Blobs in object storage: the conformance suite, and what object storage does to its clients.
//! Against moto, an S3 server that checks signatures; `cargo xtask test --only rust` installs it.

mod s3;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freehold_base::{IdSource, Secret, Timestamp};
use freehold_store::conformance::{self, Fixture};
use freehold_store::{
    BlobError, BlobStore, CommitListener, NewOutput, ObjectBlobs, ObjectStorage, Place,
    StorageCause, Store,
};
use s3::Server;
use s3::proxy::{Deed, Proxy};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{Notify, Semaphore};

const MIB: usize = 1 << 20;
/// Sent in three parts.
const LARGE: usize = 20 * MIB;

struct World {
    server: Server,
    proxy: Proxy,
    spool: TempDir,
}

impl World {
    async fn new() -> Self {
        let server = Server::start();
        Self {
            proxy: Proxy::start(&server.endpoint).await,
            server,
            spool: tempfile::tempdir().unwrap(),
        }
    }
    /// Through the proxy.
    fn storage(&self) -> ObjectStorage {
        ObjectStorage {
            endpoint: Some(self.proxy.endpoint.clone()),
            ..self.server.storage("some/prefix", self.spool.path())
        }
    }
    fn blobs(&self) -> ObjectBlobs {
        open(self.storage())
    }
    /// As [`World::blobs`], for somebody who tries only once.
    fn impatient(&self) -> ObjectBlobs {
        open(ObjectStorage {
            patience: Duration::ZERO,
            ..self.storage()
        })
    }
}

fn open(storage: ObjectStorage) -> ObjectBlobs {
    ObjectBlobs::new(storage, IdSource::system()).unwrap()
}

/// No two pieces of it are alike.
fn content(size: usize) -> Vec<u8> {
    (0..size as u64 / 8 + 1)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .take(size)
        .collect()
}

async fn read(blobs: &ObjectBlobs, key: &str) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = blobs.open(key).await.unwrap();
    reader.read_to_end(&mut bytes).await.map(|_| bytes)
}

async fn put(blobs: &ObjectBlobs, content: &[u8]) -> Result<String, BlobError> {
    let blob = blobs.put(Box::new(content), u64::MAX).await?;
    assert_eq!(blob.size, content.len() as u64);
    Ok(blob.key)
}

#[track_caller]
fn cause(result: Result<impl Sized, BlobError>) -> StorageCause {
    match result {
        Err(BlobError::Storage { source, .. }) => source,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it succeeded"),
    }
}

fn in_bucket(blobs: Box<ObjectBlobs>) -> Place {
    Place {
        blobs: Some(blobs),
        ..Place::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_passes() {
    let server = Server::start();
    let cases = AtomicUsize::new(0);
    let open = |ids: IdSource, listener: Arc<dyn CommitListener>| {
        let dir = tempfile::tempdir().unwrap();
        let case = cases.fetch_add(1, Ordering::Relaxed);
        let storage = server.storage(&format!("case/{case}"), dir.path());
        let blobs = ObjectBlobs::new(storage, ids.clone()).unwrap();
        let store = Store::open_with(dir.path(), in_bucket(Box::new(blobs)), ids, listener);
        Fixture {
            store: store.unwrap(),
            keep: Box::new(dir),
        }
    };
    assert_eq!(conformance::run(&open).await, Vec::<&str>::new());
}

#[tokio::test]
async fn large_content_is_sent_in_parts_and_comes_back_as_it_was() {
    let mut w = World::new().await;
    let blobs = w.blobs();
    let large = content(LARGE);
    let key = put(&blobs, &large).await.unwrap();
    assert!(read(&blobs, &key).await.unwrap() == large);
    let found = w.server.look();
    let name = format!("some/prefix/{}/{}", &key[..2], &key[2..]);
    assert_eq!(found.objects, [name]);
    assert!(found.uploads.is_empty(), "{found:?}");
    let left = std::fs::read_dir(w.spool.path()).unwrap().count();
    assert_eq!(left, 0, "files of received content");
}

#[tokio::test]
async fn what_is_refused_was_never_sent() {
    let w = World::new().await;
    let blobs = w.blobs();
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    w.proxy.decide(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Deed::Pass
    });
    let large = content(LARGE);
    let refused = blobs.put(Box::new(&large[..]), LARGE as u64 - 1).await;
    assert!(matches!(refused, Err(BlobError::TooLarge { .. })));
    let broken = tokio_util::io::StreamReader::new(futures_util::stream::iter([
        Ok(&large[..]),
        Err(std::io::Error::other("lost")),
    ]));
    let refused = blobs.put(Box::new(broken), u64::MAX).await;
    assert!(matches!(refused, Err(BlobError::Content(_))));
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_upload_that_fails_is_aborted() {
    let mut w = World::new().await;
    w.proxy.decide(|line| match line {
        part if part.contains("partNumber=2&") => Deed::Answer(400, "InvalidRequest"),
        _ => Deed::Pass,
    });
    // Found out at the end, and while there are more parts to come.
    for size in [LARGE, 4 * LARGE] {
        let failed = cause(put(&w.blobs(), &content(size)).await);
        assert_eq!(failed.to_string(), "it answered 400 (InvalidRequest)");
    }
    let found = w.server.look();
    assert!(
        found.objects.is_empty() && found.uploads.is_empty(),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_put_that_nobody_waits_for_leaves_nothing() {
    let mut w = World::new().await;
    let (arrived, leave) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let deleted = Arc::new(Notify::new());
    let (tell, hold, gone) = (arrived.clone(), leave.clone(), deleted.clone());
    w.proxy.decide(move |line| {
        if line.contains("partNumber=1&") {
            tell.notify_one();
            return Deed::Hold(hold.clone());
        }
        if line.starts_with("DELETE") {
            gone.notify_one();
        }
        Deed::Pass
    });
    let (blobs, large) = (w.blobs(), content(LARGE));
    {
        let put = std::pin::pin!(put(&blobs, &large));
        tokio::select! {
            _ = put => panic!("it was held"),
            () = arrived.notified() => {}
        }
    }
    leave.add_permits(1);
    deleted.notified().await;
    // The request is on its way; the next to the same server comes after it only by luck.
    while !w.server.look().objects.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(w.server.look().uploads.is_empty());
}

#[tokio::test]
async fn failures_that_pass_are_not_noticed() {
    let w = World::new().await;
    let mut requests = 0;
    w.proxy.decide(move |_| {
        requests += 1;
        match requests % 5 {
            1 => Deed::Answer(503, "SlowDown"),
            3 => Deed::Answer(500, "InternalError"),
            _ => Deed::Pass,
        }
    });
    let blobs = w.blobs();
    for size in [10, LARGE] {
        let bytes = content(size);
        let key = put(&blobs, &bytes).await.unwrap();
        assert!(read(&blobs, &key).await.unwrap() == bytes);
        let now = Timestamp::from_micros(i64::MAX);
        assert_eq!(blobs.older_than(now, None, 10).await.unwrap(), [&*key]);
        let unused = Box::pin(async { Ok(false) });
        assert!(blobs.remove(&key, unused).await.unwrap());
    }
}

#[tokio::test]
async fn failures_that_stay_are_told() {
    let w = World::new().await;
    let blobs = w.impatient();
    let key = put(&blobs, b"there").await.unwrap();
    w.proxy.decide(|_| Deed::Answer(503, "SlowDown"));
    let slow = StorageCause::Answered {
        status: 503,
        code: "SlowDown".to_owned(),
    };
    assert_eq!(cause(put(&blobs, b"more").await), slow);
    assert_eq!(cause(put(&blobs, &content(LARGE)).await), slow);
    assert_eq!(cause(blobs.open(&key).await), slow);
    let now = Timestamp::from_micros(i64::MAX);
    assert_eq!(cause(blobs.older_than(now, None, 1).await), slow);
    let removed = blobs.remove(&key, Box::pin(async { Ok(false) })).await;
    assert!(removed.is_err());
    w.proxy.decide(|_| Deed::Pass);
    assert_eq!(read(&blobs, &key).await.unwrap(), b"there");
}

#[tokio::test]
async fn bytes_that_could_not_be_deleted_are_collected() {
    let mut w = World::new().await;
    let storage = ObjectStorage {
        patience: Duration::ZERO,
        ..w.storage()
    };
    let store = conformance::World::new(&|ids: IdSource, listener| {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Box::new(ObjectBlobs::new(storage.clone(), ids.clone()).unwrap());
        Fixture {
            store: Store::open_with(dir.path(), in_bucket(blobs), ids, listener).unwrap(),
            keep: Box::new(dir),
        }
    })
    .await;
    let session = store.session().await.id;
    for n in 0..40 {
        let content = format!("output {n}");
        let blob = store.store.blobs().put(content.as_bytes(), 100).await;
        let blob = blob.unwrap();
        let output = NewOutput {
            session: session.clone(),
            path: format!("{n}.txt"),
            blob: blob.key,
            size: blob.size,
            source_mtime: 1,
        };
        store.store.upsert_output(output).await.unwrap();
    }
    w.proxy.decide(|line| match line.starts_with("DELETE") {
        true => Deed::Answer(503, "SlowDown"),
        false => Deed::Pass,
    });
    let deleted = store.store.delete_session(&store.workspace, &session).await;
    deleted.unwrap();
    assert_eq!(w.server.look().objects.len(), 40);
    w.proxy.decide(|_| Deed::Pass);
    store.clock.advance_millis(1_000 * 60 * 60 * 24 * 365 * 100);
    // Not of how many: a request that was given up may still have been on its way.
    assert_ne!(store.store.gc().await.unwrap().blobs, 0);
    assert!(w.server.look().objects.is_empty());
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let w = World::new().await;
    let blobs = w.blobs();
    let large = content(LARGE);
    let key = put(&blobs, &large).await.unwrap();
    let cuts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cuts);
    w.proxy
        .decide(move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0..3 => Deed::Cut(3 * MIB),
            _ => Deed::Pass,
        });
    assert!(read(&blobs, &key).await.unwrap() == large);
    assert_eq!(cuts.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_download_that_stays_cut_short_is_an_error() {
    let w = World::new().await;
    let blobs = w.impatient();
    let key = put(&blobs, &content(LARGE)).await.unwrap();
    w.proxy.decide(|_| Deed::Cut(3 * MIB));
    read(&blobs, &key).await.unwrap_err();
}

#[tokio::test]
async fn what_was_changed_in_the_bucket_is_an_error_and_never_whole() {
    let mut w = World::new().await;
    let blobs = w.blobs();
    let key = put(&blobs, b"original").await.unwrap();
    let name = w.server.look().objects.remove(0);
    for other in ["0riginal", "origina", "originals"] {
        w.server.replace(&name, other);
        let mut bytes = Vec::new();
        let mut reader: Box<dyn AsyncRead + Send + Unpin> = blobs.open(&key).await.unwrap();
        let error = reader.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{other}");
        assert!(bytes.is_empty(), "{other}");
    }
    w.server.replace(&name, "original");
    assert_eq!(read(&blobs, &key).await.unwrap(), b"original");
}

/// A process that decided to remove a blob and then stood still, while another stored the same bytes
/// again.
#[tokio::test]
async fn a_removal_that_comes_late_takes_nothing_from_another_process() {
    let w = World::new().await;
    let (a, b) = (w.blobs(), w.blobs());
    let old = put(&b, b"same").await.unwrap();
    let (arrived, leave) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (tell, hold) = (arrived.clone(), leave.clone());
    w.proxy
        .decide(move |line| match line.starts_with("DELETE") {
            true => {
                tell.notify_one();
                Deed::Hold(hold.clone())
            }
            false => Deed::Pass,
        });
    let removal = b.remove(&old, Box::pin(async { Ok(false) }));
    let meanwhile = async {
        arrived.notified().await;
        let new = put(&a, b"same").await.unwrap();
        leave.add_permits(1);
        new
    };
    let (removed, new) = tokio::join!(removal, meanwhile);
    assert!(removed.unwrap());
    assert_eq!(read(&a, &new).await.unwrap(), b"same");
    assert!(matches!(a.open(&old).await, Err(BlobError::NotFound)));
}

#[tokio::test]
async fn blobs_copied_from_a_directory_are_found() {
    let mut w = World::new().await;
    let blobs = w.blobs();
    let key = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let name = format!("some/prefix/{}/{}", &key[..2], &key[2..]);
    w.server.replace(&name, "hello");
    // What is not ours is neither read nor listed.
    w.server.replace("some/prefix/notes", "x");
    w.server.replace(&format!("some/prefix/x/{name}"), "x");
    assert_eq!(read(&blobs, key).await.unwrap(), b"hello");
    let now = Timestamp::from_micros(i64::MAX);
    assert_eq!(blobs.older_than(now, None, 10).await.unwrap(), [key]);
}

#[tokio::test]
async fn the_probe_says_what_is_wrong_and_betrays_nothing() {
    let mut w = World::new().await;
    w.blobs().probe().await.unwrap();
    assert!(w.server.look().objects.is_empty());
    let storage = w.storage();
    let with = |change: &dyn Fn(&mut ObjectStorage)| {
        let mut storage = storage.clone();
        change(&mut storage);
        open(storage)
    };
    let (none_id, none_key) = w.server.none.clone();
    let secret = "wrong-secret-shibboleth";
    let unused = {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", port.local_addr().unwrap())
    };
    let cases: [(&str, ObjectBlobs); 5] = [
        (
            "the bucket does not exist",
            with(&|s| s.bucket = "other".into()),
        ),
        (
            "access is refused (SignatureDoesNotMatch)",
            with(&|s| s.secret_access_key = Secret::new(secret.into())),
        ),
        (
            "access is refused (InvalidAccessKeyId)",
            with(&|s| s.access_key_id = "AKIANOBODY".into()),
        ),
        (
            "access is refused (AccessDenied)",
            with(&|s| {
                s.access_key_id = none_id.clone();
                s.secret_access_key = Secret::new(none_key.clone());
            }),
        ),
        (
            "the endpoint cannot be reached (Connection refused (os error 111))",
            with(&|s| {
                s.endpoint = Some(unused.clone());
                s.patience = Duration::ZERO;
            }),
        ),
    ];
    for (expected, blobs) in cases {
        let error = blobs.probe().await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert_eq!(cause(Err::<(), _>(error)).to_string(), expected);
        for hidden in [
            secret,
            &w.server.all.0,
            &w.server.all.1,
            "AKIANOBODY",
            &none_key,
        ] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }
}

#[tokio::test]
async fn tls_is_checked() {
    let w = World::new().await;
    let (proxy, certificate) = Proxy::start_tls(&w.server.endpoint).await;
    let storage = ObjectStorage {
        endpoint: Some(proxy.endpoint.clone()),
        patience: Duration::ZERO,
        ..w.storage()
    };
    let unknown = cause(open(storage.clone()).probe().await);
    assert!(unknown.to_string().contains("certificate"), "{unknown}");
    let known = ObjectStorage {
        authorities: Some(certificate.into_bytes()),
        ..storage
    };
    open(known).probe().await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_refused() {
    let spool = tempfile::tempdir().unwrap();
    let good = ObjectStorage {
        bucket: "b".into(),
        prefix: String::new(),
        endpoint: None,
        region: "us-east-1".into(),
        access_key_id: "k".into(),
        secret_access_key: Secret::new("s".into()),
        session_token: None,
        authorities: None,
        patience: Duration::ZERO,
        spool: spool.path().to_owned(),
    };
    open(good.clone());
    let bad = [
        ObjectStorage {
            prefix: "a//b".into(),
            ..good.clone()
        },
        ObjectStorage {
            authorities: Some(b"-----BEGIN CERTIFICATE-----\n!\n".to_vec()),
            ..good
        },
    ];
    for storage in bad {
        let refused = ObjectBlobs::new(storage, IdSource::system());
        assert!(matches!(cause(refused), StorageCause::Settings { .. }));
    }
}
