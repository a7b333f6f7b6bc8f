//! The files of sandboxes, and the snapshots from which other replicas go on.

use freehold_base::SessionId;

use super::cases;
use super::world::World;
use crate::{EnterSandboxError, SandboxFiles, SavedFiles};

cases! {
    the_first_directory_takes_the_files_up,
    a_directory_that_missed_something_is_told,
    a_snapshot_says_which_changes_it_holds,
    a_directory_of_before_saves_nothing,
    the_snapshot_before_goes_and_the_last_stays,
    a_deleted_session_leaves_no_snapshot,
}

async fn enter(w: &World, s: &SessionId, known: Option<i64>, changing: bool) -> SandboxFiles {
    w.store.enter_sandbox(s, known, changing).await.unwrap()
}

/// Saves `content`; the blob's key, and whether it was noted.
async fn save(
    w: &World,
    s: &SessionId,
    generation: i64,
    changes: i64,
    content: &str,
) -> (SavedFiles, bool) {
    let blob = w.store.blobs().put(content.as_bytes(), 100).await.unwrap();
    let files = SavedFiles {
        blob: blob.key.clone(),
        bytes: blob.size,
        at: w.ids.clock().now(),
    };
    let noted = w
        .store
        .save_sandbox(s, generation, changes, files.clone())
        .await
        .unwrap();
    (files, noted)
}

async fn the_first_directory_takes_the_files_up(w: World) {
    let s = w.session().await.id;
    let first = enter(&w, &s, None, true).await;
    assert_eq!(
        (first.generation, first.changes, first.first),
        (1, 0, true),
        "nothing is counted before the directory knows its generation"
    );
    let again = enter(&w, &s, Some(1), false).await;
    assert_eq!((again.generation, again.first), (1, false));
    assert!(!again.unsaved && again.saved.is_none());
    let unknown = w.ids.next();
    let refused = w.store.enter_sandbox(&unknown, None, false).await;
    assert!(matches!(refused, Err(EnterSandboxError::Elsewhere)));
}

async fn a_directory_that_missed_something_is_told(w: World) {
    let s = w.session().await.id;
    enter(&w, &s, None, false).await;
    let other = enter(&w, &s, None, false).await;
    assert_eq!((other.generation, other.first), (2, false));
    let late = enter(&w, &s, Some(1), false).await;
    assert_eq!(late.generation, 3, "each taking up is another");
    assert_eq!(enter(&w, &s, Some(3), false).await.generation, 3);
}

async fn a_snapshot_says_which_changes_it_holds(w: World) {
    let s = w.session().await.id;
    enter(&w, &s, None, false).await;
    let one = enter(&w, &s, Some(1), true).await;
    assert_eq!((one.changes, one.unsaved), (1, true));
    let two = enter(&w, &s, Some(1), true).await;
    assert_eq!(two.changes, 2);
    save(&w, &s, 1, 1, "one").await;
    let partly = enter(&w, &s, Some(1), false).await;
    assert!(partly.unsaved, "a call began after it was taken");
    let (files, noted) = save(&w, &s, 1, 2, "two").await;
    assert!(noted);
    let moved = enter(&w, &s, None, true).await;
    assert_eq!((moved.generation, moved.unsaved), (2, false));
    assert_eq!(moved.saved, Some(files));
    enter(&w, &s, Some(2), true).await;
    let lost = enter(&w, &s, None, false).await;
    assert!(lost.unsaved);
    let again = enter(&w, &s, None, false).await;
    assert!(again.unsaved, "until something newer is saved");
}

async fn a_directory_of_before_saves_nothing(w: World) {
    let s = w.session().await.id;
    enter(&w, &s, None, false).await;
    enter(&w, &s, None, false).await;
    let (old, noted) = save(&w, &s, 1, 0, "old").await;
    assert!(!noted);
    assert_eq!(enter(&w, &s, Some(2), false).await.saved, None);
    let (files, noted) = save(&w, &s, 2, 0, "new").await;
    assert!(noted);
    assert_ne!(old.blob, files.blob);
    assert_eq!(enter(&w, &s, Some(2), false).await.saved, Some(files));
    assert!(!save(&w, &w.ids.next(), 1, 0, "of nobody").await.1);
}

async fn the_snapshot_before_goes_and_the_last_stays(w: World) {
    let s = w.session().await.id;
    enter(&w, &s, None, false).await;
    let (one, _) = save(&w, &s, 1, 0, "one").await;
    let (same, _) = save(&w, &s, 1, 0, "one").await;
    assert_eq!(w.content(&same.blob).await.as_deref(), Some("one"));
    let (two, _) = save(&w, &s, 1, 0, "two").await;
    for before in [&one, &same] {
        assert_eq!(w.content(&before.blob).await, None);
    }
    // Long enough for every blob to be old.
    w.clock.advance_millis(400 * 365 * 24 * 60 * 60 * 1000);
    w.store.gc().await.unwrap();
    assert_eq!(w.content(&two.blob).await.as_deref(), Some("two"));
}

async fn a_deleted_session_leaves_no_snapshot(w: World) {
    let (s, other) = (w.session().await.id, w.session().await.id);
    for session in [&s, &other] {
        enter(&w, session, None, false).await;
    }
    let (own, _) = save(&w, &s, 1, 0, "own").await;
    save(&w, &other, 1, 0, "shared").await;
    let third = w.session().await.id;
    enter(&w, &third, None, false).await;
    let (shared, _) = save(&w, &third, 1, 0, "shared").await;
    for session in [&s, &other] {
        w.store.delete_session(&w.workspace, session).await.unwrap();
    }
    assert_eq!(w.content(&own.blob).await, None);
    assert_eq!(w.content(&shared.blob).await.as_deref(), Some("shared"));
    let refused = w.store.enter_sandbox(&s, Some(1), true).await;
    assert!(matches!(refused, Err(EnterSandboxError::Elsewhere)));
}
