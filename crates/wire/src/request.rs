//! From the bytes of a request body to a typed request.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::ApiError;
use crate::decode::{At, Decode, echo};

/// Nested arrays and objects in a body. Half of what JSON readers commonly allow, so that a stored
/// part can be read back from inside a larger document.
pub const MAX_DEPTH: usize = 64;
/// JSON values in a body: bounds the memory that a body of brackets and commas can claim.
pub const MAX_VALUES: usize = 500_000;

/// A request body.
pub trait Request: Sized {
    /// Reads it from parsed JSON.
    ///
    /// # Errors
    /// What the contract refuses, naming the place.
    fn decode(value: Value, at: &At<'_>) -> Decode<Self>;
}

/// Reads a request body: UTF-8, JSON without duplicate keys, at most [`MAX_DEPTH`] deep and
/// [`MAX_VALUES`] long, then the rules of `T`.
///
/// # Errors
/// 400 naming the place and the rule; the input is echoed only in bounded pieces.
pub fn parse<T: Request>(body: &[u8]) -> Result<T, ApiError> {
    T::decode(json(body)?, &At::ROOT)
}

/// The same, for endpoints whose body may be absent: an empty body is read as `{}`.
///
/// # Errors
/// As [`parse`].
pub fn parse_or_empty<T: Request>(body: &[u8]) -> Result<T, ApiError> {
    if body.is_empty() {
        return T::decode(Value::Object(Map::new()), &At::ROOT);
    }
    parse(body)
}

/// The JSON of a body within the bounds of this module.
///
/// # Errors
/// 400.
pub fn json(body: &[u8]) -> Result<Value, ApiError> {
    let text = std::str::from_utf8(body).map_err(|e| {
        ApiError::invalid(format!(
            "The request body is not valid UTF-8 (at byte {}).",
            e.valid_up_to()
        ))
    })?;
    if text.trim_ascii().is_empty() {
        return Err(ApiError::invalid(
            "The request body is empty; a JSON object is expected.",
        ));
    }
    let budget = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_str(text);
    Bounded {
        depth: MAX_DEPTH,
        budget: &budget,
    }
    .deserialize(&mut reader)
    .and_then(|value| reader.end().map(|()| value))
    .map_err(|e| ApiError::invalid(format!("The request body is not valid JSON: {e}")))
}

/// Builds a [`Value`] within bounds, refusing duplicate keys.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    depth: usize,
    budget: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("more than {MAX_DEPTH} levels of nesting")))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        let left = self
            .budget
            .get()
            .checked_sub(1)
            .ok_or_else(|| de::Error::custom(format_args!("more than {MAX_VALUES} values")))?;
        self.budget.set(left);
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(de::Error::custom(format_args!(
                    "duplicate key `{}`",
                    echo(&key)
                )));
            }
            let value = entries.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}
