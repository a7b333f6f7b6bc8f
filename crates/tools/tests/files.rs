//! `read`, `write` and `edit`, row by row of contract 55 §8 and §9.

mod common;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::{desk, desk_with};
use serde_json::json;

const CAP: usize = 262_144;

#[test]
fn text_is_read_as_it_is() {
    let desk = desk();
    let text = "\u{feff}one\r\ntwo\n\n  grün\u{0}\n";
    desk.put("a.txt", text);
    assert_eq!(desk.ok("read", json!({"file_path": "a.txt"})), text);
    desk.put("empty", "");
    assert_eq!(
        desk.ok("read", json!({"file_path": "empty"})),
        "(no output)"
    );
    let most = "x".repeat(CAP);
    desk.put("most", &most);
    assert_eq!(desk.ok("read", json!({"file_path": "most"})), most);
    let absolute = desk.root().join("a.txt");
    assert_eq!(desk.ok("read", json!({"file_path": absolute})), text);
}

#[test]
fn ranges_count_from_one_and_include_their_end() {
    let desk = desk();
    desk.put("small", "1\n2\n3\n4\n5\n");
    // The same answers from a file that is too large to hold.
    desk.put("large", format!("1\n2\n3\n4\n5\n{}", "\n".repeat(CAP)));
    for (range, lines) in [
        ([1, 2], "1\n2"),
        ([2, 2], "2"),
        ([-5, 1], "1"),
        ([0, 1], "1"),
        ([3, 2], "(no output)"),
        ([4, 5], "4\n5"),
        ([900_000, 900_001], "(no output)"),
    ] {
        for file in ["small", "large"] {
            let input = json!({"file_path": file, "view_range": range});
            assert_eq!(desk.ok("read", input), lines, "{file} {range:?}");
        }
    }
    let read = |range| desk.ok("read", json!({"file_path": "small", "view_range": range}));
    assert_eq!(read([4, 0]), "4\n5\n");
    assert_eq!(read([4, -1]), "4\n5\n");
    assert_eq!(read([5, 99]), "5\n");
    assert_eq!(read([i64::MIN, i64::MAX]), "1\n2\n3\n4\n5\n");
    let whole = json!({"file_path": "small", "view_range": []});
    assert_eq!(desk.ok("read", whole), "1\n2\n3\n4\n5\n");
    for range in [json!([1]), json!([1, 2, 3])] {
        let input = json!({"file_path": "small", "view_range": range});
        assert_eq!(
            desk.err("read", input),
            "read: view_range must be [start_line, end_line]"
        );
    }
}

#[test]
fn large_files_are_read_in_parts() {
    let desk = desk();
    let line = format!("{}\n", "é".repeat(500));
    desk.put("big", line.repeat(400));
    assert_eq!(
        desk.err("read", json!({"file_path": "big"})),
        "read: big is 400400 bytes, exceeds 262144-byte limit. Use the view_range parameter to \
         read specific line ranges, e.g. view_range: [1, 500]."
    );
    let lines = desk.ok("read", json!({"file_path": "big", "view_range": [399, 0]}));
    assert_eq!(lines, line.repeat(2));
    assert_eq!(
        desk.err("read", json!({"file_path": "big", "view_range": [-1, 300]})),
        "read: view_range [-1, 300] of big exceeds 262144-byte limit. Narrow the view_range to \
         read a smaller portion."
    );
    desk.put("wide", format!("a\n{}\nb", "x".repeat(CAP + 1)));
    assert_eq!(
        desk.err("read", json!({"file_path": "wide", "view_range": [2, 2]})),
        "read: line 2 of wide alone exceeds 262144-byte limit. The read tool cannot return part \
         of a line, so view_range cannot narrow this further."
    );
    assert_eq!(
        desk.ok("read", json!({"file_path": "wide", "view_range": [3, 0]})),
        "b"
    );
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let desk = desk();
    desk.put("bin", b"ab\xff");
    let said = "read: bin: not valid UTF-8 text (binary files are only supported for image/PDF \
                extensions)";
    assert_eq!(desk.err("read", json!({"file_path": "bin"})), said);
    assert_eq!(
        desk.err("read", json!({"file_path": "bin", "view_range": [1, 1]})),
        said
    );
}

