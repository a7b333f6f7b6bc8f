//! Errors with what caused them.

use std::error::Error;

/// An error and its causes in one line, for people. An error's own text does not repeat its source's.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
