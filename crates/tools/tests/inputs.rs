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