#[test]
fn images_and_documents_come_as_blocks() {
    let desk = desk();
    for (file, kind, media) in [
        ("a.png", "image", "image/png"),
        ("a.jpg", "image", "image/jpeg"),
        ("a.JPEG", "image", "image/jpeg"),
        ("a.gif", "image", "image/gif"),
        ("a.webp", "image", "image/webp"),
        ("a.pdf", "document", "application/pdf"),
    ] {
        desk.put(file, b"\x00\xff\x01");
        let output = desk.call("read", json!({"file_path": file}));
        let source = json!({"type": "base64", "media_type": media, "data": "AP8B"});
        assert_eq!(output.content, [json!({"type": kind, "source": source})]);
        assert!(!output.is_error);
        assert_eq!(
            desk.err("read", json!({"file_path": file, "view_range": [1, 2]})),
            "read: view_range is not supported for image/PDF files"
        );
    }
    for (file, limit) in [("big.png", 3_932_160_u64), ("big.pdf", 20_971_520)] {
        desk.put(file, "");
        let sparse = std::fs::File::options()
            .write(true)
            .open(desk.root().join(file))
            .unwrap();
        sparse.set_len(limit).unwrap();
        assert!(!desk.call("read", json!({"file_path": file})).is_error);
        sparse.set_len(limit + 1).unwrap();
        assert_eq!(
            desk.err("read", json!({"file_path": file})),
            format!(
                "read: {file} is {} bytes, exceeds {limit}-byte limit for image/PDF files.",
                limit + 1
            )
        );
    }
    // The name of what is read counts, not that of the link to it.
    desk.link("a.png", "picture");
    assert_eq!(
        desk.call("read", json!({"file_path": "picture"})).content[0]["type"],
        "image"
    );
}

#[test]
fn only_regular_files_are_touched_and_nothing_hangs() {
    let desk = desk();
    std::fs::create_dir(desk.root().join("dir")).unwrap();
    desk.fifo("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(desk.root().join("socket")).unwrap();
    for path in ["dir", "fifo", "socket", "", "."] {
        let read = desk.err("read", json!({"file_path": path}));
        assert_eq!(read, format!("read: {path}: not a regular file"));
        let edit = json!({"file_path": path, "old_string": "a", "new_string": "b"});
        assert_eq!(
            desk.err("edit", edit),
            format!("edit: {path}: not a regular file")
        );
    }
    for path in ["fifo", "socket"] {
        let said = desk.err("write", json!({"file_path": path, "content": "x"}));
        assert_eq!(said, format!("write: {path}: not a regular file"));
    }
    for path in ["dir", ""] {
        let said = desk.err("write", json!({"file_path": path, "content": "x"}));
        assert_eq!(said, format!("write: {path}: is a directory"));
    }
}

#[test]
fn reasons_are_plain_words_and_paths_the_models_own() {
    let desk = desk();
    desk.put("file", "x");
    for (tool, path, reason) in [
        ("read", "none", "no such file or directory"),
        ("read", "file/x", "not a directory"),
        ("edit", "./none", "no such file or directory"),
        ("write", "file/x", "file already exists"),
        ("write", "file/x/y", "not a directory"),
    ] {
        let input = match tool {
            "read" => json!({"file_path": path}),
            "write" => json!({"file_path": path, "content": ""}),
            _ => json!({"file_path": path, "old_string": "a", "new_string": "b"}),
        };
        assert_eq!(desk.err(tool, input), format!("{tool}: {path}: {reason}"));
    }
    desk.link("loop", "loop");
    assert_eq!(
        desk.err("write", json!({"file_path": "loop", "content": ""})),
        "write: path 'loop': too many levels of symbolic links"
    );
}

#[test]
fn writing_makes_parents_and_counts_bytes() {
    let desk = desk();
    let said = desk.ok(
        "write",
        json!({"file_path": "a/b/c.txt", "content": "grün\r\n"}),
    );
    assert_eq!(said, "wrote 7 bytes to a/b/c.txt");
    assert_eq!(desk.get("a/b/c.txt"), "grün\r\n");
    assert_eq!(
        desk.ok("write", json!({"file_path": "a/b/c.txt", "content": ""})),
        "wrote 0 bytes to a/b/c.txt"
    );
    assert_eq!(desk.get("a/b/c.txt"), "");
    // Through a link, also one to nothing: the link stays.
    desk.link("a/new", "link");
    desk.ok("write", json!({"file_path": "link", "content": "x"}));
    assert_eq!(desk.get("a/new"), "x");
    assert!(desk.root().join("link").is_symlink());
    let left: Vec<_> = std::fs::read_dir(desk.root().join("a")).unwrap().collect();
    assert_eq!(left.len(), 2, "no temporary files");
}

#[test]
fn an_old_file_keeps_its_mode_and_hard_links() {
    let desk = desk();
    desk.put("run.sh", "old");
    let path = desk.root().join("run.sh");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o751)).unwrap();
    desk.ok(
        "edit",
        json!({"file_path": "run.sh", "old_string": "old", "new_string": "new"}),
    );
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o751
    );
    std::fs::hard_link(&path, desk.root().join("twin")).unwrap();
    desk.ok("write", json!({"file_path": "run.sh", "content": "x"}));
    assert_eq!(desk.get("twin"), "x");
    assert_eq!(path.metadata().unwrap().nlink(), 2);
}

