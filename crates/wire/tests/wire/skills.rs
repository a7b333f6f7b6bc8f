//! SKILL.md and the forms of skills (contract 70).

use freehold_wire::skill::{Manifest, display_name};

fn manifest(front: &str) -> Result<(String, String), String> {
    Manifest::parse(format!("---\n{front}\n---\n# Body\n").as_bytes())
        .map(|m| (m.name, m.description))
        .map_err(|e| e.message)
}

#[test]
fn front_matter_as_people_write_it() {
    let expected = Ok((
        "invoice-checks".to_owned(),
        "Checks invoices: all of them".to_owned(),
    ));
    for front in [
        "name: invoice-checks\ndescription: 'Checks invoices: all of them'",
        "description: \"Checks invoices: all of them\"\nname: \"invoice-checks\"",
        "name: invoice-checks # not the folder\ndescription: >-\n  Checks invoices:\n  all of them",
        "name: invoice-checks\nlicense: MIT\nmetadata:\n  name: other\n  list: [a, {name: b}]\ndescription: |\n  Checks invoices: all of them\n",
        "x: &a [1, 2]\ny: *a\n? [name, description]\n: z\nname: invoice-checks\ndescription: 'Checks invoices: all of them'",
    ] {
        assert_eq!(manifest(front), expected, "{front}");
    }
    let windows = b"\xef\xbb\xbf---\r\nname: a-1\r\ndescription: d\r\n---\r\nbody";
    assert_eq!(Manifest::parse(windows).unwrap().name, "a-1");
    assert_eq!(
        Manifest::parse(b"---\nname: 007\ndescription: d\n---")
            .unwrap()
            .name,
        "007"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let long_name = format!("name: {}\ndescription: d", "n".repeat(65));
    let long_text = format!("name: n\ndescription: {}", "d".repeat(1025));
    for (front, says) in [
        ("name: a", "`description` is required"),
        ("description: d", "`name` is required"),
        ("name: a\ndescription: ''", "`description` is required"),
        ("name: ~\ndescription: d", "`name` is required"),
        ("name: [a]\ndescription: d", "`name` should be a text"),
        (
            "name: &a b\ndescription: *a",
            "`description` should be a text",
        ),
        ("name: a\nname: b\ndescription: d", "`name` is given twice"),
        ("name: Invoice\ndescription: d", "lower-case"),
        ("name: a_b\ndescription: d", "lower-case"),
        ("name: ../x\ndescription: d", "lower-case"),
        ("name: <b>\ndescription: d", "lower-case"),
        ("name: my-claude\ndescription: d", "\"claude\""),
        ("name: anthropic-x\ndescription: d", "\"anthropic\""),
        ("name: a\ndescription: use <b>this</b>", "XML tags"),
        (&long_name, "at most 64"),
        (&long_text, "at most 1024"),
        ("- name: a", "YAML mapping"),
        ("", "YAML mapping"),
        ("name: 'a", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
    ] {
        let message = manifest(front).unwrap_err();
        assert!(
            message.starts_with("SKILL.md: ") && message.contains(says),
            "{front:?}: {message}"
        );
    }
    for file in [
        &b""[..],
        b"# Title",
        b"---\nname: a",
        b"\n---\nname: a\n---\n",
        b"----\na: b\n----\n",
    ] {
        let message = Manifest::parse(file).unwrap_err().message;
        assert!(
            message.contains("begin with YAML front matter"),
            "{message}"
        );
    }
    assert!(
        Manifest::parse(b"---\nname: \xff\n---\n")
            .unwrap_err()
            .message
            .contains("UTF-8")
    );
    assert_eq!(
        manifest("name: a\ndescription: 2 < 3 and 5 > 4").unwrap().1,
        "2 < 3 and 5 > 4"
    );
    assert!(
        manifest(&"#\n".repeat(40_000))
            .unwrap_err()
            .contains("longer than")
    );
}

#[test]
fn aliases_are_never_expanded() {
    let mut front = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..200 {
        front += &format!(
            "a{n}: &a{n} [{}]\n",
            vec![format!("*a{}", n - 1); 10].join(", ")
        );
    }
    front += "name: n\ndescription: d";
    assert_eq!(manifest(&front).unwrap().0, "n");
    // Depth is counted, not recursed into.
    let deep = format!(
        "x: {}{}\nname: n\ndescription: d",
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let _ended = manifest(&deep);
}

#[test]
fn display_names_are_single_lines() {
    assert_eq!(
        display_name("display_name", "Invoice checks").unwrap(),
        "Invoice checks"
    );
    for bad in ["", "  ", "a\nb", "a\u{1b}[2J", &"x".repeat(256)] {
        let message = display_name("display_name", bad).unwrap_err().message;
        assert!(message.starts_with("display_name: "), "{message}");
    }
}
