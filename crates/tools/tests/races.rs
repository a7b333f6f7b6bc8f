//! A directory that another process swaps for a link, over and over, while the tools use it: no
//! call may ever see or change what lies outside.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::desk;
use serde_json::json;

/// Exchanges `a` and `b`, in one step.
fn swap(a: &Path, b: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
}

#[test]
fn nothing_outside_is_read_or_written_while_links_change() {
    let desk = desk();
    let outside = desk.top().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "secret").unwrap();
    desk.put("dir/file", "inside");
    desk.put("flip", "inside");
    desk.link(&outside, "link");
    desk.link(outside.join("file"), "flop");
    let root = desk.root();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                swap(&root.join("dir"), &root.join("link"));
                swap(&root.join("flip"), &root.join("flop"));
            }
        });
        let calls = || {
            for _ in 0..200 {
                for path in ["dir/file", "flip"] {
                    for (tool, input) in [
                        ("read", json!({"file_path": path})),
                        ("grep", json!({"pattern": ".", "path": path})),
                        ("grep", json!({"pattern": "secret"})),
                        ("write", json!({"file_path": path, "content": "inside"})),
                        (
                            "write",
                            json!({"file_path": "dir/new", "content": "inside"}),
                        ),
                        (
                            "edit",
                            json!({"file_path": path, "old_string": "secret", "new_string": "x"}),
                        ),
                    ] {
                        let said = desk.call(tool, input);
                        // What failed names the path only.
                        let leaked = !said.is_error
                            && said.content[0]["text"].as_str().unwrap().contains("secret");
                        assert!(!leaked, "{said:?}");
                    }
                }
            }
        };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(calls));
        done.store(true, Ordering::Relaxed);
        ran.unwrap();
    });
    let left: Vec<_> = std::fs::read_dir(&outside)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["file"]);
    assert_eq!(
        std::fs::read_to_string(outside.join("file")).unwrap(),
        "secret"
    );
}
