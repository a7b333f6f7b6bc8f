//! Failed calls, worded for a model (contract 55 §6): no host paths, the same words everywhere.

use std::fmt::Write;
use std::io;

use rustix::io::Errno;

/// The text of a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// `<op>: <path>: <reason>`; `path` as the model wrote it.
    pub(crate) fn file(op: &str, path: &str, error: &io::Error) -> Self {
        Self(format!("{op}: {path}: {}", reason(error)))
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Words for what the system said.
pub(crate) fn reason(error: &io::Error) -> String {
    let known = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => "no such file or directory",
        Some(Errno::NOTDIR) => "not a directory",
        Some(Errno::ISDIR) => "is a directory",
        Some(Errno::ACCESS | Errno::PERM) => "permission denied",
        Some(Errno::EXIST) => "file already exists",
        Some(Errno::LOOP) => "too many levels of symbolic links",
        Some(_) => {
            let text = error.to_string();
            return text
                .split(" (os error")
                .next()
                .unwrap_or_default()
                .to_lowercase();
        }
        None => "i/o error",
    };
    known.to_owned()
}

/// `text` in quotes, with anything unprintable escaped, as Python's `repr` does.
pub(crate) fn quote(text: &str) -> String {
    let mark = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(mark);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ if c == mark => quoted.extend(['\\', c]),
            '"' | '\'' => quoted.push(c),
            _ if c.escape_debug().len() == 1 => quoted.push(c),
            _ => {
                // Writing to a string cannot fail.
                let _ = match u32::from(c) {
                    n @ ..=0xff => write!(quoted, "\\x{n:02x}"),
                    n @ 0x100..=0xffff => write!(quoted, "\\u{n:04x}"),
                    n => write!(quoted, "\\U{n:08x}"),
                };
            }
        }
    }
    quoted.push(mark);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_python_does() {
        for (text, quoted) in [
            ("plain", "'plain'"),
            ("it's", "\"it's\""),
            ("it's \"x\"", "'it\\'s \"x\"'"),
            ("a\\b\n\t\r", "'a\\\\b\\n\\t\\r'"),
            (
                "\u{7f}\u{1}é\u{200b}\u{e0001}",
                "'\\x7f\\x01é\\u200b\\U000e0001'",
            ),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }

    #[test]
    fn words_for_errors() {
        let words = |errno: Errno| reason(&io::Error::from(errno));
        assert_eq!(words(Errno::NOENT), "no such file or directory");
        assert_eq!(words(Errno::PERM), "permission denied");
        assert_eq!(words(Errno::NAMETOOLONG), "file name too long");
        assert_eq!(words(Errno::NOSPC), "no space left on device");
        assert_eq!(reason(&io::Error::other("/secret/path")), "i/o error");
    }
}
