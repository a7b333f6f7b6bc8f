//! Mount paths: absolute, normalised, under one root, never inside one another (contract 30).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::decode::{At, Decode, echo, text};

/// Where files are mounted.
pub const UPLOADS: &str = "/mnt/session/uploads";
/// Where memory stores are mounted.
pub const MEMORY: &str = "/mnt/memory";
/// Characters of a store's folder name; leaves room for what tells it from another.
const MAX_SLUG: usize = 200;
/// Where repositories are mounted.
pub(super) const WORKSPACE: &str = "/workspace";
/// Bytes of a mount path, as sent.
const MAX_PATH: usize = 1024;
/// Bytes of one component of a path; what file systems commonly allow.
pub(super) const MAX_COMPONENT: usize = 255;

/// Mount paths in use: no two may be equal, and none may lie inside another.
#[derive(Debug, Clone, Default)]
pub struct Mounts(BTreeSet<String>);

impl Mounts {
    /// The paths of resources that are already attached.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        Self(paths.into_iter().map(str::to_owned).collect())
    }
    /// Adds one.
    ///
    /// # Errors
    /// It collides with one that is there.
    pub fn add(&mut self, path: &str, at: &At<'_>) -> Decode<()> {
        let inside = |inner: &str, outer: &str| {
            inner
                .strip_prefix(outer)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let above = path
            .match_indices('/')
            .map(|(end, _)| &path[..end])
            .chain([path])
            .any(|prefix| self.0.contains(prefix));
        // Names that merely begin alike (`/a-b` after `/a`) may stand between `/a` and `/a/…`.
        let below = self
            .0
            .range(format!("{path}/")..)
            .next()
            .is_some_and(|next| inside(next, path));
        if above || below {
            return Err(at.error(format_args!(
                "`{}` collides with the mount path of another resource",
                echo(path)
            )));
        }
        self.0.insert(path.to_owned());
        Ok(())
    }
}

/// Where stores of these names are mounted, in their order: below [`MEMORY`], the name in lower case
/// with a hyphen for each run of other characters than ASCII letters and digits. A folder that is
/// taken gets `-2`, `-3`, … (contract 74 §4 leaves the suffix open).
pub fn memory_mounts<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    for slug in names.into_iter().map(slug) {
        let mut path = format!("{MEMORY}/{slug}");
        let mut n = 1;
        while taken.contains(&path) {
            n += 1;
            path = format!("{MEMORY}/{slug}-{n}");
        }
        taken.push(path);
    }
    taken
}

fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            slug.push(c);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(MAX_SLUG); // ASCII, so any byte is a boundary.
    slug
}

/// A mount path under `root`: as sent if it lies there already, else rooted there.
pub(super) fn mount_path(value: Value, at: &At<'_>, root: &str) -> Decode<String> {
    let path = text(1, MAX_PATH)(value, at)?;
    normalise(&path, root).map_err(|problem| at.error(problem))
}

/// Normalises an absolute path and roots it: repeated slashes and `.` vanish, `..` is refused.
///
/// # Errors
/// Says what is wrong with the path.
pub fn normalise(path: &str, root: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("Path should be absolute");
    }
    if MAX_PATH < path.len() {
        return Err("Path is too long");
    }
    if path.ends_with('/') {
        return Err("Path should name a file, not end in '/'");
    }
    if path.chars().any(char::is_control) {
        return Err("Path should not contain control characters");
    }
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err("Path should not contain '..'"),
            part if MAX_COMPONENT < part.len() => return Err("Path component is too long"),
            part => parts.push(part),
        }
    }
    let normal = format!("/{}", parts.join("/"));
    let inner = match normal.strip_prefix(root) {
        Some("") => "",
        Some(rest) if rest.starts_with('/') => rest,
        _ => &normal,
    };
    if inner.len() <= 1 {
        return Err("Path should name a place below the mount root");
    }
    Ok(format!("{root}{inner}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_stores_get_folders_of_their_names() {
        let long = "x".repeat(255);
        let names = [
            "Team Notes",
            "team  notes",
            "a-2",
            "A",
            "a",
            "Ä",
            "日本",
            "..",
            &long,
        ];
        let expected = [
            "team-notes",
            "team-notes-2",
            "a-2",
            "a",
            "a-3",
            "-",
            "--2",
            "--3",
            &"x".repeat(200),
        ];
        let expected = expected.map(|slug| format!("{MEMORY}/{slug}"));
        assert_eq!(memory_mounts(names), expected);
    }
}
