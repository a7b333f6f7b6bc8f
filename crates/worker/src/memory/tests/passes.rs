//! What can go wrong with a pass, and what a hostile side can do.

use std::sync::Arc;

use super::super::*;
use super::fakes::*;

#[tokio::test]
async fn what_the_store_refuses_waits_for_another_content() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    b.shelf.trouble("/a", Trouble::Refused);
    b.shelf.trouble("/new", Trouble::Refused);
    b.folder.put("a", "bad");
    b.folder.put("new", "bad");
    b.folder.put("b", "good");
    b.sync().await;
    assert_eq!(b.shelf.get("/b").unwrap(), "good", "others go on");
    assert_eq!(b.shelf.asked().len(), 3);
    b.sync().await;
    b.flush().await;
    assert_eq!(b.shelf.asked(), [""; 0]);
    b.shelf.trouble.lock().unwrap().clear();
    b.folder.put("a", "better");
    b.sync().await;
    assert_eq!(b.shelf.asked(), ["update /a"]);
}

#[tokio::test]
async fn what_cannot_be_a_memory_is_left_alone() {
    let mut b = Bench::new(&[("/a", "1"), ("/z", "26")]).await;
    let large = "x".repeat(freehold_base::limits::MAX_MEMORY + 1);
    let names = ["bad\u{200b}name", "large", "latin1"];
    b.folder.put(names[0], "x");
    b.folder.put(names[1], &large);
    b.folder.put(names[2], b"caf\xe9");
    b.folder.put("a", &large);
    for _ in 0..2 {
        b.finish().await;
        b.flush().await;
    }
    assert_eq!(b.shelf.asked(), [""; 0], "not even tried");
    assert_eq!(b.folder.paths(), ["a", names[0], names[1], names[2], "z"]);
    assert_eq!(b.shelf.get("/a").unwrap(), "1");
    b.folder.put("latin1", "café");
    b.folder.put("a", "small");
    b.sync().await;
    assert_eq!(
        (b.shelf.get("/latin1").unwrap(), b.shelf.get("/a").unwrap()),
        ("café".into(), "small".into())
    );
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_recognised() {
    let mut b = Bench::new(&[("/a", "1")]).await;
    for path in ["a", "new"] {
        b.shelf.trouble(&format!("/{path}"), Trouble::AnswerLost);
        b.folder.put(path, "sent");
    }
    b.sync().await;
    for path in ["a", "new"] {
        b.folder.put(path, "and edited again");
    }
    b.sync().await;
    for path in ["/a", "/new"] {
        assert_eq!(
            b.shelf.get(path).unwrap(),
            "and edited again",
            "not taken for a conflict"
        );
    }
    // An attempt that was not done is made again.
    b.folder.put("a", "later");
    b.shelf.trouble("/a", Trouble::Down);
    b.sync().await;
    b.sync().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "later");
}

#[tokio::test]
async fn a_file_that_could_not_be_written_is_no_deletion() {
    let mut b = Bench::new(&[("/b", "2")]).await;
    b.folder.full.lock().unwrap().insert("a".into());
    b.shelf.put("/a", "1");
    b.finish().await;
    b.finish().await;
    assert_eq!(
        (b.shelf.get("/a").as_deref(), b.folder.get("a")),
        (Some("1"), None)
    );
    b.folder.full.lock().unwrap().clear();
    b.sync().await;
    assert_eq!(b.folder.get("a").unwrap(), "1");
}

#[tokio::test]
async fn what_a_cut_off_listing_leaves_out_is_not_gone() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    *b.folder.truncated.lock().unwrap() = true;
    b.folder.remove("a");
    b.finish().await;
    b.folder.remove("b");
    b.finish().await;
    assert_eq!(b.shelf.asked(), [""; 0]);
}

