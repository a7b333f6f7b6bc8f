//! Query strings (contract 00 §1): arrays as `name[]=a` with raw or encoded brackets or as plain
//! repeats, nested keys as `created_at[gte]=…`. Keys nobody asks for (`beta`, …) are ignored.

use freehold_base::{Id, Kind, Timestamp};

use crate::ApiError;
use crate::decode::{echo, quoted};

/// Bytes of a query string.
const MAX_QUERY: usize = 64 * 1024;
/// Parameters of a query string.
const MAX_PARAMETERS: usize = 1000;

/// A decoded query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes a raw query string (without `?`).
    ///
    /// # Errors
    /// It is too long or not percent-encoded UTF-8.
    pub fn parse(raw: &str) -> Result<Self, ApiError> {
        if MAX_QUERY < raw.len() {
            return Err(ApiError::invalid(format!(
                "The query string is longer than {MAX_QUERY} bytes."
            )));
        }
        let mut pairs = Vec::new();
        for pair in raw.split('&').filter(|p| !p.is_empty()) {
            if MAX_PARAMETERS == pairs.len() {
                return Err(ApiError::invalid(format!(
                    "The query string has more than {MAX_PARAMETERS} parameters."
                )));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let mut key = unescape(key)?;
            if let Some(name) = key.strip_suffix("[]") {
                key.truncate(name.len());
            }
            pairs.push((key, unescape(value)?));
        }
        Ok(Self { pairs })
    }

    /// Whether the parameter was given.
    pub fn has(&self, key: &str) -> bool {
        self.pairs.iter().any(|(k, _)| k == key)
    }

    /// Every value of an array parameter, in order.
    pub fn list(&self, key: &str) -> Vec<&str> {
        self.pairs
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The value of a parameter that is no array.
    ///
    /// # Errors
    /// It is given more than once.
    pub fn one(&self, key: &str) -> Result<Option<&str>, ApiError> {
        let mut values = self.pairs.iter().filter(|(k, _)| k == key);
        let first = values.next().map(|(_, v)| v.as_str());
        if values.next().is_some() {
            return Err(error(key, "Given more than once"));
        }
        Ok(first)
    }

    /// A text parameter; empty counts as left out.
    ///
    /// # Errors
    /// It is given more than once.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        Ok(self.one(key)?.filter(|v| !v.is_empty()))
    }

    /// `true` or `false`; left out is false.
    ///
    /// # Errors
    /// It is anything else.
    pub fn boolean(&self, key: &str) -> Result<bool, ApiError> {
        match self.one(key)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(error(key, "Input should be 'true' or 'false'")),
        }
    }

    /// An integer within bounds.
    ///
    /// # Errors
    /// It is none, or out of bounds; the message names them.
    pub fn integer(&self, key: &str, min: u64, max: u64) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.one(key)? else {
            return Ok(None);
        };
        let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
        match text
            .parse()
            .ok()
            .filter(|n| digits && (min..=max).contains(n))
        {
            Some(n) => Ok(Some(n)),
            None if max == i64::MAX as u64 => Err(error(
                key,
                format_args!("Input should be an integer of at least {min}"),
            )),
            None => Err(error(
                key,
                format_args!("Input should be an integer from {min} to {max}"),
            )),
        }
    }

    /// `limit`: from 1 to the greatest page, or the default (see `freehold_base::limits::page`).
    ///
    /// # Errors
    /// It is out of bounds.
    pub fn limit(&self, (default, max): (usize, usize)) -> Result<usize, ApiError> {
        let limit = self.integer("limit", 1, max as u64)?;
        Ok(limit.map_or(default, |n| usize::try_from(n).unwrap_or(max)))
    }

    /// An RFC 3339 time.
    ///
    /// # Errors
    /// It is none.
    pub fn timestamp(&self, key: &str) -> Result<Option<Timestamp>, ApiError> {
        self.text(key)?
            .map(|text| {
                // A `+` of an offset that a client left unescaped has become a space.
                text.replace(' ', "+")
                    .parse()
                    .or_else(|_| text.parse())
                    .map_err(|_| error(key, "Input should be an RFC 3339 timestamp"))
            })
            .transpose()
    }

    /// An id.
    ///
    /// # Errors
    /// It is none of this kind.
    pub fn id<K: Kind>(&self, key: &str) -> Result<Option<Id<K>>, ApiError> {
        self.text(key)?
            .map(|text| text.parse().map_err(|e| error(key, e)))
            .transpose()
    }

    /// One of a closed set of names.
    ///
    /// # Errors
    /// It is none of them.
    pub fn one_of<T: Copy>(&self, key: &str, names: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        self.text(key)?
            .map(|text| pick(key, text, names))
            .transpose()
    }

    /// An array of a closed set of names; repeats count once.
    ///
    /// # Errors
    /// A value is none of them.
    pub fn many_of<T: Copy + PartialEq>(
        &self,
        key: &str,
        names: &[(&str, T)],
    ) -> Result<Vec<T>, ApiError> {
        let mut picked = Vec::new();
        for text in self.list(key) {
            let value = pick(key, text, names)?;
            if !picked.contains(&value) {
                picked.push(value);
            }
        }
        Ok(picked)
    }
}

fn pick<T: Copy>(key: &str, text: &str, names: &[(&str, T)]) -> Result<T, ApiError> {
    names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let expected: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            error(
                key,
                format_args!(
                    "Input should be {}, not '{}'",
                    quoted(&expected),
                    echo(text)
                ),
            )
        })
}

/// A 400 that names a parameter.
pub fn error(key: &str, message: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("{key}: {message}"))
}

fn unescape(text: &str) -> Result<String, ApiError> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = |n: usize| {
            bytes
                .get(at + n)
                .and_then(|&b| char::from(b).to_digit(16))
                .and_then(|d| u8::try_from(d).ok())
        };
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let (Some(high), Some(low)) = (hex(1), hex(2)) else {
                    return Err(ApiError::invalid(
                        "The query string holds an invalid percent escape.",
                    ));
                };
                out.push(high * 16 + low);
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).map_err(|_| ApiError::invalid("The query string is not valid UTF-8."))
}
