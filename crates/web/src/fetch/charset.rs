//! Bytes to text, as browsers decide it: a byte order mark, the header, a declaration in the markup,
//! then UTF-8, and windows-1252 for what is not that.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// Where a declaration in markup must be to count, bytes.
const MAX_DECLARATION: usize = 1_024;

/// Decodes `body`; `header` is the charset of its media type.
pub(super) fn decode(body: &[u8], header: Option<&str>, is_html: bool) -> String {
    let named = header.and_then(|label| Encoding::for_label(label.as_bytes()));
    let declared = || if is_html { declaration(body) } else { None };
    let encoding = named.or_else(declared).unwrap_or_else(|| {
        // A page cut off in the middle of a character is still UTF-8.
        match std::str::from_utf8(body) {
            Err(error) if error.error_len().is_some() => WINDOWS_1252,
            _ => UTF_8,
        }
    });
    // Also looks for a byte order mark, which goes before everything else.
    encoding.decode(body).0.into_owned()
}

/// The label behind the first `charset=` near the beginning.
fn declaration(body: &[u8]) -> Option<&'static Encoding> {
    let head = body[..body.len().min(MAX_DECLARATION)].to_ascii_lowercase();
    let wanted = b"charset=";
    let at = head
        .windows(wanted.len())
        .position(|window| window == wanted)?
        + wanted.len();
    let label: Vec<u8> = head[at..]
        .iter()
        .copied()
        .skip_while(|b| b"\"' ".contains(b))
        .take_while(|b| b.is_ascii_alphanumeric() || b"-_:.".contains(b))
        .collect();
    Encoding::for_label(&label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_hint_wins() {
        assert_eq!(decode("grün".as_bytes(), None, true), "grün");
        assert_eq!(decode(b"gr\xfcn", None, true), "grün");
        assert_eq!(decode(b"gr\xfcn", Some("iso-8859-1"), false), "grün");
        assert_eq!(decode(b"\x83\x65", Some("shift_jis"), false), "テ");
        let meta = b"<meta http-equiv=x content='text/html; charset=koi8-r'>\xd4!";
        assert!(decode(meta, None, true).ends_with("т!"));
        assert!(decode(meta, None, false).ends_with("Ô!"));
        assert_eq!(
            decode(b"\xef\xbb\xbfgr\xc3\xbcn", Some("latin1"), false),
            "grün"
        );
        assert_eq!(decode(b"\xff\xfea\0", None, false), "a");
        assert_eq!(
            decode("grü".as_bytes().split_last().unwrap().1, None, false),
            "gr\u{fffd}"
        );
        assert_eq!(decode(b"x", Some("no such"), true), "x");
    }
}
