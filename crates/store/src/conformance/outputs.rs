//! Files an agent left behind.

use freehold_base::SessionId;

use super::cases;
use super::world::World;
use crate::{FileRow, NewOutput, OutputError};

cases! {
    an_output_is_a_file_of_its_session,
    changed_content_is_a_new_file,
    unusable_outputs_are_refused,
}

async fn put(w: &World, session: &SessionId, path: &str, content: &str, source_mtime: i64) {
    w.tick();
    let blob = w.store.blobs().put(content.as_bytes(), 100).await.unwrap();
    let output = NewOutput {
        session: session.clone(),
        path: path.into(),
        blob: blob.key.clone(),
        size: blob.size,
        source_mtime,
    };
    w.store.upsert_output(output).await.unwrap();
    w.store.release_blob(blob).await;
}

async fn outputs(w: &World, session: &SessionId) -> Vec<FileRow> {
    w.store.session_outputs(session).await.unwrap()
}

async fn an_output_is_a_file_of_its_session(w: World) {
    let (s, other) = (w.session().await.id, w.session().await.id);
    put(&w, &s, "sub/re:port.csv", "a", 7).await;
    put(&w, &other, "sub/re:port.csv", "a", 7).await;
    let row = outputs(&w, &s).await.remove(0);
    assert_eq!(
        (row.filename.as_str(), row.mime_type.as_str()),
        ("re_port.csv", "text/csv")
    );
    assert_eq!((row.size, row.downloadable), (1, true));
    assert_eq!(row.output_path.as_deref(), Some("sub/re:port.csv"));
    assert_eq!(
        (row.source_mtime, row.scope_session.as_ref()),
        (Some(7), Some(&s))
    );
    assert_eq!(
        w.store.file(&w.workspace, &row.id).await.unwrap(),
        Some(row)
    );
}

async fn changed_content_is_a_new_file(w: World) {
    let s = w.session().await.id;
    put(&w, &s, "a", "one", 1).await;
    put(&w, &s, "b", "two", 1).await;
    let first = outputs(&w, &s).await;
    put(&w, &s, "a", "one", 2).await;
    let touched = outputs(&w, &s).await;
    assert_eq!(
        (&touched[0].id, touched[0].source_mtime),
        (&first[0].id, Some(2))
    );
    assert_eq!(touched[0].blob, first[0].blob);
    w.clock.advance_millis(1_000 * 60 * 60 * 24 * 365 * 100);
    assert_eq!(w.store.gc().await.unwrap().blobs, 0, "nothing is left over");
    put(&w, &s, "a", "three", 3).await;
    let changed = outputs(&w, &s).await;
    assert_eq!(changed.len(), 2);
    assert_eq!(changed[0], first[1]);
    assert_ne!(changed[1].id, first[0].id);
    assert!(
        w.store
            .file(&w.workspace, &first[0].id)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(w.content(&changed[1].blob).await.as_deref(), Some("three"));
    assert_eq!(
        w.content(&first[0].blob).await,
        None,
        "the old bytes are gone"
    );
}

async fn unusable_outputs_are_refused(w: World) {
    let s = w.session().await.id;
    let blob = w.store.blobs().put(&b"x"[..], 10).await.unwrap();
    let output = |session: &SessionId, path: String| NewOutput {
        session: session.clone(),
        path,
        blob: blob.key.clone(),
        size: 1,
        source_mtime: 0,
    };
    for path in [String::new(), "p".repeat(5000)] {
        let refused = w.store.upsert_output(output(&s, path)).await;
        assert!(matches!(refused, Err(OutputError::BadPath)), "{refused:?}");
    }
    let refused = w
        .store
        .upsert_output(output(&w.ids.next(), "a".into()))
        .await;
    assert!(
        matches!(refused, Err(OutputError::SessionGone)),
        "{refused:?}"
    );
    assert!(outputs(&w, &s).await.is_empty());
}
