//! The rules of a memory's path (contract 74 §2).

use freehold_base::limits::{MAX_MEMORY_PATH, MAX_MEMORY_SEGMENTS};
use unicode_normalization::is_nfc;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Checks a path: it starts with `/` and has 1 to 20 segments, none of them empty, `.` or `..`; no
/// control and no format characters, no line or paragraph separators; in Normalization Form C; at
/// most 1,024 bytes.
///
/// # Errors
/// Says which rule is broken.
pub fn check_path(path: &str) -> Result<(), String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err("Path should start with '/'".into());
    };
    if MAX_MEMORY_PATH < path.len() {
        return Err(format!(
            "Path should have at most {MAX_MEMORY_PATH} bytes, not {}",
            path.len()
        ));
    }
    if MAX_MEMORY_SEGMENTS < rest.split('/').count() {
        return Err(format!(
            "Path should have at most {MAX_MEMORY_SEGMENTS} segments"
        ));
    }
    if rest.split('/').any(|s| matches!(s, "" | "." | "..")) {
        return Err("Path should have no segment that is empty, '.' or '..'".into());
    }
    if path.chars().any(is_hidden) {
        return Err(
            "Path should not contain control or format characters, or line separators".into(),
        );
    }
    if !is_nfc(path) {
        return Err("Path should be in Unicode Normalization Form C".into());
    }
    Ok(())
}

/// Checks the prefix of a list: `/`, or a path and a `/`.
///
/// # Errors
/// Says which rule is broken.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    match prefix.strip_suffix('/') {
        None => Err("Prefix should end in '/'".into()),
        Some("") => Ok(()),
        Some(folder) => check_path(folder),
    }
}

fn is_hidden(c: char) -> bool {
    matches!(
        c.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let deep = |n: usize| "/a".repeat(n);
        let long = |n: usize| format!("/{}", "x".repeat(n - 1));
        for good in [
            "/a",
            "/a b/…/ä.md",
            "/.hidden",
            "/...",
            "/A",
            "/日本/語",
            "/-",
            "/a\u{a0}b",
            &deep(20),
            &long(1024),
        ] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a",
            "/",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/a/..",
            "/../a",
            "/a/./b",
            "/a\nb",
            "/\0",
            "/\u{7f}",
            "/\u{85}",
            "/a\u{200b}b",
            "/\u{202e}a",
            "/\u{feff}a",
            "/\u{ad}",
            "/a\u{2028}",
            "/a\u{2029}",
            "/a\u{308}",
            &deep(21),
            &long(1025),
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn prefixes_are_whole_segments() {
        for good in ["/", "/notes/", "/a/b/"] {
            assert_eq!(check_prefix(good), Ok(()), "{good}");
        }
        for bad in ["", "/notes", "notes/", "//", "/a//", "/../"] {
            assert!(check_prefix(bad).is_err(), "{bad:?}");
        }
    }
}
