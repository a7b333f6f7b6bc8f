//! `edit` (contract 55 §9).

use crate::failure::{Failure, Result};
use crate::read::MAX_TEXT;
use crate::{ToolOutput, Workspace, file, input, path, write};

/// Largest file an edit may leave, bytes: replacing every `a` by a page must not fill the memory.
const MAX_RESULT: usize = 32 * 1024 * 1024;

/// Replaces one occurrence of a text, or all.
pub(crate) fn call(workspace: &Workspace, input: &input::Edit) -> Result<ToolOutput> {
    let input::Edit {
        old_string: old,
        new_string: new,
        ..
    } = input;
    let place = path::resolve(workspace, "edit", &input.file_path)?;
    place.writable("edit")?;
    if old.is_empty() {
        return Err(Failure::new("edit: old_string is required"));
    }
    let path = &place.written;
    let opened = file::open_file(&place).map_err(|e| place.failed("edit", &e))?;
    let Some((file, size)) = opened else {
        return Err(Failure::new(format!("edit: {path}: not a regular file")));
    };
    let too_large = |size: u64| {
        Failure::new(format!(
            "edit: {path} is {size} bytes, exceeds {MAX_TEXT}-byte limit. The edit tool loads the \
             whole file and cannot modify a file this large."
        ))
    };
    if size > MAX_TEXT {
        return Err(too_large(size));
    }
    let bytes = file::read_whole(file, MAX_TEXT).map_err(|e| place.failed("edit", &e))?;
    let text = String::from_utf8(bytes.map_err(too_large)?).map_err(|_| {
        Failure::new(format!(
            "edit: {path}: not valid UTF-8 text (cannot edit binary files)"
        ))
    })?;
    let (edited, count) = replace(&text, old, new, input.replace_all.unwrap_or_default(), path)?;
    write::put("edit", &place, edited.as_bytes())?;
    Ok(ToolOutput::text(format!(
        "edited {path} ({count} replacement(s))"
    )))
}

/// `text` with `old` replaced, and how often. `old` must not be empty.
fn replace(text: &str, old: &str, new: &str, all: bool, path: &str) -> Result<(String, usize)> {
    let found = text.matches(old).count();
    if found == 0 {
        return Err(Failure::new(format!(
            "edit: old_string not found in {path}"
        )));
    }
    if !all && found > 1 {
        return Err(Failure::new(format!(
            "edit: old_string appears {found} times in {path} (must be unique)"
        )));
    }
    // `found` occurrences do not overlap, so this cannot go below zero.
    let kept = text.len() - found * old.len();
    let result = new.len().saturating_mul(found).saturating_add(kept);
    if result > MAX_RESULT {
        return Err(Failure::new(format!(
            "edit: {path} would become {result} bytes, exceeds {MAX_RESULT}-byte limit."
        )));
    }
    Ok((text.replace(old, new), found))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_file_cannot_be_blown_up() {
        let text = "a".repeat(200_000);
        let refused = replace(&text, "a", &"b".repeat(1_000_000), true, "f").unwrap_err();
        assert_eq!(
            refused.0,
            "edit: f would become 200000000000 bytes, exceeds 33554432-byte limit."
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]
        #[test]
        fn counts_and_replaces_like_the_standard_library(
            text in "[ab\n$é]{0,30}", old in "[ab\n$é]{1,3}", new in "[ab\\\\$1é]{0,4}", all: bool,
        ) {
            let found = text.matches(&old).count();
            match replace(&text, &old, &new, all, "f") {
                Ok((edited, count)) => {
                    prop_assert_eq!(count, found);
                    prop_assert!(all || found == 1);
                    prop_assert_eq!(edited, text.split(&old).collect::<Vec<_>>().join(&new));
                }
                Err(_) => prop_assert!(found == 0 || (!all && found > 1)),
            }
        }
    }
}