#[test]
fn editing_wants_one_place_unless_told_otherwise() {
    let desk = desk();
    desk.put("f", "a b a\r\n$1 \\n");
    let edit = |old: &str, new: &str, all: Option<bool>| json!({"file_path": "f", "old_string": old, "new_string": new, "replace_all": all});
    assert_eq!(
        desk.err("edit", edit("z", "", None)),
        "edit: old_string not found in f"
    );
    assert_eq!(
        desk.err("edit", edit("a", "c", Some(false))),
        "edit: old_string appears 2 times in f (must be unique)"
    );
    assert_eq!(
        desk.err("edit", edit("", "x", Some(true))),
        "edit: old_string is required"
    );
    assert_eq!(desk.get("f"), "a b a\r\n$1 \\n");
    assert_eq!(
        desk.ok("edit", edit("b", "$1\\n", None)),
        "edited f (1 replacement(s))"
    );
    assert_eq!(
        desk.ok("edit", edit("a", "aa", Some(true))),
        "edited f (2 replacement(s))"
    );
    assert_eq!(desk.get("f"), "aa $1\\n aa\r\n$1 \\n");
}

#[test]
fn files_too_large_or_binary_are_not_edited() {
    let desk = desk();
    let edit = |path: &str| json!({"file_path": path, "old_string": "x", "new_string": "y"});
    desk.put("big", "x".repeat(CAP + 1));
    assert_eq!(
        desk.err("edit", edit("big")),
        "edit: big is 262145 bytes, exceeds 262144-byte limit. The edit tool loads the whole file \
         and cannot modify a file this large."
    );
    desk.put("bin", b"x\xff");
    assert_eq!(
        desk.err("edit", edit("bin")),
        "edit: bin: not valid UTF-8 text (cannot edit binary files)"
    );
}

#[test]
fn extra_roots_are_reached_and_read_only_ones_kept() {
    let desk = desk_with(&[("store", false), ("uploads", true)]);
    let at = |path: &str| desk.top().join(path).to_str().unwrap().to_owned();
    std::fs::write(at("uploads/in"), "given").unwrap();
    std::fs::write(at("secret"), "secret").unwrap();
    desk.ok(
        "write",
        json!({"file_path": at("store/deep/x"), "content": "x"}),
    );
    assert_eq!(
        desk.ok("read", json!({"file_path": at("uploads/in")})),
        "given"
    );
    for path in ["uploads/in", "uploads/new/x"] {
        let path = at(path);
        let said = format!("{path} is inside read-only directory {}", at("uploads"));
        let write = json!({"file_path": path, "content": "x"});
        assert_eq!(desk.err("write", write), format!("write: {said}"));
        let edit = json!({"file_path": path, "old_string": "given", "new_string": "x"});
        assert_eq!(desk.err("edit", edit), format!("edit: {said}"));
    }
    assert_eq!(
        desk.err("read", json!({"file_path": "../secret"})),
        "read: path '../secret' is outside the session's working directory and its other \
         permitted directories"
    );
    assert!(!desk.top().join("uploads/new").exists());
}
