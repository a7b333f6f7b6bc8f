use proptest::prelude::*;

use super::*;

fn decode(chunks: &[&[u8]], max: usize) -> (Vec<Frame>, Result<(), SseError>) {
    let mut decoder = Decoder::new(max);
    let mut frames = Vec::new();
    let mut result = Ok(());
    for chunk in chunks {
        result = decoder.push(chunk);
        frames.extend(std::iter::from_fn(|| decoder.next_frame()));
        if result.is_err() {
            break;
        }
    }
    (frames, result)
}

fn frame(event: &str, data: &str) -> Frame {
    Frame {
        event: event.into(),
        data: data.into(),
    }
}

#[test]
fn line_ends_comments_and_fields() {
    let text = "\u{feff}event: a\r\ndata: 1\r\rdata:2\ndata:  3\nid: 9\n: hello\nretry: 5\n\n\
                event: lonely\n\ndata\n\nevent: b\ndata: x:y\n\ndata: cut off";
    let (frames, result) = decode(&[text.as_bytes()], 100);
    assert_eq!(result, Ok(()));
    assert_eq!(
        frames,
        [frame("a", "1"), frame("", "2\n 3"), frame("b", "x:y")]
    );
}

#[test]
fn too_long_lines_and_events_are_refused() {
    let long = vec![b'x'; 11];
    assert_eq!(decode(&[&long], 10).1, Err(SseError::TooLarge { max: 10 }));
    let many = b"data:1234\ndata:5678\ndata:9\n\n";
    assert_eq!(decode(&[many], 10).1, Err(SseError::TooLarge { max: 10 }));
}

#[test]
fn invalid_utf8_is_an_error_and_stays_one() {
    let mut decoder = Decoder::default();
    assert_eq!(
        decoder.push(b"data: ok\n\ndata: \xff\n\n"),
        Err(SseError::NotUtf8)
    );
    assert_eq!(decoder.next_frame(), Some(frame("", "ok")));
    assert_eq!(decoder.push(b"data: more\n\n"), Err(SseError::NotUtf8));
    assert_eq!(decoder.next_frame(), None);
}

#[test]
fn a_character_may_be_split_between_chunks() {
    let text = "data: é\n\n".as_bytes();
    let (frames, result) = decode(&[&text[..7], &text[7..]], 100);
    assert_eq!((frames, result), (vec![frame("", "é")], Ok(())));
}

#[test]
fn a_crlf_split_between_chunks_is_one_line_end_and_only_one() {
    let (frames, _) = decode(
        &[b"data: 1\r", b"\n", b"\n", b"data: 2\r", b"\n\r", b"\n"],
        100,
    );
    assert_eq!(frames, [frame("", "1"), frame("", "2")]);
}

fn stream_bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"data: ".to_vec()),
        Just(b"data".to_vec()),
        Just(b"event: ping".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b": c".to_vec()),
        Just("\u{feff}é".as_bytes().to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_events(
        bytes in stream_bytes(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let whole = decode(&[&bytes], 24);
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
        prop_assert_eq!(&decode(&parts, 24), &whole);
        let singles: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&decode(&singles, 24), &whole);
    }

    #[test]
    fn what_a_server_writes_is_what_is_read(data in "[^\r\n\u{feff}]{1,40}") {
        let text = format!("event: e\ndata: {data}\n\n");
        prop_assert_eq!(decode(&[text.as_bytes()], 1000).0, vec![frame("e", &data)]);
    }
}
