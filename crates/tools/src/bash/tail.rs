//! The end of what a shell printed. Memory stays flat however much it prints.

use super::MAX_OUTPUT;

/// Room behind the output for the line that ends it, bytes.
const MARGIN: usize = 256;
/// Bytes kept.
const KEPT: usize = MAX_OUTPUT + MARGIN;

/// What was kept of an output.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    /// Whether more came before `bytes`.
    pub(super) cut: bool,
}

impl Output {
    /// The last [`MAX_OUTPUT`] bytes.
    fn of(mut bytes: Vec<u8>, cut: bool) -> Self {
        let excess = bytes.len().saturating_sub(MAX_OUTPUT);
        bytes.drain(..excess);
        Self {
            bytes,
            cut: cut || excess > 0,
        }
    }
}

/// A finished command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finished {
    pub(super) output: Output,
    pub(super) status: i32,
}

/// Collects output and watches for the line that ends a command.
#[derive(Debug, Default)]
pub(super) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
    /// What announces the status of the running command.
    marker: Option<Vec<u8>>,
    /// Where no marker can begin any more.
    searched: usize,
}

impl Tail {
    /// From now on, `marker`, a status and a newline end the command.
    pub(super) fn expect(&mut self, marker: Vec<u8>) {
        self.marker = Some(marker);
        self.searched = self.bytes.len();
    }

    /// Adds what the shell printed; tells if that ended the command. What came after is kept for
    /// the next command.
    pub(super) fn push(&mut self, printed: &[u8]) -> Option<Finished> {
        self.bytes.extend_from_slice(printed);
        let finished = self.find();
        // Cut rarely: moving the rest for each small piece would cost more than the room.
        if self.bytes.len() > 2 * KEPT {
            let excess = self.bytes.len() - KEPT;
            self.bytes.drain(..excess);
            self.searched = self.searched.saturating_sub(excess);
            self.cut = true;
        }
        finished
    }

    fn find(&mut self) -> Option<Finished> {
        let marker = self.marker.as_ref()?;
        let mut from = self.searched;
        while let Some(at) = position(&self.bytes[from..], marker) {
            let start = from + at;
            let rest = &self.bytes[start + marker.len()..];
            match status(rest) {
                Status::Is(status, length) => {
                    let end = start + marker.len() + length;
                    let mut output: Vec<u8> = self.bytes.drain(..end).collect();
                    output.truncate(start);
                    let output = Output::of(output, std::mem::take(&mut self.cut));
                    self.marker = None;
                    self.searched = 0;
                    return Some(Finished { output, status });
                }
                Status::Incomplete => {
                    self.searched = start;
                    return None;
                }
                // The marker in other company: a trace of the command that prints it.
                Status::None => from = start + 1,
            }
        }
        self.searched = from.max(self.bytes.len().saturating_sub(marker.len() - 1));
        None
    }

    /// Everything, when the shell has ended.
    pub(super) fn take(&mut self) -> Output {
        Output::of(
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.cut),
        )
    }
}

enum Status {
    /// The status and how many bytes it took with its newline.
    Is(i32, usize),
    Incomplete,
    None,
}

/// Reads at most three digits and a newline.
fn status(bytes: &[u8]) -> Status {
    let digits = bytes
        .iter()
        .take(3)
        .take_while(|b| b.is_ascii_digit())
        .count();
    match bytes.get(digits) {
        None => Status::Incomplete,
        Some(b'\n') if digits > 0 => {
            let value = bytes[..digits]
                .iter()
                .fold(0, |n, b| n * 10 + i32::from(b - b'0'));
            Status::Is(value, digits + 1)
        }
        Some(_) => Status::None,
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|b| *b == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_the_marker_however_it_is_cut_up() {
        let whole = b"early\n_MA_MARK%d\n one\n_MARK42\nlate";
        for size in 1..whole.len() {
            let mut tail = Tail::default();
            tail.expect(b"_MARK".to_vec());
            let found: Vec<_> = whole
                .chunks(size)
                .filter_map(|piece| tail.push(piece))
                .collect();
            assert_eq!(found.len(), 1, "{size}");
            assert_eq!(found[0].output.bytes, b"early\n_MA_MARK%d\n one\n");
            assert_eq!((found[0].status, found[0].output.cut), (42, false));
            assert_eq!(tail.take().bytes, b"late");
        }
    }

    #[test]
    fn memory_stays_flat_and_the_last_bytes_are_kept() {
        let mut tail = Tail::default();
        tail.expect(b"_MARK".to_vec());
        for n in 0..2_000_u32 {
            assert_eq!(tail.push(&[(n % 251) as u8; 1_000]), None);
            assert!(tail.bytes.capacity() <= 5 * KEPT);
        }
        let done = tail.push(b"end_MARK0\n").unwrap();
        assert!(done.output.cut);
        assert_eq!(done.output.bytes.len(), MAX_OUTPUT);
        assert!(done.output.bytes.ends_with(b"end"));
        assert_eq!(tail.take(), Output::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn never_loses_or_invents_output(
            before in prop::collection::vec(prop_oneof![Just(b'_'), Just(b'M'), Just(b'1'), any::<u8>()], 0..300),
            size in 1_usize..50,
        ) {
            prop_assume!(position(&before, b"_MARK").is_none());
            let mut tail = Tail::default();
            tail.expect(b"_MARK".to_vec());
            let whole = [&before[..], b"_MARK7\n"].concat();
            let found: Vec<_> = whole.chunks(size).filter_map(|piece| tail.push(piece)).collect();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&found[0].output.bytes, &before);
        }
    }
}
