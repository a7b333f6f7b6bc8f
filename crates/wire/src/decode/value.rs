//! Readers of single values: strings, numbers, lists, names, ids.

use freehold_base::{Id, Kind};
use serde_json::Value;

use super::{At, Decode, count, echo, quoted};
use crate::ApiError;

/// A string of any length.
///
/// # Errors
/// The value is no string.
pub fn string(value: Value, at: &At<'_>) -> Decode<String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(at.error("Input should be a valid string")),
    }
}

/// A string of `min` to `max` characters without U+0000, which no SQL text column holds.
pub fn text(min: usize, max: usize) -> impl Fn(Value, &At<'_>) -> Decode<String> {
    move |value, at| {
        let text = string(value, at)?;
        check_length(&text, min, max, at)?;
        if text.contains('\0') {
            return Err(at.error("String should not contain null characters"));
        }
        Ok(text)
    }
}

/// Checks a length in characters.
///
/// # Errors
/// It is out of bounds.
pub fn check_length(text: &str, min: usize, max: usize, at: &At<'_>) -> Decode<()> {
    // A character has one to four bytes, so most strings are settled without counting.
    let fits_min = min == 0 || min * 4 <= text.len() || min <= text.chars().count();
    if !fits_min {
        return Err(at.error(format_args!(
            "String should have at least {}",
            count(min, "character")
        )));
    }
    if max < text.len() && max < text.chars().count() {
        return Err(at.error(format_args!(
            "String should have at most {}",
            count(max, "character")
        )));
    }
    Ok(())
}

/// true or false.
///
/// # Errors
/// The value is neither.
pub fn boolean(value: Value, at: &At<'_>) -> Decode<bool> {
    match value {
        Value::Bool(b) => Ok(b),
        _ => Err(at.error("Input should be a valid boolean")),
    }
}

/// An integer within bounds.
pub fn integer(min: u64, max: u64) -> impl Fn(Value, &At<'_>) -> Decode<u64> {
    move |value, at| {
        let Value::Number(number) = &value else {
            return Err(at.error("Input should be a valid integer"));
        };
        if number.is_f64() {
            return Err(at.error("Input should be a valid integer"));
        }
        match number.as_u64() {
            Some(n) if max < n => {
                Err(at.error(format_args!("Input should be less than or equal to {max}")))
            }
            Some(n) if min <= n => Ok(n),
            _ => Err(at.error(format_args!(
                "Input should be greater than or equal to {min}"
            ))),
        }
    }
}

/// An array of `min` to `max` items, each read by `read`. The bounds hold before any item is read.
pub fn list<T>(
    min: usize,
    max: usize,
    mut read: impl FnMut(Value, &At<'_>) -> Decode<T>,
) -> impl FnMut(Value, &At<'_>) -> Decode<Vec<T>> {
    move |value, at| {
        let Value::Array(items) = value else {
            return Err(at.error("Input should be a valid list"));
        };
        if items.len() < min {
            return Err(at.error(format_args!(
                "List should have at least {}",
                count(min, "item")
            )));
        }
        if max < items.len() {
            return Err(at.error(format_args!(
                "List should have at most {}, not {}",
                count(max, "item"),
                items.len()
            )));
        }
        items
            .into_iter()
            .enumerate()
            .map(|(n, item)| read(item, &at.index(n)))
            .collect()
    }
}

/// One of a closed set of names.
pub fn one_of<T: Copy>(
    names: &'static [(&'static str, T)],
) -> impl Fn(Value, &At<'_>) -> Decode<T> {
    move |value, at| {
        if let Value::String(text) = &value
            && let Some((_, found)) = names.iter().find(|(name, _)| name == text)
        {
            return Ok(*found);
        }
        let expected: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        Err(at.error(format_args!("Input should be {}", quoted(&expected))))
    }
}

/// A reference to a resource named `noun`. Text with the right prefix that cannot be one of our ids
/// names a resource that does not exist: 404. Anything else is no id of this kind: 400.
pub fn reference<K: Kind>(noun: &'static str) -> impl Fn(Value, &At<'_>) -> Decode<Id<K>> {
    move |value, at| {
        let text = string(value, at)?;
        text.parse().map_err(|error| {
            let prefixed = text
                .strip_prefix(K::PREFIX)
                .is_some_and(|rest| rest.starts_with('_'));
            if prefixed {
                ApiError::not_found(noun, &echo(&text))
            } else {
                at.error(error)
            }
        })
    }
}

/// An id that the request only makes sense with; malformed text is a 400.
///
/// # Errors
/// The value is no id of this kind.
pub fn id<K: Kind>(value: Value, at: &At<'_>) -> Decode<Id<K>> {
    string(value, at)?.parse().map_err(|e| at.error(e))
}

/// An `http` or `https` URL of at most `max` characters with a host and without user info.
pub fn http_url(max: usize) -> impl Fn(Value, &At<'_>) -> Decode<String> {
    move |value, at| {
        let url = text(1, max)(value, at)?;
        let lower = url.get(..8).unwrap_or(&url).to_ascii_lowercase();
        let rest = if lower.starts_with("https://") {
            url.get(8..)
        } else if lower.starts_with("http://") {
            url.get(7..)
        } else {
            None
        };
        let authority = rest.and_then(|r| r.split(['/', '?', '#', '\\']).next());
        if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(at.error("URL should not contain whitespace or control characters"));
        }
        match authority {
            None => Err(at.error("URL scheme should be 'http' or 'https'")),
            Some("") => Err(at.error("URL should have a host")),
            Some(a) if a.starts_with(':') => Err(at.error("URL should have a host")),
            Some(a) if a.contains('@') => Err(at.error("URL should not contain credentials")),
            Some(_) => Ok(url),
        }
    }
}
