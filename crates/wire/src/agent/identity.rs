//! `execution_identity` (contract 10): stored as given, run as the service account only.

use serde_json::{Value, json};

use crate::decode::{At, Decode, Object, text};

/// Characters of a role's ARN.
const MAX_ARN: usize = 2048;

/// The identity of an agent that names none.
pub fn service_account() -> Value {
    json!({"type": "service_account"})
}

/// Reads an identity.
///
/// # Errors
/// It is none of the two forms.
pub fn identity(value: Value, at: &At<'_>) -> Decode<Value> {
    let mut o = Object::new(value, at)?;
    if o.tag(&["service_account", "aws_role"])? == "service_account" {
        o.finish()?;
        return Ok(service_account());
    }
    let arn = o.required("role_arn", |value, at| {
        let arn = text(1, MAX_ARN)(value, at)?;
        if arn.starts_with("arn:") && !arn.chars().any(|c| c.is_control() || c.is_whitespace()) {
            Ok(arn)
        } else {
            Err(at.error("Input should be an IAM role ARN"))
        }
    })?;
    o.finish()?;
    Ok(json!({"type": "aws_role", "role_arn": arn}))
}
