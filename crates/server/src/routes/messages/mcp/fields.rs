//! Fields of a request, with their places in errors, which never repeat a value.

use freehold_model::RawObject;
use freehold_wire::ApiError;
use serde_json::value::RawValue;

/// 400 at a place.
pub(super) fn wrong(at: &str, why: &str) -> ApiError {
    ApiError::invalid(format!("{at}: {why}"))
}

pub(super) fn extra(at: &str) -> ApiError {
    wrong(at, "Extra inputs are not permitted")
}

/// An object at a place.
///
/// # Errors
/// 400.
pub(super) fn object(raw: &RawValue, at: &str) -> Result<RawObject, ApiError> {
    RawObject::parse(raw.get().as_bytes()).map_err(|_| wrong(at, "expected an object"))
}

/// A string of an object.
///
/// # Errors
/// 400.
pub(super) fn text(fields: &RawObject, at: &str, key: &str) -> Result<String, ApiError> {
    let place = format!("{at}.{key}");
    optional(fields, at, key, "a string")?.ok_or_else(|| wrong(&place, "Field required"))
}

pub(super) fn optional<T: serde::de::DeserializeOwned>(
    fields: &RawObject,
    at: &str,
    key: &str,
    what: &str,
) -> Result<Option<T>, ApiError> {
    let Some(value) = fields.get(key) else {
        return Ok(None);
    };
    serde_json::from_str(value.get())
        .map_err(|_| wrong(&format!("{at}.{key}"), &format!("expected {what}")))
}

/// An array of an object, or none.
///
/// # Errors
/// 400.
pub(super) fn list(
    fields: &RawObject,
    key: &str,
    at: &str,
) -> Result<Option<Vec<Box<RawValue>>>, ApiError> {
    let Some(value) = fields.get(key) else {
        return Ok(None);
    };
    serde_json::from_str(value.get()).map_err(|_| wrong(at, "expected an array"))
}

pub(super) fn known(fields: &RawObject, at: &str, keys: &[&str]) -> Result<(), ApiError> {
    match fields.iter().find(|(key, _)| !keys.contains(key)) {
        None => Ok(()),
        Some((key, _)) => {
            let shown: String = key.chars().filter(|c| !c.is_control()).take(80).collect();
            Err(extra(&format!("{at}.{shown}")))
        }
    }
}
