//! Contract 72.

use freehold_wire::file::{expires_in_seconds, filename, mime_type};

#[test]
fn names_are_the_last_component() {
    for (sent, mime, name) in [
        (Some("report.csv"), "text/csv", "report.csv"),
        (Some("a/b/report.csv"), "text/csv", "report.csv"),
        (Some("C:\\x\\report.csv"), "text/csv", "report.csv"),
        (Some("../../etc/passwd"), "text/plain", "passwd"),
        (Some(""), "text/plain", "unnamed.txt"),
        (Some("dir/"), "application/pdf", "unnamed.pdf"),
        (None, "image/jpeg", "unnamed.jpg"),
        (None, "application/x-unknown", "unnamed"),
        (Some(".env"), "text/plain", ".env"),
        (Some("наука 😀.txt"), "text/plain", "наука 😀.txt"),
    ] {
        assert_eq!(filename(sent, mime).unwrap(), name);
    }
    let long = "x".repeat(256);
    for bad in [
        "a<b",
        "a>b",
        "a:b",
        "a\"b",
        "a|b",
        "a?b",
        "a*b",
        "a\nb",
        "a\u{0}b",
        "..",
        ".",
        "x/..",
        long.as_str(),
    ] {
        assert_eq!(
            filename(Some(bad), "text/plain").unwrap_err().kind.status(),
            400,
            "{bad:?}"
        );
    }
    filename(Some(&"é".repeat(255)), "text/plain").unwrap();
}

#[test]
fn expiry_bounds() {
    assert_eq!(expires_in_seconds("3600").unwrap(), 3600);
    assert_eq!(expires_in_seconds("7776000").unwrap(), 7_776_000);
    for bad in [
        "3599",
        "7776001",
        "",
        "1h",
        "-3600",
        "3600.0",
        "99999999999999999999999",
    ] {
        assert_eq!(
            expires_in_seconds(bad).unwrap_err().message,
            "expires_in_seconds: Input should be an integer from 3600 to 7776000"
        );
    }
}

#[test]
fn media_types() {
    for (sent, name, mime) in [
        (Some("text/csv"), "a.bin", "text/csv"),
        (Some("Text/CSV; charset=utf-8"), "a", "text/csv"),
        (None, "a.PNG", "image/png"),
        (None, "a", "application/octet-stream"),
        // What is no media type must not become a response header.
        (Some("text/csv\r\nx: y"), "a.csv", "text/csv"),
        (Some("nonsense"), "a.json", "application/json"),
    ] {
        assert_eq!(mime_type(sent, name), mime, "{sent:?} {name}");
    }
}
