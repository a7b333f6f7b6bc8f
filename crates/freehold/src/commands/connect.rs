//! The client of client commands, and reading what servers answer.

use freehold_base::Secret;
use freehold_client::{Client, Options};
use serde_json::Value;

use crate::cli::Connection;
use crate::environment;
use crate::exit::{Exit, Failure};

/// A client for the server at FREEHOLD_URL with the key in FREEHOLD_API_KEY.
///
/// # Errors
/// There is no key, or the URL cannot be used.
pub(super) fn client(connection: &Connection) -> Result<Client, Failure> {
    let key: Secret<String> = environment::secret("FREEHOLD_API_KEY")?.ok_or_else(|| {
        Failure::new(Exit::NotAllowed, "FREEHOLD_API_KEY is not set").hint(
            "use the key the server printed on its first start, or one of `freehold keys create`",
        )
    })?;
    Ok(Client::new(Options::new(&connection.url, key))?)
}

/// A string field; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// An id as the server gave it.
///
/// # Errors
/// There is none.
pub(super) fn id(value: &Value) -> Result<String, Failure> {
    match text(value, "/id") {
        "" => Err(Failure::failed("the server's answer has no id")),
        id => Ok(id.to_owned()),
    }
}

/// Whole cents as dollars.
pub(super) fn dollars(cents: &str) -> String {
    match cents.parse::<u64>() {
        Ok(cents) => format!("${}.{:02}", cents / 100, cents % 100),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cents_are_shown_as_dollars() {
        assert_eq!(
            ["0", "7", "12345", "", "x"].map(dollars),
            ["$0.00", "$0.07", "$123.45", "unknown", "unknown"]
        );
    }
}