#[tokio::test]
async fn paths_that_no_memory_has_are_not_written() {
    let hostile = [
        "/../x",
        "/a/../../x",
        "/a//b",
        "x",
        "/",
        "/a\0b",
        "/.anthropic-memory-store",
    ];
    let all: Vec<(&str, &str)> = hostile
        .iter()
        .map(|p| (*p, "bad"))
        .chain([("/ok", "1")])
        .collect();
    let mut b = Bench::new(&all).await;
    b.sync().await;
    assert_eq!(b.folder.paths(), ["ok"]);
    assert_eq!(b.folder.get(MARKER).unwrap(), marker(&store()));
}

#[tokio::test]
async fn a_flush_only_uploads() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2"), ("/c", "3"), ("/d", "4")]).await;
    b.folder.put("a", "local");
    b.folder.put("new", "new");
    b.folder.remove("b");
    b.shelf.put("/c", "remote");
    b.folder.put("d", "local");
    b.shelf.put("/d", "remote");
    b.flush().await;
    let mut asked = b.shelf.asked();
    asked.sort();
    assert_eq!(asked, ["create /new", "update /a"]);
    assert_eq!(b.folder.get("c").unwrap(), "3");
    assert_eq!(
        b.folder.get("d").unwrap(),
        "local",
        "the store's version stays there"
    );
    b.flush().await;
    assert_eq!(b.shelf.asked(), [""; 0]);
}

#[tokio::test]
async fn syncs_are_as_far_apart_as_they_should_be() {
    let mut b = Bench::new(&[("/a", "1")]).await;
    b.folder.put("a", "2");
    b.wait(14);
    b.sync_if_due().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "1");
    b.wait(1);
    b.sync_if_due().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "2");
    let hasty = Rules {
        interval: std::time::Duration::ZERO,
        ..Rules::default()
    };
    let mut b = Bench::with(false, hasty, &[("/a", "1")]).await;
    b.folder.put("a", "2");
    b.wait(4);
    b.sync_if_due().await;
    assert_eq!(
        b.shelf.get("/a").unwrap(),
        "1",
        "never below the least interval"
    );
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let state = Some(dir.path().join("memory.json"));
    let rules = Rules::beside_the_store();
    let first = Bench::new(&[]).await;
    for (path, content) in [("/a", "1"), ("/b", "2"), ("/c", "3")] {
        first.shelf.put(path, content);
    }
    let again = async |state| {
        let (shelf, folder) = (Arc::clone(&first.shelf), Arc::clone(&first.folder));
        Bench::over(shelf, folder, Arc::clone(&first.clock), false, rules, state).await
    };
    again(state.clone()).await.open().await;
    // What happened while nobody looked.
    first.folder.put("a", "local");
    first.folder.remove("b");
    first.shelf.put("/c", "remote");
    again(state).await.open().await;
    assert_eq!(first.shelf.get("/a").unwrap(), "local");
    assert_eq!(first.shelf.get("/b"), None);
    assert_eq!(first.folder.get("c").unwrap(), "remote");
    // Without what was known, the store wins.
    first.folder.put("a", "unknown");
    again(None).await.open().await;
    assert_eq!(first.folder.get("a").unwrap(), "local");
}

#[tokio::test]
async fn a_folder_that_came_with_a_snapshot_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = Some(dir.path().join("memory.json"));
    let rules = Rules::beside_the_store();
    let first = Bench::new(&[("/a", "new"), ("/b", "kept")]).await;
    // As it was when the snapshot was taken: one is old, one has been deleted since.
    first.folder.put("a", "old");
    first.folder.put("deleted", "long ago");
    first.folder.remove("b");
    let (shelf, folder) = (Arc::clone(&first.shelf), Arc::clone(&first.folder));
    let clock = Arc::clone(&first.clock);
    let mut elsewhere = Bench::over(shelf, folder, clock, false, rules, state).await;
    elsewhere.open().await;
    elsewhere.sync().await;
    assert_eq!(elsewhere.folder.paths(), ["a", "b"]);
    assert_eq!(elsewhere.folder.get("a").unwrap(), "new");
    assert_eq!(first.shelf.get("/a").unwrap(), "new");
    assert_eq!(first.shelf.get("/b").unwrap(), "kept");
    assert_eq!(first.shelf.get("/deleted"), None);
}
