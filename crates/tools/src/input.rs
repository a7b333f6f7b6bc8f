//! Inputs of the tools (contract 55 §5): exactly these keys, `null` for an optional one as if it
//! were left out.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::failure::{Failure, Result};

/// Longest explanation of a bad input, characters; it can quote the input.
const MAX_EXPLANATION: usize = 300;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bash {
    pub(crate) command: Option<String>,
    pub(crate) restart: Option<bool>,
    /// Milliseconds; none and 0 mean the default.
    pub(crate) timeout_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Read {
    pub(crate) file_path: String,
    /// First and last line, from 1; a last line of 0 or less is the end of the file.
    pub(crate) view_range: Option<Vec<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Write {
    pub(crate) file_path: String,
    pub(crate) content: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    pub(crate) file_path: String,
    pub(crate) old_string: String,
    pub(crate) new_string: String,
    pub(crate) replace_all: Option<bool>,
}

/// Of `glob` and of `grep`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    pub(crate) pattern: String,
    pub(crate) path: Option<String>,
}

/// Reads the input of the tool `name`.
pub(crate) fn parse<T: DeserializeOwned>(name: &str, input: &RawValue) -> Result<T> {
    let bad = |why: String| {
        let why: String = why.chars().take(MAX_EXPLANATION).collect();
        Failure::new(format!("Invalid arguments for function {name}: {why}"))
    };
    // A derived struct would also read an array by position.
    if !input.get().trim_start().starts_with('{') {
        return Err(bad("expected an object".to_owned()));
    }
    serde_json::from_str(input.get()).map_err(|error| bad(error.to_string()))
}
