//! Metadata bags (contract 00 §7): 16 pairs, keys of 1 to 64 characters, string values of at most
//! 512. A bag that breaks a limit is refused with `details.error_code` `invalid_metadata`.

use std::collections::BTreeMap;

use freehold_base::limits::{MAX_METADATA_KEY, MAX_METADATA_PAIRS, MAX_METADATA_VALUE};
use serde_json::Value;

use crate::ApiError;
use crate::agent::Metadata;
use crate::decode::{At, Decode, string};

/// Pairs of one patch: a whole bag replaced, key by key, with room to spare.
const MAX_PATCH: usize = 4 * MAX_METADATA_PAIRS;

/// The bag of a create request.
///
/// # Errors
/// It is no object of strings or breaks a limit.
pub fn bag(value: Value, at: &At<'_>) -> Decode<Metadata> {
    let Value::Object(map) = value else {
        return Err(at.error("Input should be an object"));
    };
    check_pairs(map.len(), at)?;
    map.into_iter()
        .map(|(key, value)| {
            let value = pair(&key, value, at)?;
            Ok((key, value))
        })
        .collect()
}

/// A change to a bag: a value sets its key, `None` deletes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetadataPatch(pub BTreeMap<String, Option<String>>);

/// The bag of an update request.
///
/// # Errors
/// It is no object of strings and nulls or breaks a limit.
pub fn patch(value: Value, at: &At<'_>) -> Decode<MetadataPatch> {
    let Value::Object(map) = value else {
        return Err(at.error("Input should be an object"));
    };
    if MAX_PATCH < map.len() {
        return Err(limit(at.error(format_args!(
            "Object should have at most {MAX_PATCH} keys"
        ))));
    }
    map.into_iter()
        .map(|(key, value)| {
            let value = match value {
                Value::Null => None,
                value => Some(pair(&key, value, at)?),
            };
            Ok((key, value))
        })
        .collect::<Decode<_>>()
        .map(MetadataPatch)
}

impl MetadataPatch {
    /// The stored bag with this change.
    ///
    /// # Errors
    /// The result has too many pairs.
    pub fn apply(&self, stored: &Metadata) -> Decode<Metadata> {
        let mut bag = stored.clone();
        for (key, value) in &self.0 {
            match value {
                Some(value) => bag.insert(key.clone(), value.clone()),
                None => bag.remove(key),
            };
        }
        check_pairs(bag.len(), &At::ROOT.key("metadata"))?;
        Ok(bag)
    }
    /// The same change with empty values read as deletions (environments, contract 20).
    pub fn empty_deletes(mut self) -> Self {
        for value in self.0.values_mut() {
            value.take_if(|v| v.is_empty());
        }
        self
    }
}

fn pair(key: &str, value: Value, at: &At<'_>) -> Decode<String> {
    let keys = key.chars().count();
    if keys == 0 || MAX_METADATA_KEY < keys {
        return Err(limit(at.key(key).error(format_args!(
            "Metadata keys should have 1 to {MAX_METADATA_KEY} characters"
        ))));
    }
    let at = at.key(key);
    let value = string(value, &at)?;
    if MAX_METADATA_VALUE < value.chars().count() {
        return Err(limit(at.error(format_args!(
            "Metadata values should have at most {MAX_METADATA_VALUE} characters"
        ))));
    }
    Ok(value)
}

fn check_pairs(pairs: usize, at: &At<'_>) -> Decode<()> {
    if MAX_METADATA_PAIRS < pairs {
        return Err(limit(at.error(format_args!(
            "Metadata should have at most {MAX_METADATA_PAIRS} pairs, not {pairs}"
        ))));
    }
    Ok(())
}

fn limit(error: ApiError) -> ApiError {
    error.with_code("invalid_metadata")
}
