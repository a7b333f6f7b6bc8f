//! The hash that a definition is known by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest, Sha256};

use super::canonical::{TooDeep, canonical};
use crate::ToolDefinition;

/// SHA-256 of a definition in canonical form, as 64 hexadecimal digits. It covers all that the model
/// or a policy may go by: name, title, description, both schemas (with the `x-mcp-header`
/// annotations that stand in the input schema) and annotations; not icons, and not `_meta`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(String);

/// The text is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 lower-case hexadecimal digits")]
pub struct InvalidFingerprint;

impl Fingerprint {
    /// The fingerprint of `definition`.
    ///
    /// # Errors
    /// [`TooDeep`]: a schema or the annotations.
    pub fn of(definition: &ToolDefinition) -> Result<Self, TooDeep> {
        let covered = json!({
            "name": definition.name,
            "title": definition.title,
            "description": definition.description,
            "inputSchema": definition.input_schema,
            "outputSchema": definition.output_schema,
            "annotations": definition.annotations,
        });
        Ok(Self(sha256(&canonical(&covered)?)))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidFingerprint)
        }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = InvalidFingerprint;
    fn try_from(text: String) -> Result<Self, InvalidFingerprint> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.0
    }
}

/// What a confirmation is given for: this definition with these arguments, whatever the order of
/// their keys. A call whose binding differs was not confirmed.
///
/// # Errors
/// [`TooDeep`]: the arguments are, or they are no JSON.
pub fn binding(shown: &Fingerprint, arguments: &RawValue) -> Result<String, TooDeep> {
    let arguments: Value = serde_json::from_str(arguments.get()).map_err(|_| TooDeep)?;
    Ok(sha256(&format!("{shown}\n{}", canonical(&arguments)?)))
}

fn sha256(text: &str) -> String {
    freehold_base::hex::encode(Sha256::digest(text))
}
