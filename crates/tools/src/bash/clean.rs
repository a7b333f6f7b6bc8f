//! From what a terminal would get to what a model reads.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::tail::Output;

/// Control sequences: colours, cursor movements.
static SEQUENCES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\x1b\[[0-9;?]*[ -/]*[@-~]").expect("a constant pattern compiles")
});

/// The output as text, without control sequences and newlines at its end.
pub(super) fn text(output: &Output) -> String {
    let mut bytes = &output.bytes[..];
    if output.cut {
        // Not the second half of a character.
        let torn = bytes
            .iter()
            .take(3)
            .take_while(|b| **b & 0xc0 == 0x80)
            .count();
        bytes = &bytes[torn..];
    }
    let decoded = String::from_utf8_lossy(bytes);
    let clean: Cow<'_, str> = SEQUENCES.replace_all(&decoded, "");
    let clean = clean.trim_end_matches('\n');
    if output.cut {
        format!("[output truncated]\n{clean}")
    } else {
        clean.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_colours_and_trailing_newlines() {
        let clean = |bytes: &[u8], cut| {
            text(&Output {
                bytes: bytes.to_vec(),
                cut,
            })
        };
        assert_eq!(
            clean(b"\x1b[1;31mred\x1b[0m \x1b[?25l\x1b[2 q.\n\n", false),
            "red ."
        );
        assert_eq!(clean(b"\xff\x1b]0;title", false), "\u{fffd}\u{1b}]0;title");
        assert_eq!(
            clean(b"\xa9\xa9 rest \n", true),
            "[output truncated]\n rest "
        );
        assert_eq!(clean(b"\n\n", false), "");
    }
}
