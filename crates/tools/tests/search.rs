//! `glob` and `grep`, row by row of contract 55 §10 and §11.

mod common;

use std::time::{Duration, SystemTime};

use common::{Desk, desk, text};
use freehold_tools::Cancel;
use serde_json::json;

/// Makes empty files, each a minute younger than the one before.
fn files(desk: &Desk, names: &[&str]) {
    for (age, name) in names.iter().rev().enumerate() {
        desk.put(name, "");
        let file = std::fs::File::options()
            .write(true)
            .open(desk.root().join(name))
            .unwrap();
        let when = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - 60 * age as u64);
        file.set_modified(when).unwrap();
    }
}

/// The matches, relative to the workspace.
fn glob(desk: &Desk, pattern: &str, path: Option<&str>) -> Vec<String> {
    let said = desk.ok("glob", json!({"pattern": pattern, "path": path}));
    if said == "no matches" {
        return Vec::new();
    }
    let root = format!("{}/", desk.root().display());
    said.lines()
        .map(|line| line.strip_prefix(&root).unwrap().to_owned())
        .collect()
}

#[test]
fn glob_finds_newest_first() {
    let desk = desk();
    files(
        &desk,
        &[
            "a.rs",
            "src/b.rs",
            "src/deep/c.rs",
            "src/.hidden.rs",
            "node_modules/d.rs",
            "e.txt",
        ],
    );
    for (pattern, found) in [
        ("*.rs", vec!["a.rs"]),
        ("./*.rs", vec!["a.rs"]),
        ("src/*.rs", vec!["src/.hidden.rs", "src/b.rs"]),
        ("src//*.rs", vec!["src/.hidden.rs", "src/b.rs"]),
        ("**/c.rs", vec!["src/deep/c.rs"]),
        ("**/a.rs", vec!["a.rs"]),
        ("src/**/c.rs", vec!["src/deep/c.rs"]),
        ("{a,e}.*", vec!["e.txt", "a.rs"]),
        ("{src,none}/b.rs", vec!["src/b.rs"]),
        ("{src/deep,.}/?.rs", vec!["src/deep/c.rs"]),
        ("[!ab].txt", vec!["e.txt"]),
        ("e.txt", vec!["e.txt"]),
        ("none/*.rs", vec![]),
        ("e.txt/*", vec![]),
        ("*.none", vec![]),
    ] {
        assert_eq!(glob(&desk, pattern, None), found, "{pattern}");
    }
    let all = glob(&desk, "**/*.rs", None);
    let newest = [
        "node_modules/d.rs",
        "src/.hidden.rs",
        "src/deep/c.rs",
        "src/b.rs",
        "a.rs",
    ];
    assert_eq!(all, newest);
    assert_eq!(
        glob(&desk, "*.rs", Some("src")),
        ["src/.hidden.rs", "src/b.rs"]
    );
    // Directories count too.
    assert_eq!(glob(&desk, "src/d*", None), ["src/deep"]);
    assert_eq!(glob(&desk, "src/d*/", None), ["src/deep"]);
    assert_eq!(desk.ok("glob", json!({"pattern": "*.none"})), "no matches");
}

#[test]
fn glob_refuses_patterns_that_lead_out() {
    let desk = desk();
    assert_eq!(
        desk.err("glob", json!({"pattern": "/etc/*"})),
        "glob: absolute pattern not permitted; pass a relative pattern (and optionally path)"
    );
    for pattern in ["../*", "a/../../*", ".."] {
        let said = desk.err("glob", json!({"pattern": pattern}));
        assert_eq!(said, "glob: '..' is not permitted in the pattern");
    }
    for pattern in ["[", "{a", "a[z-a]"] {
        assert!(
            desk.err("glob", json!({"pattern": pattern}))
                .starts_with("glob: ")
        );
    }
    assert_eq!(
        desk.err("glob", json!({"pattern": ""})),
        "glob: pattern is required"
    );
    assert_eq!(
        desk.err("glob", json!({"pattern": "*", "path": "/etc"})),
        "glob: path '/etc' is outside the session's working directory"
    );
}

