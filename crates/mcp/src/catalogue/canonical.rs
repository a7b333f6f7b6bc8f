//! One text for all texts of the same JSON (RFC 8785).
//!
//! In one point stricter than the RFC: integers beyond 2^53 keep all their digits instead of
//! becoming the nearest double, so that two different values never get one text.

use std::fmt::Write;

use serde_json::{Number, Value};

/// Deepest nesting. JSON that was parsed is no deeper.
pub const MAX_DEPTH: usize = 128;

/// The value is nested deeper than [`MAX_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nested deeper than {MAX_DEPTH} levels")]
pub struct TooDeep;

/// The canonical text: keys in the order of their UTF-16 code units, numbers as ECMAScript prints
/// them, no white space.
///
/// # Errors
/// [`TooDeep`].
pub fn canonical(value: &Value) -> Result<String, TooDeep> {
    let mut out = String::new();
    write(value, MAX_DEPTH, &mut out)?;
    Ok(out)
}

fn write(value: &Value, depth: usize, out: &mut String) -> Result<(), TooDeep> {
    let inner = depth.checked_sub(1).ok_or(TooDeep);
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => number_text(number, out),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            let inner = inner?;
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                if 0 < n {
                    out.push(',');
                }
                write(item, inner, out)?;
            }
            out.push(']');
        }
        Value::Object(map) => {
            let inner = inner?;
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (n, (key, item)) in entries.into_iter().enumerate() {
                if 0 < n {
                    out.push(',');
                }
                string(key, out);
                out.push(':');
                write(item, inner, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn number_text(number: &Number, out: &mut String) {
    match number.as_f64() {
        Some(double) if number.is_f64() => double_text(double, out),
        _ => {
            let _ = write!(out, "{number}");
        }
    }
}

/// ECMAScript's `Number::toString` for finite numbers; JSON has no others.
fn double_text(double: f64, out: &mut String) {
    if double == 0.0 {
        return out.push('0'); // Also minus zero.
    }
    if double < 0.0 {
        out.push('-');
    }
    // Rust prints the shortest digits that read back as the same double, which is what ECMAScript
    // asks for; only the layout differs.
    let text = format!("{:e}", double.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    // The value is 0.DIGITS times ten to the `point`.
    let point = exponent.parse::<i32>().unwrap_or(0).saturating_add(1);
    let zeros = |n: i32| "0".repeat(usize::try_from(n).unwrap_or(0));
    if count <= point && point <= 21 {
        out.push_str(&digits);
        out.push_str(&zeros(point - count));
    } else if 0 < point && point <= 21 {
        let (whole, rest) = digits.split_at(usize::try_from(point).unwrap_or(0));
        let _ = write!(out, "{whole}.{rest}");
    } else if -6 < point && point <= 0 {
        let _ = write!(out, "0.{}{digits}", zeros(-point));
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        let _ = write!(out, "{first}{dot}{rest}e{:+}", point - 1);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> String {
        canonical(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(
            of(
                r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],
                "string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
                "literals":[null,true,false]}"#
            ),
            "{\"literals\":[null,true,false],\
              \"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
              \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
        assert_eq!(
            of(
                r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#
            ),
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
              \"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\
              \"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
        );
    }

    #[test]
    fn the_numbers_of_the_rfc() {
        for (bits, text) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5557, "333333333.33333343"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
        ] {
            let value = Value::from(f64::from_bits(bits));
            assert_eq!(canonical(&value).unwrap(), text, "{bits:x}");
        }
    }

    #[test]
    fn one_value_has_one_text_and_two_have_two() {
        assert_eq!(of("[1.0, 1e0, 10e-1, 100E-2]"), "[1,1,1,1]");
        assert_ne!(of("9007199254740993"), of("9007199254740992"));
        assert_eq!(of("18446744073709551615"), "18446744073709551615");
        assert_ne!(of("1"), of("\"1\""));
        assert_ne!(of("{}"), of("null"));
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
        assert!(canonical(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(canonical(&nested(MAX_DEPTH + 1)), Err(TooDeep));
    }
}
