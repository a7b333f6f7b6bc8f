//! Request bodies as such: JSON, bounds, duplicate keys.

use freehold_wire::agent::CreateAgent;
use freehold_wire::session::UpdateSession;
use freehold_wire::{parse, parse_or_empty};

fn message(body: &[u8]) -> String {
    parse::<CreateAgent>(body).unwrap_err().message
}

#[test]
fn broken_bodies() {
    assert_eq!(
        message(b"\xff{}"),
        "The request body is not valid UTF-8 (at byte 0)."
    );
    assert_eq!(
        message(b"{\"name\":\"\xc3\"}"),
        "The request body is not valid UTF-8 (at byte 9)."
    );
    for empty in ["", " \n"] {
        assert_eq!(
            message(empty.as_bytes()),
            "The request body is empty; a JSON object is expected."
        );
    }
    for broken in [
        "{",
        "{\"a\":}",
        "{}x",
        "nul",
        "{\"a\":1e999}",
        "\"\\ud800\"",
        "\u{feff}{}",
    ] {
        let text = message(broken.as_bytes());
        assert!(
            text.starts_with("The request body is not valid JSON: "),
            "{broken}: {text}"
        );
    }
    assert_eq!(
        message(b"{\"name\":\"a\",\"name\":\"b\"}"),
        "The request body is not valid JSON: duplicate key `name` at line 1 column 18"
    );
}

#[test]
fn deep_and_wide_bodies_are_bounded() {
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    assert!(message(deep.as_bytes()).contains("more than 64 levels of nesting"));
    let deeper = "[".repeat(1_000_000);
    assert!(message(deeper.as_bytes()).starts_with("The request body is not valid JSON: "));
    let wide = format!("[{}0]", "0,".repeat(500_000));
    assert!(message(wide.as_bytes()).contains("more than 500000 values"));
}

#[test]
fn a_body_may_be_absent_where_nothing_is_required() {
    assert!(parse_or_empty::<UpdateSession>(b"").is_ok());
    assert!(parse_or_empty::<UpdateSession>(b"{}").is_ok());
    assert!(parse_or_empty::<CreateAgent>(b"").is_err());
}

#[test]
fn echoed_keys_are_bounded_and_harmless() {
    let body = format!(
        "{{\"model\":\"claude-a\",\"name\":\"n\",\"{}\\u001b[31m\":1}}",
        "k".repeat(10)
    );
    assert_eq!(
        message(body.as_bytes()),
        "kkkkkkkkkk\\u{1b}[31m: Extra inputs are not permitted"
    );
    let body = format!(
        "{{\"model\":\"claude-a\",\"name\":\"n\",\"{}\":1}}",
        "k".repeat(100_000)
    );
    assert!(message(body.as_bytes()).len() < 200);
}
