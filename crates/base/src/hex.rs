//! Bytes as hexadecimal digits.

/// Lower-case digits.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// What [`encode`] was given, from digits of either case; `None` unless they are exactly `N` bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).map(|v| v as u8);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_back() {
        let bytes = [0x00, 0x0a, 0xff];
        assert_eq!(encode(bytes), "000aff");
        assert_eq!(decode("000aff"), Some(bytes));
        assert_eq!(decode("000AFF"), Some(bytes));
    }

    #[test]
    fn what_is_no_digits_of_that_length_is_refused() {
        for text in [
            "", "000af", "000aff0", "+00a0f", "00 aff", "000agf", "é0aff",
        ] {
            assert_eq!(decode::<3>(text), None, "{text}");
        }
    }
}
