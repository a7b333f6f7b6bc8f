//! The rules of contract 55 §14, one by one.

use super::super::*;
use super::fakes::*;

#[tokio::test]
async fn a_download_holds_everything_and_is_marked() {
    let all = [
        ("/a", "1"),
        ("/b/c", "2"),
        ("/b/d", "3"),
        ("/e", ""),
        ("/f", "5"),
    ];
    let b = Bench::new(&all).await;
    assert_eq!(b.folder.paths(), ["a", "b/c", "b/d", "e", "f"]);
    assert_eq!(b.folder.get("b/c").unwrap(), "2");
    assert_eq!(b.folder.get(MARKER).unwrap(), "version 1\nmemstore_1");
}

#[tokio::test]
async fn a_sync_that_finds_nothing_moves_nothing() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    b.sync().await;
    let reads = *b.folder.reads.lock().unwrap();
    b.sync().await;
    assert_eq!(b.shelf.asked(), [""; 0]);
    assert_eq!(
        *b.folder.reads.lock().unwrap(),
        reads + 1,
        "the marker alone"
    );
}

#[tokio::test]
async fn what_changed_on_one_side_moves_to_the_other() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2"), ("/c", "3")]).await;
    b.folder.put("a", "one");
    b.folder.put("new/file", "new");
    b.shelf.put("/b", "two");
    b.shelf.put("/more", "more");
    b.shelf.remove("/c");
    b.sync().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "one");
    assert_eq!(b.shelf.get("/new/file").unwrap(), "new");
    assert_eq!(b.folder.get("b").unwrap(), "two");
    assert_eq!(b.folder.get("more").unwrap(), "more");
    assert_eq!(b.folder.paths(), ["a", "b", "more", "new/file"]);
    assert_eq!(b.shelf.get(&format!("/{MARKER}")), None, "never synced");
    b.shelf.asked();
    b.sync().await;
    assert_eq!(b.shelf.asked(), [""; 0]);
}

#[tokio::test]
async fn of_two_changes_the_store_wins() {
    let mut b = Bench::new(&[("/a", "1")]).await;
    b.folder.put("a", "local");
    b.shelf.put("/a", "remote");
    b.folder.put("new", "local");
    b.shelf.put("/new", "remote");
    b.sync().await;
    for path in ["a", "new"] {
        assert_eq!(b.folder.get(path).unwrap(), "remote");
        assert_eq!(b.shelf.get(&format!("/{path}")).unwrap(), "remote");
    }
    // The same change on both sides is none.
    b.folder.put("a", "same");
    b.shelf.put("/a", "same");
    b.shelf.asked();
    b.sync().await;
    assert_eq!(b.shelf.asked(), [""; 0]);
}

#[tokio::test]
async fn an_overtaken_upload_loses() {
    let mut b = Bench::new(&[("/a", "1")]).await;
    b.folder.put("a", "local");
    b.shelf.trouble("/a", Trouble::Overtaken);
    b.sync().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "overtaken");
    b.sync().await;
    assert_eq!(b.folder.get("a").unwrap(), "overtaken");
}

#[tokio::test]
async fn an_edit_of_a_memory_deleted_in_the_store_is_kept() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    b.shelf.remove("/a");
    b.folder.put("a", "edited");
    b.sync().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "edited");
    let mut b = Bench::read_only(&[("/a", "1"), ("/b", "2")]).await;
    b.shelf.remove("/a");
    b.folder.put("a", "edited");
    b.sync().await;
    assert_eq!(
        (b.shelf.get("/a"), b.folder.get("a").as_deref()),
        (None, Some("edited"))
    );
}

#[tokio::test]
async fn a_memory_is_deleted_only_after_its_file_was_missing_for_a_while() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2"), ("/c", "3")]).await;
    b.folder.remove("a");
    b.sync().await;
    b.wait(29);
    b.sync().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "1");
    b.wait(1);
    b.sync().await;
    assert_eq!(
        (b.shelf.get("/a"), b.shelf.asked()),
        (None, vec!["delete /a".to_owned()])
    );
    // A file that was back in between starts anew.
    b.folder.remove("b");
    b.sync().await;
    b.wait(20);
    b.folder.put("b", "2");
    b.sync().await;
    b.folder.remove("b");
    b.wait(20);
    b.sync().await;
    assert!(b.shelf.get("/b").is_some());
    // The last sync does not wait.
    b.finish().await;
    assert_eq!(
        (b.shelf.get("/b"), b.shelf.get("/c").as_deref()),
        (None, Some("3"))
    );
}

#[tokio::test]
async fn a_file_that_is_back_at_the_last_moment_keeps_its_memory() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    b.folder.remove("a");
    b.folder
        .returning
        .lock()
        .unwrap()
        .push(("a".into(), "1".into()));
    b.finish().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "1");
}

