//! Server-sent events, decoded within limits.

use crate::options::MAX_MESSAGE;

/// One event.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message` if the server gave none.
    pub(crate) name: String,
    pub(crate) data: String,
}

/// An event is larger than 16 MiB.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Takes bytes, gives events. Lines end with CR, LF or both; what is not UTF-8 is replaced.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    after_cr: bool,
    started: bool,
    name: String,
    data: String,
    has_data: bool,
    /// Of the last event that had one.
    pub(crate) last_id: Option<String>,
    /// Milliseconds the server wants us to wait before we come back.
    pub(crate) retry: Option<u64>,
}

impl Decoder {
    /// For the stream that goes on where this one broke off.
    pub(crate) fn resumed(self) -> Self {
        Self {
            last_id: self.last_id,
            retry: self.retry,
            ..Self::default()
        }
    }

    /// Takes `bytes` and adds what they complete to `events`.
    pub(crate) fn feed(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        for &byte in bytes {
            let after_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    self.end_line(events);
                }
                _ => {
                    // A comment is not kept, however long it is.
                    if self.line.first() != Some(&b':') {
                        self.line.push(byte);
                    }
                    if self.line.len() + self.data.len() > MAX_MESSAGE {
                        return Err(TooLarge);
                    }
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) {
        let bytes = std::mem::take(&mut self.line);
        let mut line = String::from_utf8_lossy(&bytes).into_owned();
        if !std::mem::replace(&mut self.started, true)
            && let Some(rest) = line.strip_prefix('\u{feff}')
        {
            line = rest.to_owned();
        }
        if line.is_empty() {
            self.end_event(events);
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // It goes back in a header.
            "id" if value.len() <= 1024 && value.bytes().all(|b| (0x20..0x7f).contains(&b)) => {
                self.last_id = Some(value.to_owned());
            }
            "retry" => self.retry = value.parse().ok().or(self.retry),
            _ => {}
        }
    }

    fn end_event(&mut self, events: &mut Vec<Event>) {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            let name = if name.is_empty() {
                "message".into()
            } else {
                name
            };
            events.push(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<Event> {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for chunk in chunks {
            decoder.feed(chunk, &mut events).unwrap();
        }
        events
    }

    #[test]
    fn all_ends_of_lines_a_mark_and_comments() {
        let text = "\u{feff}: hello\r\ndata: a\rdata:b\nid: 7\nretry: 5\n\r\n\nevent: x\ndata\n\n";
        let events = decode(&[text.as_bytes()]);
        let of = |name: &str, data: &str| Event {
            name: name.into(),
            data: data.into(),
        };
        assert_eq!(events, [of("message", "a\nb"), of("x", "")]);
    }

    #[test]
    fn an_endless_event_is_refused_and_an_endless_comment_is_not_kept() {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        let block = vec![b'x'; 1 << 20];
        decoder.feed(b":", &mut events).unwrap();
        for _ in 0..32 {
            decoder.feed(&block, &mut events).unwrap();
        }
        assert!(decoder.line.len() < 16);
        decoder.feed(b"\ndata: ", &mut events).unwrap();
        assert!((0..17).any(|_| decoder.feed(&block, &mut events).is_err()));
    }

    proptest! {
        #[test]
        fn where_chunks_are_cut_does_not_matter(
            lines in prop::collection::vec("(data|event|id|retry|:|)(: ?)?[a-zé\u{feff}]{0,5}(\r|\n|\r\n)", 0..20),
            cut in 0usize..200,
        ) {
            let text = lines.concat();
            let cut = cut.min(text.len());
            let (head, tail) = text.as_bytes().split_at(cut);
            prop_assert_eq!(decode(&[text.as_bytes()]), decode(&[head, tail]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&[&bytes]);
        }
    }
}
