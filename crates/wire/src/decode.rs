//! Reading of request bodies. Bodies are read by hand rather than by serde's derive: only so can an
//! error name the exact place (`tools.0.name: …`, also inside tagged unions, where serde loses it),
//! can unknown keys be refused, and can a left-out key be told from null.

use std::fmt;

use serde_json::{Map, Value};

mod value;

pub use value::{
    boolean, check_length, http_url, id, integer, list, one_of, reference, string, text,
};

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
            Some(key) => Err(self.at.key(key).error("Extra inputs are not permitted")),
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

/// `1 character`, `2 characters`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