#[tokio::test]
async fn a_memory_changed_in_the_store_is_restored_and_not_deleted() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    b.folder.remove("a");
    b.shelf.put("/a", "newer");
    b.finish().await;
    assert_eq!(b.folder.get("a").unwrap(), "newer");
    // Also when that happens between the listing and the deletion.
    b.folder.remove("a");
    b.shelf.trouble("/a", Trouble::Overtaken);
    b.finish().await;
    assert_eq!(b.shelf.get("/a").unwrap(), "overtaken");
    b.sync().await;
    assert_eq!(b.folder.get("a").unwrap(), "overtaken");
}

#[tokio::test]
async fn deletions_of_one_sync_are_bounded() {
    let all: Vec<(String, String)> = (0..60)
        .map(|n| (format!("/{n:02}"), n.to_string()))
        .collect();
    let all: Vec<(&str, &str)> = all.iter().map(|(p, c)| (p.as_str(), c.as_str())).collect();
    let deleted = |b: &Bench| {
        b.shelf
            .asked()
            .iter()
            .filter(|a| a.starts_with("delete"))
            .count()
    };
    let mut b = Bench::new(&all).await;
    for n in 0..40 {
        b.folder.remove(&format!("{n:02}"));
    }
    let mut counts = Vec::new();
    for _ in 0..4 {
        b.finish().await;
        counts.push(deleted(&b));
    }
    assert_eq!(
        counts,
        [15, 11, 8, 6],
        "a quarter of what is known, at least eight"
    );
}

#[tokio::test]
async fn deletions_can_be_logged_only_or_disabled() {
    for deletions in [Deletions::LogOnly, Deletions::Disabled] {
        let rules = Rules {
            deletions,
            ..Rules::default()
        };
        let mut b = Bench::with(false, rules, &[("/a", "1"), ("/b", "2")]).await;
        b.folder.remove("a");
        b.finish().await;
        assert_eq!(b.shelf.get("/a").unwrap(), "1");
        assert_eq!(b.shelf.asked(), [""; 0]);
    }
}

#[tokio::test]
async fn a_wiped_folder_is_downloaded_again() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    for path in ["a", "b"] {
        b.folder.remove(path);
    }
    b.finish().await;
    assert_eq!(b.folder.paths(), ["a", "b"], "all files gone at once");
    b.folder.files.lock().unwrap().clear();
    b.finish().await;
    assert_eq!(b.folder.paths(), ["a", "b"], "the marker too");
    b.folder.remove(MARKER);
    b.folder.remove("a");
    b.folder.put("c", "new");
    b.finish().await;
    assert_eq!(
        b.folder.paths(),
        ["a", "b", "c"],
        "only the marker and some files"
    );
    assert_eq!(
        b.shelf.get("/c"),
        None,
        "nothing is uploaded from a folder without marker"
    );
    b.sync().await;
    assert_eq!(b.shelf.get("/c").unwrap(), "new");
    let asked = b.shelf.asked();
    assert!(!asked.iter().any(|a| a.starts_with("delete")), "{asked:?}");
    // The only file of a store may be deleted.
    let mut b = Bench::new(&[("/a", "1")]).await;
    b.folder.remove("a");
    b.finish().await;
    assert_eq!(b.shelf.get("/a"), None);
}

#[tokio::test]
async fn a_folder_marked_as_another_stores_is_left_alone() {
    let mut b = Bench::new(&[("/a", "1"), ("/b", "2")]).await;
    b.folder.put(MARKER, "version 1\nmemstore_2");
    b.folder.put("a", "theirs");
    b.folder.remove("b");
    b.finish().await;
    b.flush().await;
    assert_eq!(b.folder.paths(), ["a"]);
    assert_eq!(
        (b.shelf.get("/a").as_deref(), b.shelf.asked().len()),
        (Some("1"), 0)
    );
}

#[tokio::test]
async fn a_read_only_store_is_never_written() {
    let mut b = Bench::read_only(&[("/a", "1"), ("/b", "2"), ("/c", "3")]).await;
    b.folder.put("a", "edited");
    b.folder.put("new", "new");
    b.folder.remove("b");
    b.shelf.put("/c", "changed");
    b.finish().await;
    b.flush().await;
    assert_eq!(b.shelf.asked(), ["get /b", "get /c"]);
    assert_eq!(b.folder.get("b").unwrap(), "2", "what is gone comes back");
    assert_eq!(b.folder.get("c").unwrap(), "changed");
    b.shelf.put("/a", "newer");
    b.sync().await;
    assert_eq!(b.folder.get("a").unwrap(), "newer");
}
