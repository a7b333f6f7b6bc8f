//! Durations as the contract's file has them.

use std::time::Duration;

/// Reads `90s`, `1m30s`, `500ms`, `1.5h`, `0`; and `90d`, which is ours.
pub fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_ends = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_ends);
        let unit_ends = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(unit_ends.unwrap_or(after.len()));
        let nanos: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 60 * 60 * 1_000_000_000,
            "d" => 24 * 60 * 60 * 1_000_000_000,
            _ => return None,
        };
        total = total.checked_add(times(number, nanos)?)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(total))
}

/// A decimal number of units, in nanoseconds.
fn times(number: &str, unit: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let digits = |text: &str| match text {
        "" => Some(0),
        text => text.parse::<u64>().ok(),
    };
    // More digits than nanoseconds have say nothing.
    let part = part.get(..9).unwrap_or(part);
    let scale = 10_u128.pow(u32::try_from(part.len()).ok()?);
    let below = u128::from(digits(part)?) * u128::from(unit) / scale;
    digits(whole)?
        .checked_mul(unit)?
        .checked_add(u64::try_from(below).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_contracts_file_may_say_is_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("1h0m0.25s", 3_600_250),
            ("2160h", 7_776_000_000),
            ("90d", 7_776_000_000),
            ("1500µs", 1),
        ] {
            let read = duration(text).map(|d| d.as_millis());
            assert_eq!(read, Some(millis), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "1m30",
            "-1s",
            "1 s",
            ".s",
            "1.2.3s",
            "1w",
            "1S",
            "１s",
            "99999999999999999999s",
            "9999999999h",
        ] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
