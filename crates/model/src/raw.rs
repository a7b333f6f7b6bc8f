//! A JSON object whose top-level fields keep their order and their exact bytes.
//!
//! Request bodies and content blocks travel as this: signatures, cache prefixes and fields this
//! version knows nothing of must reach the provider as they came.

use std::fmt;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Ordered fields, each value as received. A key that occurs twice keeps its last value, so what
/// was checked is what is sent. `Debug` shows field names only, never content.
#[derive(Clone, Default)]
pub struct RawObject {
    fields: Vec<(String, Box<RawValue>)>,
}

/// The text was not one JSON object.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON object: {reason}")]
pub struct NotAnObject {
    /// What the parser said; quotes none of the text.
    reason: String,
}

impl RawObject {
    /// An object without fields.
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }
    /// Parses one JSON object.
    ///
    /// # Errors
    /// [`NotAnObject`] when the bytes are anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAnObject> {
        serde_json::from_slice(bytes).map_err(|e| NotAnObject {
            reason: format!("line {} column {}", e.line(), e.column()),
        })
    }
    /// The value of `key` as received.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.fields
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_ref())
    }
    /// The value of `key` read as `T`; `None` when absent, null or of another type.
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_str::<Option<T>>(self.get(key)?.get())
            .ok()
            .flatten()
    }
    /// Sets `key` in its place, or appends it.
    pub fn set_raw(&mut self, key: &str, value: Box<RawValue>) {
        match self.fields.iter_mut().find(|(k, _)| k == key) {
            Some((_, v)) => *v = value,
            None => self.fields.push((key.to_owned(), value)),
        }
    }
    /// Sets `key` to a value of our own.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.set_raw(key, to_raw(&value.into()));
    }
    /// Removes `key`; says whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.fields.len();
        self.fields.retain(|(k, _)| k != key);
        self.fields.len() != before
    }
    /// Fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.fields.iter().map(|(k, v)| (k.as_str(), v.as_ref()))
    }
    /// The object as one JSON text.
    pub fn to_raw(&self) -> Box<RawValue> {
        to_raw(self)
    }
}

/// Serializes a value that holds only strings, numbers, lists and string-keyed maps.
pub(crate) fn to_raw<T: Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    // Serialization fails only for non-string keys and failing `Serialize` impls; the callers of
    // this private helper have neither.
    serde_json::value::to_raw_value(value).expect("plain JSON data always serializes")
}

impl fmt::Debug for RawObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.fields.iter().map(|(k, _)| k))
            .finish()
    }
}

impl From<Map<String, Value>> for RawObject {
    fn from(map: Map<String, Value>) -> Self {
        let fields = map.into_iter().map(|(k, v)| (k, to_raw(&v))).collect();
        Self { fields }
    }
}

impl TryFrom<Value> for RawObject {
    type Error = NotAnObject;
    fn try_from(value: Value) -> Result<Self, NotAnObject> {
        match value {
            Value::Object(map) => Ok(map.into()),
            _ => Err(NotAnObject {
                reason: "another kind of value".into(),
            }),
        }
    }
}

impl Serialize for RawObject {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.fields.len()))?;
        for (key, value) in &self.fields {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawObject;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                let mut places = std::collections::HashMap::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    match places.get(&key) {
                        Some(&place) => {
                            let slot: &mut (String, Box<RawValue>) = &mut fields[place];
                            slot.1 = value;
                        }
                        None => {
                            places.insert(key.clone(), fields.len());
                            fields.push((key, value));
                        }
                    }
                }
                Ok(RawObject { fields })
            }
        }
        d.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_bytes() {
        let text = r#"{"z":1.0e2,"a":{"y":"\u00e9","x":18446744073709551616},"model":"m"}"#;
        let mut object = RawObject::parse(text.as_bytes()).unwrap();
        assert_eq!(object.to_raw().get(), text);
        object.set("model", "n");
        assert_eq!(object.to_raw().get(), text.replace("\"m\"", "\"n\""));
    }

    #[test]
    fn a_doubled_key_keeps_its_last_value() {
        let object = RawObject::parse(br#"{"model":"a","x":1,"model":"b"}"#).unwrap();
        assert_eq!(object.to_raw().get(), r#"{"model":"b","x":1}"#);
    }

    #[test]
    fn debug_shows_no_content() {
        let object = RawObject::parse(br#"{"system":"the plan"}"#).unwrap();
        assert_eq!(format!("{object:?}"), r#"{"system"}"#);
    }

    #[test]
    fn only_objects() {
        for text in ["[]", "3", "{", "", "{\"a\":1} x"] {
            assert!(RawObject::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(RawObject::try_from(serde_json::json!([1])).is_err());
    }
}
