//! The front matter of SKILL.md (contract 70 §4): YAML of which two keys count.

use freehold_base::limits::{MAX_SKILL_DESCRIPTION, MAX_SKILL_NAME};
use saphyr_parser::{Event, Parser, ScalarStyle};

use super::SKILL_MD;
use crate::ApiError;

/// Bytes of front matter.
const MAX_FRONT_MATTER: usize = 64 * 1024;
/// Words a name must not hold.
const RESERVED: [&str; 2] = ["anthropic", "claude"];

/// What a SKILL.md says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// 1 to 64 of `[a-z0-9-]`.
    pub name: String,
    /// 1 to 1024 characters.
    pub description: String,
}

impl Manifest {
    /// Reads the beginning of a SKILL.md.
    ///
    /// # Errors
    /// 400 that says what is missing or wrong.
    pub fn parse(file: &[u8]) -> Result<Self, ApiError> {
        let (mut name, mut description) = (None, None);
        for (key, value) in pairs(front_matter(file)?)? {
            let place = match key.as_str() {
                "name" => &mut name,
                "description" => &mut description,
                _ => continue,
            };
            if place.is_some() {
                return Err(error(format_args!("`{key}` is given twice")));
            }
            let value = value.ok_or_else(|| error(format_args!("`{key}` should be a text")))?;
            *place = Some(value);
        }
        let required = |key: &str, value: Option<String>| {
            value
                .map(|v| v.trim().to_owned())
                .filter(|v| !v.is_empty())
                .ok_or_else(|| error(format_args!("`{key}` is required in the front matter")))
        };
        let manifest = Self {
            name: required("name", name)?,
            description: required("description", description)?,
        };
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ApiError> {
        let Self { name, description } = self;
        if MAX_SKILL_NAME < name.chars().count() {
            return Err(error(format_args!(
                "`name` should have at most {MAX_SKILL_NAME} characters"
            )));
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !name.chars().all(allowed) {
            return Err(error(
                "`name` should hold only lower-case letters, digits and hyphens",
            ));
        }
        if let Some(word) = RESERVED.iter().find(|word| name.contains(**word)) {
            return Err(error(format_args!("`name` should not contain \"{word}\"")));
        }
        if MAX_SKILL_DESCRIPTION < description.chars().count() {
            return Err(error(format_args!(
                "`description` should have at most {MAX_SKILL_DESCRIPTION} characters"
            )));
        }
        if has_tag(description) {
            return Err(error("`description` should not contain XML tags"));
        }
        Ok(())
    }
}

fn error(message: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(format!("{SKILL_MD}: {message}"))
}

/// The lines between the first `---` and the next.
fn front_matter(file: &[u8]) -> Result<&str, ApiError> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let missing = || error("should begin with YAML front matter between lines of `---`");
    let mut end = None;
    let mut at = 0;
    for line in file.split_inclusive(|b| *b == b'\n') {
        let is_fence = line.trim_ascii_end() == b"---";
        match (at, is_fence) {
            (0, false) => return Err(missing()),
            (0, true) => {}
            (_, true) => {
                end = Some(at);
                break;
            }
            _ => {}
        }
        at += line.len();
        if MAX_FRONT_MATTER < at {
            return Err(error(format_args!(
                "the front matter is longer than {MAX_FRONT_MATTER} bytes"
            )));
        }
    }
    let inner = &file[..end.ok_or_else(missing)?];
    let start = inner.iter().position(|b| *b == b'\n').map_or(0, |n| n + 1);
    std::str::from_utf8(&inner[start..]).map_err(|_| error("the front matter is not valid UTF-8"))
}

/// The mapping's own keys, each with its value if that is a text. Read event by event, so that
/// aliases are never expanded.
fn pairs(yaml: &str) -> Result<Vec<(String, Option<String>)>, ApiError> {
    let broken = || error("the front matter is not valid YAML");
    let mut pairs: Vec<(String, Option<String>)> = Vec::new();
    // A key that waits for its value; nested structures are stepped over by their depth.
    let (mut key, mut depth, mut seen) = (None, 0usize, false);
    for event in Parser::new_from_str(yaml) {
        let (event, _) = event.map_err(|_| broken())?;
        let item = match event {
            Event::MappingStart(..) if depth == 0 && !seen => {
                (depth, seen) = (1, true);
                continue;
            }
            Event::Scalar(..) | Event::SequenceStart(..) if depth == 0 => {
                return Err(error("the front matter should be a YAML mapping"));
            }
            Event::MappingStart(..) | Event::SequenceStart(..) => {
                depth += 1;
                match depth {
                    2 => None,
                    _ => continue,
                }
            }
            Event::MappingEnd | Event::SequenceEnd => {
                depth = depth.saturating_sub(1);
                continue;
            }
            _ if depth != 1 => continue,
            Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Some(String::new()),
            Event::Scalar(text, ..) => Some(text.into_owned()),
            Event::Alias(_) => None,
            _ => continue,
        };
        match key.take() {
            None => key = Some(item.unwrap_or_default()),
            Some(key) => pairs.push((key, item)),
        }
    }
    match seen {
        true => Ok(pairs),
        false => Err(error("the front matter should be a YAML mapping")),
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Whether something in the text could be taken for markup.
fn has_tag(text: &str) -> bool {
    text.match_indices('<').any(|(at, _)| {
        let rest = &text[at + 1..];
        let begins = rest.starts_with(|c: char| c.is_ascii_alphabetic() || "/!?".contains(c));
        begins && rest.contains('>')
    })
}
