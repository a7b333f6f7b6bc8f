//! Files and their bytes.

use freehold_base::{Clock, Timestamp};

use super::cases;
use super::world::World;
use crate::{BlobError, FileQuery};

cases! {
    equal_bytes_outlive_one_file,
    files_are_listed_newest_first,
    another_workspace_sees_no_file,
    too_large_content_is_not_kept,
    broken_content_is_not_kept,
    no_key_reaches_another_path,
    collection_spares_what_is_young_used_or_pinned,
    old_blobs_come_in_pages,
}

async fn equal_bytes_outlive_one_file(w: World) {
    let (a, b) = (w.file("same").await, w.file("same").await);
    assert!(w.store.delete_file(&w.workspace, &a.id).await.unwrap());
    assert_eq!(w.content(&b.blob).await.as_deref(), Some("same"));
    assert!(w.store.delete_file(&w.workspace, &b.id).await.unwrap());
    assert_eq!(w.content(&a.blob).await, None);
    assert_eq!(w.content(&b.blob).await, None);
    assert!(!w.store.delete_file(&w.workspace, &b.id).await.unwrap());
    let again = w.file("same").await;
    assert_eq!(w.content(&again.blob).await.as_deref(), Some("same"));
}

async fn files_are_listed_newest_first(w: World) {
    let mut made = Vec::new();
    for n in 0..5 {
        made.insert(0, w.file(&n.to_string()).await);
    }
    let q = |limit| FileQuery {
        limit,
        ..Default::default()
    };
    assert_eq!(w.store.list_files(&w.workspace, q(10)).await.unwrap(), made);
    assert_eq!(
        w.store.list_files(&w.workspace, q(2)).await.unwrap(),
        made[..3]
    );
    let after = Some((made[1].created_at, made[1].id.clone()));
    let rest = FileQuery { after, ..q(10) };
    assert_eq!(
        w.store.list_files(&w.workspace, rest).await.unwrap(),
        made[2..]
    );
    let ids = vec![made[3].id.clone(), w.file_id(), made[0].id.clone()];
    let some = w
        .store
        .list_files(&w.workspace, FileQuery { ids, ..q(10) })
        .await
        .unwrap();
    assert_eq!(some, [made[0].clone(), made[3].clone()]);
    let scope = Some(w.session().await.id);
    let none = w
        .store
        .list_files(&w.workspace, FileQuery { scope, ..q(10) })
        .await
        .unwrap();
    assert!(none.is_empty());
}

async fn another_workspace_sees_no_file(w: World) {
    let file = w.file("x").await;
    let other = w.store.create_workspace("b".into()).await.unwrap().id;
    assert!(w.store.file(&other, &file.id).await.unwrap().is_none());
    assert!(!w.store.delete_file(&other, &file.id).await.unwrap());
    let ids = vec![file.id.clone()];
    let q = FileQuery {
        ids,
        limit: 10,
        ..Default::default()
    };
    assert!(w.store.list_files(&other, q).await.unwrap().is_empty());
    assert_eq!(
        w.store.file(&w.workspace, &file.id).await.unwrap(),
        Some(file)
    );
}

async fn too_large_content_is_not_kept(w: World) {
    let exact = w.store.blobs().put(&b"12345"[..], 5).await.unwrap();
    assert_eq!(exact.size, 5);
    let refused = w.store.blobs().put(&b"123456"[..], 5).await;
    assert!(matches!(refused, Err(BlobError::TooLarge { limit: 5 })));
    let empty = w.store.blobs().put(&b""[..], 0).await.unwrap();
    assert_eq!(w.content(&empty.key).await.as_deref(), Some(""));
    // Larger than any buffer.
    let big = vec![7u8; 3 << 20];
    let kept = w.store.blobs().put(&big[..], u64::MAX).await.unwrap();
    assert_eq!(
        (kept.size, w.content(&kept.key).await.unwrap().len()),
        (3 << 20, 3 << 20)
    );
}

struct Broken(bool);

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        if self.0 {
            return std::task::Poll::Ready(Err(std::io::Error::other("connection lost")));
        }
        self.0 = true;
        buffer.put_slice(b"half");
        std::task::Poll::Ready(Ok(()))
    }
}

async fn broken_content_is_not_kept(w: World) {
    let refused = w.store.blobs().put(Broken(false), 100).await;
    assert!(matches!(refused, Err(BlobError::Content(_))));
    w.clock.advance_millis(1_000 * 60 * 60 * 24 * 365 * 100);
    assert_eq!(
        w.store.gc().await.unwrap().blobs,
        0,
        "nothing of it is there"
    );
}

async fn no_key_reaches_another_path(w: World) {
    let long = "a".repeat(64);
    let bad = [
        "",
        "..",
        "../../lock",
        "../freehold.db",
        "A",
        &long.to_uppercase(),
        &long[1..],
        &format!("{long}-"),
        &format!("{long}-{}", &long[..31]),
        &format!("{long}-../../../../../../lock/../../ab"),
        &format!("{long}-{}-{}", &long[..32], &long[..32]),
        &format!("..{}", &long[2..]),
    ];
    for key in bad {
        assert!(
            matches!(w.store.blobs().open(key).await, Err(BlobError::NotFound)),
            "{key}"
        );
    }
    assert!(matches!(
        w.store.blobs().open(&long).await,
        Err(BlobError::NotFound)
    ));
}

async fn collection_spares_what_is_young_used_or_pinned(w: World) {
    let used = w.file("used").await;
    let pinned = w.store.blobs().put(&b"pinned"[..], 10).await.unwrap();
    let loose = w.store.blobs().put(&b"loose"[..], 10).await.unwrap().key;
    assert_eq!(w.store.gc().await.unwrap().blobs, 0, "young");
    assert!(w.content(&loose).await.is_some());
    w.clock.advance_millis(1_000 * 60 * 60 * 24 * 365 * 100);
    assert_eq!(w.store.gc().await.unwrap().blobs, 1);
    assert!(w.content(&loose).await.is_none());
    assert!(w.content(&used.blob).await.is_some());
    // A file with the pinned bytes that comes and goes takes them from nobody.
    let same = w.file("pinned").await;
    w.store.delete_file(&w.workspace, &same.id).await.unwrap();
    assert!(w.content(&pinned.key).await.is_some());
    let key = pinned.key.clone();
    drop(pinned);
    assert_eq!(w.store.gc().await.unwrap().blobs, 1);
    assert!(w.content(&key).await.is_none());
}

async fn old_blobs_come_in_pages(w: World) {
    let mut keys = Vec::new();
    for n in 0..5 {
        let content = format!("blob {n}");
        let blob = w.store.blobs().put(content.as_bytes(), 10).await.unwrap();
        keys.push(blob.key);
    }
    keys.sort();
    let place = w.store.blobs().place();
    let never = Timestamp::from_micros(0);
    assert!(place.older_than(never, None, 9).await.unwrap().is_empty());
    w.clock.advance_millis(1_000 * 60 * 60 * 24 * 365 * 100);
    let (mut pages, mut last) = (Vec::new(), None::<String>);
    loop {
        let found = place.older_than(w.clock.now(), last.as_deref(), 2).await;
        pages.push(found.unwrap());
        match pages.last().and_then(|page| page.get(1)) {
            Some(key) => last = Some(key.clone()),
            None => break,
        }
    }
    let expected: Vec<_> = keys.chunks(2).map(<[_]>::to_vec).collect();
    assert_eq!(pages, expected);
}
