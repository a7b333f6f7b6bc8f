//! Takes control sequences out of text.

/// Characters a control sequence may have before it is taken as text that lost its end.
const MAX_SEQUENCE: u32 = 4_096;

/// Cleans text that comes in pieces: a sequence may begin in one and end in another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cleaner {
    state: State,
    length: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate such as `(`: one more character follows.
    Charset,
    /// `ESC [` up to a final character.
    Control,
    /// `ESC ]`, `ESC P` and the like, up to BEL or `ESC \`.
    Command,
    /// ESC inside a command.
    CommandEscape,
}

impl Cleaner {
    /// The printable part of a piece: line ends and tabs stay, everything else that is not a
    /// visible character goes.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        piece.chars().filter(|c| self.passes(*c)).collect()
    }

    fn passes(&mut self, c: char) -> bool {
        self.length = if self.state == State::Text {
            0
        } else {
            self.length + 1
        };
        if self.length > MAX_SEQUENCE {
            self.state = State::Text;
        }
        match (self.state, c) {
            // A line end ends a sequence: one that lost its end must not swallow what follows.
            (_, '\n') => {
                self.state = State::Text;
                return true;
            }
            (State::Command, '\u{1b}') => self.state = State::CommandEscape,
            (_, '\u{1b}') => self.state = State::Escape,
            (State::Text, '\u{9b}') => self.state = State::Control,
            (State::Text, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => self.state = State::Command,
            (State::Text, c) => return is_visible(c),
            (State::Escape, '[') => self.state = State::Control,
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.state = State::Command,
            (State::Escape, ' '..='/') => self.state = State::Charset,
            (State::Control, '@'..='~') => self.state = State::Text,
            (State::Control, ' '..='?') => {}
            (State::Control, _) => self.state = State::Text,
            (State::Command, '\u{7}' | '\u{9c}') => self.state = State::Text,
            (State::Command, _) => {}
            (State::CommandEscape, '\\') => self.state = State::Text,
            (State::CommandEscape, _) => self.state = State::Command,
            (State::Escape | State::Charset, _) => self.state = State::Text,
        }
        false
    }
}

fn is_visible(c: char) -> bool {
    match c {
        '\t' | '\n' => true,
        c if c.is_control() => false,
        // Marks that reorder or hide what a line says.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => false,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => false,
        '\u{e0000}'..='\u{e007f}' => false,
        _ => true,
    }
}

/// Cleans a whole text.
pub(crate) fn clean(text: &str) -> String {
    Cleaner::default().push(text)
}

/// Cleans a text for one line of at most `max` characters; longer ones end with an ellipsis.
pub(crate) fn clean_line(text: &str, max: usize) -> String {
    let flat = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= max {
        return flat;
    }
    let mut cut: String = flat.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sequences_go_and_text_stays() {
        for (dirty, text) in [
            ("plain äö\ttab\nline", "plain äö\ttab\nline"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}(Bx\u{1b}cy", "xy"),
            ("a\rb\u{8}c\u{7}d\u{0}", "abcd"),
            ("\u{9b}31mx\u{9d}0;t\u{9c}y", "xy"),
            ("\u{1b}Pq#0\u{1b}\\z", "z"),
            ("safe\u{202e}gpj.exe", "safegpj.exe"),
            ("\u{1b}]never ends\nnext", "\nnext"),
            ("\u{1b}[12\u{1b}[1mx", "x"),
        ] {
            assert_eq!(clean(dirty), text, "{dirty:?}");
        }
        assert_eq!(clean_line("a\n\n b   c", 10), "a b c");
        assert_eq!(clean_line("abcdef", 4), "abc…");
    }

    #[test]
    fn a_lost_end_does_not_swallow_everything() {
        let long = format!("\u{1b}]{}", "x".repeat(10_000));
        assert!(!clean(&long).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_of_any_text_controls_a_terminal(text in any::<String>(), cut in any::<prop::sample::Index>()) {
            let whole = clean(&text);
            prop_assert!(whole.chars().all(|c| c == '\n' || c == '\t' || !c.is_control()));
            let at = text.char_indices().map(|(i, _)| i).chain([text.len()]).collect::<Vec<_>>();
            let at = at[cut.index(at.len())];
            let mut pieces = Cleaner::default();
            let parts = pieces.push(&text[..at]) + &pieces.push(&text[at..]);
            prop_assert_eq!(parts, whole);
        }
    }
}
