use proptest::prelude::*;
use serde_json::json;

use super::*;

fn call(name: &str, input: Value) -> Call {
    Call {
        name: name.into(),
        input: input.as_object().unwrap().clone(),
    }
}

#[test]
fn every_directive() {
    let text = "Please do this:\n\
        say: Hello: there \n  think: hm\nbash: ls -l | wc\n\nread: a b.txt\n\
        write: out.txt <<< one\n| two\n|\n| four\n\
        glob: **/*.rs\ngrep: fn main\nfetch: https://x/\nsearch: rust\n\
        tool: lookup {\"k\": [1]}\ntool: now\nwait: 20\nerror: overloaded 2\n\
        error: network always\nnot a directive: x\nSay: neither\nrefuse: no";
    let one = |name: &str, input: Value| Step::Calls(vec![call(name, input)]);
    let error = |kind, times| Step::Error { kind, times };
    assert_eq!(
        parse(text).unwrap(),
        [
            Step::Say("Hello: there".into()),
            Step::Think("hm".into()),
            one("bash", json!({"command": "ls -l | wc"})),
            one("read", json!({"file_path": "a b.txt"})),
            one(
                "write",
                json!({"file_path": "out.txt", "content": "one\ntwo\n\nfour"})
            ),
            one("glob", json!({"pattern": "**/*.rs"})),
            one("grep", json!({"pattern": "fn main"})),
            one("web_fetch", json!({"url": "https://x/"})),
            one("web_search", json!({"query": "rust"})),
            one("lookup", json!({"k": [1]})),
            one("now", json!({})),
            Step::Wait(20),
            error(ModelErrorKind::Overloaded, 2),
            error(ModelErrorKind::Network, u32::MAX),
            Step::Refuse("no".into()),
        ]
    );
}

#[test]
fn groups() {
    let a = || call("bash", json!({"command": "a"}));
    let b = || call("bash", json!({"command": "b"}));
    for text in [
        "parallel:\nbash: a\nbash: b\nend:\nbash: a",
        "parallel:\nbash: a\nbash: b\nparallel:\nbash: a",
    ] {
        let steps = [Step::Calls(vec![a(), b()]), Step::Calls(vec![a()])];
        assert_eq!(parse(text).unwrap(), steps, "{text}");
    }
    let said = parse("parallel:\nbash: a\nbash: b\nsay: x\nbash: b").unwrap();
    let steps = [
        Step::Calls(vec![a(), b()]),
        Step::Say("x".into()),
        Step::Calls(vec![b()]),
    ];
    assert_eq!(said, steps);
    assert_eq!(parse("parallel:\nend:").unwrap(), []);
}

#[test]
fn a_multi_line_file_begins_on_the_next_line() {
    let steps = parse("write: f <<<\n| a\n|  b").unwrap();
    let input = json!({"file_path": "f", "content": "a\n b"});
    assert_eq!(steps, [Step::Calls(vec![call("write", input)])]);
}

#[test]
fn no_directives() {
    for text in ["", "Hello", "sayhello", "https://x/y: z", "| continued"] {
        assert_eq!(parse(text).unwrap(), [], "{text}");
    }
}

#[test]
fn problems_name_their_line() {
    for (text, line) in [
        ("say: x\nbash:", 2),
        ("wait: long", 1),
        ("wait: 600001", 1),
        ("tool: x {", 1),
        ("tool: x [1]", 1),
        ("write: x", 1),
        ("write: <<< x", 1),
        ("error: could not compile", 1),
        ("error: overloaded two", 1),
        ("error: overloaded 2 3", 1),
    ] {
        assert_eq!(parse(text).unwrap_err().line, line, "{text}");
    }
}

#[test]
fn scripts_are_bounded() {
    assert!(parse(&"say: x\n".repeat(MAX_STEPS + 1)).is_err());
    assert!(
        parse(&format!(
            "parallel:\n{}",
            "bash: x\n".repeat(MAX_PARALLEL + 1)
        ))
        .is_err()
    );
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "((say|tool|write|error|wait|parallel|end): ?|[^:]|\n|\\| |<<<|\\{\\}){0,60}") {
        let _ = parse(&text);
    }
}
