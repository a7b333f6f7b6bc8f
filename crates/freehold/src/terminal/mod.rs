//! What people see. Text from models, tools and servers is hostile: it must not move the cursor,
//! set the title, reorder the line or ring the bell.

mod clean;
mod style;
mod table;
mod time;

pub(crate) use clean::{Cleaner, clean, clean_line};
pub(crate) use style::{Style, Styles};
pub(crate) use table::table;
pub(crate) use time::{age, seconds};

use std::io::Write;

use serde::Serialize;

use crate::exit::Failure;

/// Prints one JSON document.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::because("cannot write JSON", &e))?;
    print(&text)
}

/// Prints text and a line end.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