#[test]
fn glob_drops_what_links_lead_out_to() {
    let desk = desk();
    desk.put("in/file", "");
    std::fs::write(desk.top().join("secret"), "").unwrap();
    desk.link(desk.top(), "out");
    desk.link("in", "alias");
    desk.link(desk.top().join("secret"), "leak");
    desk.link("nowhere", "dangling");
    let mut found = glob(&desk, "*", None);
    found.sort();
    assert_eq!(found, ["alias", "dangling", "in"]);
    assert_eq!(glob(&desk, "out/*", None), [""; 0]);
    assert_eq!(glob(&desk, "out/work/in/*", None), ["out/work/in/file"]);
    assert_eq!(glob(&desk, "alias/*", None), ["alias/file"]);
    assert_eq!(glob(&desk, "**/file", None), ["in/file"]);
}

#[test]
fn glob_shows_two_hundred() {
    let desk = desk();
    for n in 0..250 {
        desk.put(&format!("f{n}"), "");
    }
    assert_eq!(glob(&desk, "f*", None).len(), 200);
}

#[test]
fn grep_prints_as_ripgrep_does() {
    let desk = desk();
    desk.put("b.txt", "one\ntwo one\n");
    desk.put("a/c.txt", "three\r\none");
    let root = desk.root();
    let root = root.display();
    assert_eq!(
        desk.ok("grep", json!({"pattern": "one"})),
        format!("{root}/a/c.txt:2:one\n{root}/b.txt:1:one\n{root}/b.txt:2:two one\n")
    );
    assert_eq!(
        desk.ok("grep", json!({"pattern": "^o", "path": "b.txt"})),
        "1:one\n"
    );
    assert_eq!(
        desk.ok("grep", json!({"pattern": "one", "path": "a"})),
        format!("{root}/a/c.txt:2:one\n")
    );
    assert_eq!(
        desk.ok("grep", json!({"pattern": "t.*e$", "path": "b.txt"})),
        "2:two one\n"
    );
    assert_eq!(
        desk.ok("grep", json!({"pattern": r"\bthree\b", "path": "a/c.txt"})),
        "1:three\r\n"
    );
    assert_eq!(desk.ok("grep", json!({"pattern": "none"})), "no matches");
    assert_eq!(
        desk.ok("grep", json!({"pattern": "-v", "path": "b.txt"})),
        "no matches"
    );
}

#[test]
fn grep_says_what_is_wrong() {
    let desk = desk();
    let said = desk.err("grep", json!({"pattern": "a("}));
    assert!(said.starts_with("grep: invalid regex: "), "{said}");
    // Too much for a pattern; nothing is compiled for minutes.
    let said = desk.err("grep", json!({"pattern": r"(\w{1000}){1000}"}));
    assert!(said.starts_with("grep: invalid regex: "), "{said}");
    assert_eq!(
        desk.err("grep", json!({"pattern": "a", "path": "none"})),
        "grep: none: no such file or directory"
    );
    assert_eq!(
        desk.err("grep", json!({"pattern": "a", "path": "/etc/passwd"})),
        "grep: path '/etc/passwd' is outside the session's working directory"
    );
    desk.fifo("fifo");
    assert_eq!(
        desk.err("grep", json!({"pattern": "a", "path": "fifo"})),
        "grep: fifo: not a regular file"
    );
}

