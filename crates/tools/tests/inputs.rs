//! Inputs that do not fit the schemas (contract 55 §4, §5).

mod common;

use common::{desk, text};
use freehold_tools::Cancel;
use serde_json::json;
use serde_json::value::RawValue;

#[test]
fn anything_but_the_schema_is_refused_by_name() {
    let desk = desk();
    for (tool, input) in [
        ("bash", json!({"command": "true", "cwd": "/"})),
        ("bash", json!({"command": 1})),
        ("bash", json!({"command": "true", "timeout_ms": -1})),
        ("bash", json!({"command": "true", "timeout_ms": "5"})),
        ("bash", json!([null, null, null])),
        ("bash", json!("true")),
        ("bash", json!(null)),
        ("read", json!({})),
        ("read", json!({"file_path": "a", "offset": 1})),
        ("read", json!({"file_path": "a", "view_range": "1-2"})),
        ("write", json!({"file_path": "a"})),
        ("edit", json!({"file_path": "a", "old_string": "b"})),
        ("glob", json!({"path": "."})),
        ("grep", json!({"pattern": "x", "glob": "*.rs"})),
    ] {
        let said = desk.err(tool, input.clone());
        let start = format!("Invalid arguments for function {tool}: ");
        assert!(said.starts_with(&start), "{tool} {input}: {said}");
        assert!(said.len() < 500);
    }
    let twice = RawValue::from_string(r#"{"command":"true","command":"false"}"#.to_owned());
    let output = desk.tools.call("bash", &twice.unwrap(), &Cancel::new());
    assert!(output.is_error && text(&output).starts_with("Invalid arguments"));
}

#[test]
fn inputs_of_any_size_are_answered_shortly() {
    let desk = desk();
    desk.put("file", "x\n");
    let long = "x".repeat(4 << 20);
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    for (tool, input) in [
        ("read", json!({"file_path": long})),
        ("read", json!({"file_path": "d/".repeat(5_000)})),
        ("read", json!({"file_path": "../".repeat(100_000)})),
        ("write", json!({"file_path": long, "content": ""})),
        (
            "edit",
            json!({"file_path": "file", "old_string": long, "new_string": ""}),
        ),
        ("glob", json!({"pattern": "{a,".repeat(20_000)})),
        ("grep", json!({"pattern": "(".repeat(100_000)})),
        ("grep", json!({"pattern": "(x{1000}){1000}{1000}"})),
    ] {
        let said = desk.call(tool, input.clone());
        let start: String = input.to_string().chars().take(40).collect();
        assert!(said.is_error, "{tool} {start}");
        assert!(text(&said).len() < 64 << 10, "{tool} {start}");
    }
    let read = desk.err("read", json!({"file_path": long}));
    assert!(
        read.starts_with("read: ") && read.ends_with("file name too long"),
        "{read}"
    );
    for raw in [
        format!(r#"{{"command":{deep}}}"#),
        // Half a character, which no string can hold.
        r#"{"command":"\ud800"}"#.to_owned(),
        r#"{"command":"true","timeout_ms":1e999}"#.to_owned(),
    ] {
        let input = RawValue::from_string(raw.clone()).unwrap();
        let output = desk.tools.call("bash", &input, &Cancel::new());
        assert!(output.is_error, "{raw}");
        assert!(text(&output).starts_with("Invalid arguments"), "{raw}");
    }
    assert_eq!(desk.ok("bash", json!({"command": "echo on"})), "on");
}

/// Nothing is decoded: what is `..`, a home or a root elsewhere is the name of a file here.
#[test]
fn other_spellings_of_outside_are_names_inside() {
    let desk = desk();
    std::fs::write(desk.top().join("outside"), "secret").unwrap();
    for path in [
        "%2e%2e/outside",
        "..%2foutside",
        "..\\outside",
        "\u{ff0e}\u{ff0e}/outside",
        "..\u{2215}outside",
        ".\u{200b}./outside",
        "~/outside",
        "$HOME/outside",
        "file:///etc/passwd",
    ] {
        let read = desk.err("read", json!({"file_path": path}));
        assert!(read.contains("no such file"), "{path}: {read}");
        desk.ok("write", json!({"file_path": path, "content": "mine"}));
        assert_eq!(desk.get(path), "mine", "{path}");
    }
    for path in [
        "../outside",
        "a/../../outside",
        "/etc/passwd",
        "//etc/passwd",
    ] {
        let read = desk.err("read", json!({"file_path": path}));
        assert!(read.contains("is outside"), "{path}: {read}");
        let write = desk.err("write", json!({"file_path": path, "content": "x"}));
        assert!(write.contains("is outside"), "{path}: {write}");
    }
    let left = std::fs::read_to_string(desk.top().join("outside")).unwrap();
    assert_eq!(left, "secret");
}

#[test]
fn null_is_as_good_as_nothing() {
    let desk = desk();
    desk.put("a", "x\n");
    desk.ok(
        "bash",
        json!({"command": "true", "restart": null, "timeout_ms": null}),
    );
    desk.ok("read", json!({"file_path": "a", "view_range": null}));
    desk.ok("grep", json!({"pattern": "x", "path": null}));
}

#[test]
fn other_tools_are_unknown() {
    let desk = desk();
    assert_eq!(desk.err("web_fetch", json!({})), "unknown tool 'web_fetch'");
    assert_eq!(desk.err("x\ny", json!({})), "unknown tool 'x\\ny'");
}
