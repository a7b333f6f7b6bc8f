//! Inputs: exactly the keys of the schemas that models are shown.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::failure::{Code, Failure, Result};

/// Longest explanation of a bad input, characters; it can quote the input.
const MAX_EXPLANATION: usize = 300;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fetch {
    pub(crate) url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    pub(crate) query: String,
}

/// Reads the input of the tool `name`.
pub(crate) fn parse<T: DeserializeOwned>(name: &str, input: &RawValue) -> Result<T> {
    let bad = |why: &str| {
        let why: String = why.chars().take(MAX_EXPLANATION).collect();
        let detail = format!("Invalid arguments for function {name}: {why}");
        Failure::new(Code::InvalidToolInput, detail)
    };
    // A derived struct would also read an array by position.
    if !input.get().trim_start().starts_with('{') {
        return Err(bad("expected an object"));
    }
    serde_json::from_str(input.get()).map_err(|error| bad(&error.to_string()))
}