#[test]
fn grep_leaves_out_what_ripgrep_leaves_out() {
    let desk = desk();
    for name in [
        "seen",
        ".hidden",
        "target/x",
        "logs/keep.log",
        "logs/x.log",
        "deep/x.tmp",
        "deep/keep.tmp",
        "deep/.shown",
        "node_modules/x",
        "data/x",
        "excluded",
        "inner/x.log",
    ] {
        desk.put(name, "hit\n");
    }
    let found = |path: &str| {
        let said = desk.ok("grep", json!({"pattern": "hit", "path": path}));
        let root = format!("{}/", desk.root().display());
        let names = said
            .lines()
            .filter_map(|line| line.strip_prefix(&root)?.strip_suffix(":1:hit"));
        names.map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    desk.put(
        ".gitignore",
        "\u{feff}# comment\n/target/\n*.log\n!keep.log\n",
    );
    desk.put("deep/.gitignore", "!keep.tmp\n!.shown\n");
    desk.put(".ignore", "*.tmp\ndata\n");
    // Without a repository `.gitignore` does not count, `.ignore` does.
    assert_eq!(
        found("."),
        "excluded inner/x.log logs/keep.log logs/x.log node_modules/x seen target/x"
    );
    desk.put(".git/info/exclude", "excluded\n");
    desk.put("inner/.git/HEAD", "hit\n");
    // `inner` is a repository of its own; `.ignore` goes before `.gitignore` even from above.
    assert_eq!(
        found("."),
        "deep/.shown inner/x.log logs/keep.log node_modules/x seen"
    );
    // Rules above where the search begins count, but what is named itself is searched.
    assert_eq!(found("logs"), "logs/keep.log");
    assert_eq!(found("target"), "target/x");
    assert_eq!(
        desk.ok("grep", json!({"pattern": "hit", "path": ".hidden"})),
        "1:hit\n"
    );
    desk.put(".rgignore", "seen\n!*.tmp\n");
    assert_eq!(
        found("."),
        "deep/.shown deep/keep.tmp deep/x.tmp inner/x.log logs/keep.log node_modules/x"
    );
}

#[test]
fn grep_follows_no_links_and_hangs_on_nothing() {
    let desk = desk();
    desk.put("real/f", "hit\n");
    std::fs::write(desk.top().join("secret"), "hit\n").unwrap();
    desk.link("real", "dir-link");
    desk.link("real/f", "file-link");
    desk.link(desk.top().join("secret"), "leak");
    desk.link(desk.top(), "out");
    for name in ["fifo", ".gitignore", ".ignore", "real/.rgignore"] {
        desk.fifo(name);
    }
    let hit = format!("{}/real/f:1:hit\n", desk.root().display());
    assert_eq!(desk.ok("grep", json!({"pattern": "hit"})), hit);
    assert_eq!(
        desk.ok("grep", json!({"pattern": "hit", "path": "file-link"})),
        "1:hit\n"
    );
    assert_eq!(
        desk.ok("grep", json!({"pattern": "hit", "path": "dir-link"})),
        hit
    );
}

#[test]
fn grep_treats_binary_files_as_ripgrep_does() {
    let desk = desk();
    desk.put("bin", b"hit\n\0\nhit\n");
    let root = desk.root();
    assert_eq!(desk.ok("grep", json!({"pattern": "hit"})), "no matches");
    assert_eq!(
        desk.ok("grep", json!({"pattern": "hit", "path": "bin"})),
        "binary file matches (found \"\\0\" byte around offset 4)\n"
    );
    desk.put("utf16", b"\xff\xfeh\0i\0t\0\n\0");
    assert_eq!(
        desk.ok("grep", json!({"pattern": "hit"})),
        format!("{}/utf16:1:hit\n", root.display())
    );
    desk.put("latin", b"hit \xff\n");
    assert_eq!(
        desk.ok("grep", json!({"pattern": "hit", "path": "latin"})),
        "1:hit \u{fffd}\n"
    );
}

#[test]
fn grep_output_is_cut() {
    let desk = desk();
    desk.put("many", "hit é\n".repeat(50_000));
    desk.put("more", "hit\n");
    let said = desk.ok("grep", json!({"pattern": "hit"}));
    let cut = said
        .strip_suffix("\n[output truncated at 102400 bytes]")
        .unwrap();
    assert!((102_398..=102_400).contains(&cut.len()), "{}", cut.len());
    assert!(!cut.contains('\u{fffd}'));
    desk.put("line", format!("{}hit", "é".repeat(1_000_000)));
    let said = desk.ok("grep", json!({"pattern": "hit", "path": "line"}));
    let cut = said
        .strip_suffix("\n[output truncated at 102400 bytes]")
        .unwrap();
    assert!(cut.starts_with("1:é") && cut.ends_with('é'));
    // Just what fits is not cut.
    desk.put("fits", format!("{}\n", "x".repeat(102_397)));
    assert_eq!(
        desk.ok("grep", json!({"pattern": "x", "path": "fits"}))
            .len(),
        102_400
    );
}

#[test]
fn searches_stop_when_cancelled() {
    let desk = desk();
    desk.put("f", "hit\n");
    let cancel = Cancel::new();
    cancel.cancel();
    for tool in ["grep", "glob"] {
        let output = desk.call_with(tool, json!({"pattern": "f"}), &cancel);
        assert_eq!(
            (output.is_error, text(&output)),
            (true, format!("{tool}: aborted"))
        );
    }
}
