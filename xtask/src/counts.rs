//! Reading how many tests ran from what the test runners print.

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed, errors included.
    pub failed: u64,
}

impl Counts {
    /// Adds what one line of a runner's output reports, if it reports anything.
    pub fn read(&mut self, line: &str) {
        let whole = plain(line);
        let line = whole.trim();
        // cargo nextest: `Summary [ 1.2s] 12 tests run: 11 passed, 1 failed, 0 skipped`
        // cargo test: `test result: ok. 3 passed; 0 failed; 0 ignored; …`
        // pytest: `2 failed, 30 passed, 1 error in 4.20s`, with or without `=` around it
        let summary = line.starts_with("Summary [")
            // Indented it is what nextest shows of a failed test, which it counts itself.
            || whole.starts_with("test result:")
            || (line.contains(" in ")
                && line
                    .trim_matches(['=', ' '])
                    .starts_with(|c: char| c.is_ascii_digit()));
        if summary {
            self.passed += before(line, "passed");
            self.failed += before(line, "failed") + before(line, "error") + before(line, "errors");
        }
        // node --test: `ℹ pass 12` or `# pass 12`
        for mark in ["ℹ ", "# "] {
            if let Some(rest) = line.strip_prefix(mark) {
                self.passed += after(rest, "pass");
                self.failed += after(rest, "fail") + after(rest, "cancelled");
            }
        }
    }
}

/// The number that stands before the word.
fn before(line: &str, word: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| pair[1].trim_matches([',', ';', '.']) == word)
        .filter_map(|pair| pair[0].trim_start_matches('=').parse::<u64>().ok())
        .sum()
}

/// The number that stands after the word, if the line is only that.
fn after(line: &str, word: &str) -> u64 {
    match line.split_once(' ') {
        Some((first, number)) if first == word => number.trim().parse().unwrap_or(0),
        _ => 0,
    }
}

/// The line without terminal colours.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
            continue;
        }
        if chars.next() == Some('[') {
            let _ = chars.by_ref().find(|c| c.is_ascii_alphabetic());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::Counts;

    fn counted(output: &str) -> (u64, u64) {
        let mut counts = Counts::default();
        output.lines().for_each(|line| counts.read(line));
        (counts.passed, counts.failed)
    }

    #[test]
    fn runners_are_understood() {
        for (output, expected) in [
            (
                "     Summary [   1.206s] 12 tests run: 11 passed (1 slow), 1 failed, 0 skipped",
                (11, 1),
            ),
            (
                "    test result: FAILED. 0 passed; 1 failed;\n     Summary [   0.1s] 4/12 tests run: 3 passed, 1 failed, 8 not run",
                (3, 1),
            ),
            (
                "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out",
                (3, 0),
            ),
            (
                "test result: FAILED. 1 passed; 2 failed; 0 ignored\ntest result: ok. 4 passed; 0 failed;",
                (5, 2),
            ),
            ("2 failed, 30 passed, 1 error in 4.20s", (30, 3)),
            (
                "======= 30 passed, 2 warnings in 61.00s (0:01:01) =======",
                (30, 0),
            ),
            ("ℹ tests 20\nℹ pass 19\nℹ fail 1\nℹ cancelled 0", (19, 1)),
            ("# pass 7\n# fail 0", (7, 0)),
            (
                "\u{1b}[32m\u{1b}[1m9 passed\u{1b}[0m\u{1b}[32m in 1.20s\u{1b}[0m",
                (9, 0),
            ),
            ("   Compiling serde v1.0.0\n12 files checked", (0, 0)),
            ("# passing through 3 gates", (0, 0)),
        ] {
            assert_eq!(counted(output), expected, "{output}");
        }
    }
}
