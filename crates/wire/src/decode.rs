//! Reading of request bodies. Bodies are read by hand rather than by serde's derive: only so can an
//! error name the exact place (`tools.0.name: …`, also inside tagged unions, where serde loses it),
//! can unknown keys be refused, and can a left-out key be told from null.

use std::fmt;

use freehold_base::{Id, Kind};
use serde_json::{Map, Value};

use crate::{ApiError, Patch};

/// Characters of one key of the input that an error message repeats.
const MAX_ECHO: usize = 64;
/// Steps of a path that an error message spells out; deeper ones are cut from the front.
const MAX_STEPS: usize = 24;

/// The result of reading a part of a request; the error is always a 400 (or a 404 for a reference
/// that cannot exist).
pub type Decode<T> = Result<T, ApiError>;

/// Where in the body a value stands.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    up: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    /// The body itself.
    pub const ROOT: At<'static> = At {
        up: None,
        step: Step::Root,
    };
    /// The member of this name.
    pub const fn key(&'a self, key: &'a str) -> At<'a> {
        At {
            up: Some(self),
            step: Step::Key(key),
        }
    }
    /// The item of this index.
    pub const fn index(&'a self, index: usize) -> At<'a> {
        At {
            up: Some(self),
            step: Step::Index(index),
        }
    }
    /// A 400 that names this place.
    pub fn error(&self, message: impl fmt::Display) -> ApiError {
        match self.to_string() {
            path if path.is_empty() => ApiError::invalid(message.to_string()),
            path => ApiError::invalid(format!("{path}: {message}")),
        }
    }
}

impl fmt::Display for At<'_> {
    /// `tools.0.name`; empty for the body itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(here) = at {
            if !matches!(here.step, Step::Root) {
                steps.push(here.step);
            }
            at = here.up;
        }
        if MAX_STEPS < steps.len() {
            steps.truncate(MAX_STEPS);
            f.write_str("….")?;
        }
        for (n, step) in steps.iter().rev().enumerate() {
            if n != 0 {
                f.write_str(".")?;
            }
            match step {
                Step::Root => {}
                Step::Key(key) => f.write_str(&echo(key))?,
                Step::Index(index) => write!(f, "{index}")?,
            }
        }
        Ok(())
    }
}

/// A piece of the input fit for an error message: bounded, control characters escaped.
pub fn echo(text: &str) -> String {
    let mut out: String = text
        .chars()
        .take(MAX_ECHO)
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if text.chars().nth(MAX_ECHO).is_some() {
        out.push('…');
    }
    out
}

/// An object being taken apart key by key; what is left at the end is refused.
#[derive(Debug)]
pub struct Object<'a> {
    map: Map<String, Value>,
    at: &'a At<'a>,
}

impl<'a> Object<'a> {
    /// The value as an object.
    ///
    /// # Errors
    /// It is something else.
    pub fn new(value: Value, at: &'a At<'a>) -> Decode<Self> {
        match value {
            Value::Object(map) => Ok(Self { map, at }),
            _ => Err(at.error("Input should be an object")),
        }
    }
    /// Where the object stands.
    pub const fn at(&self) -> &'a At<'a> {
        self.at
    }
    /// A key that must be there.
    ///
    /// # Errors
    /// It is missing, or `read` refuses it.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value, &At<'_>) -> Decode<T>,
    ) -> Decode<T> {
        let at = self.at.key(key);
        match self.map.remove(key) {
            Some(value) => read(value, &at),
            None => Err(at.error("Field required")),
        }
    }
    /// A key that may be left out; null is passed to `read` like any value.
    ///
    /// # Errors
    /// `read` refuses it.
    pub fn present<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value, &At<'_>) -> Decode<T>,
    ) -> Decode<Option<T>> {
        let at = self.at.key(key);
        self.map.remove(key).map(|v| read(v, &at)).transpose()
    }
    /// A key that may be left out or null, both meaning the same.
    ///
    /// # Errors
    /// `read` refuses it.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value, &At<'_>) -> Decode<T>,
    ) -> Decode<Option<T>> {
        self.patch(key, read).map(|patch| match patch {
            Patch::Set(value) => Some(value),
            Patch::Keep | Patch::Clear => None,
        })
    }
    /// A key whose absence and whose null differ.
    ///
    /// # Errors
    /// `read` refuses it.
    pub fn patch<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(Value, &At<'_>) -> Decode<T>,
    ) -> Decode<Patch<T>> {
        let at = self.at.key(key);
        match self.map.remove(key) {
            None => Ok(Patch::Keep),
            Some(Value::Null) => Ok(Patch::Clear),
            Some(value) => read(value, &at).map(Patch::Set),
        }
    }
    /// The discriminator `type`, one of `tags`.
    ///
    /// # Errors
    /// It is missing, no string, or none of them.
    pub fn tag(&mut self, tags: &[&'static str]) -> Decode<&'static str> {
        self.required("type", |value, at| {
            let tag = string(value, at)?;
            tags.iter().copied().find(|t| *t == tag).ok_or_else(|| {
                at.error(format_args!(
                    "Input tag '{}' does not match any of the expected tags: {}",
                    echo(&tag),
                    quoted(tags)
                ))
            })
        })
    }
    /// A key that is tolerated and has no meaning.
    pub fn ignore(&mut self, key: &'static str) {
        self.map.remove(key);
    }
    /// Refuses the first key that nobody asked for.
    ///
    /// # Errors
    /// There is one.
    pub fn finish(self) -> Decode<()> {
        match self.map.keys().next() {
            Some(key) => Err(self
                .at
                .key(key)
                .error("Extra inputs are not permitted")),
            None => Ok(()),
        }
    }
}

/// `'a', 'b' or 'c'`.
pub fn quoted(names: &[&str]) -> String {
    let mut out = String::new();
    for (n, name) in names.iter().enumerate() {
        out.push_str(match n {
            0 => "",
            n if n + 1 == names.len() => " or ",
            _ => ", ",
        });
        out.push('\'');
        out.push_str(name);
        out.push('\'');
    }
    out
}

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

/// `1 character`, `2 characters`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
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
            Some(n) if max < n => Err(at.error(format_args!(
                "Input should be less than or equal to {max}"
            ))),
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
