//! Whether the links between the project's documents lead somewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::run::read;

/// Checks every Markdown file at the root and in `docs/`.
///
/// # Errors
/// Names each link that leads nowhere.
pub fn check() -> Result<()> {
    let mut broken = Vec::new();
    let mut links = 0;
    for file in documents()? {
        let text = read(&file)?;
        for link in relative_links(&text) {
            links += 1;
            let target = file.parent().unwrap_or(Path::new(".")).join(&link);
            if !target.exists() {
                let name = file.strip_prefix(paths::root()).unwrap_or(&file);
                broken.push(format!("{}: {link}", name.display()));
            }
        }
    }
    if !broken.is_empty() {
        bail!("links that lead nowhere:\n{}", broken.join("\n"));
    }
    println!("    {links} links lead somewhere");
    Ok(())
}

fn documents() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in [paths::root().to_owned(), paths::root().join("docs")] {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Targets of `[text](target)` that are files of ours, without their `#part`.
fn relative_links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (i, _) in line.match_indices("](") {
            let Some(target) = line[i + 2..].split(')').next() else {
                continue;
            };
            let target = target.split('#').next().unwrap_or("");
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::relative_links;

    #[test]
    fn links_are_found() {
        let text = "see [a](docs/a.md#part) and [b](https://example.com/b) and [c](#here)\n\
                    ```\nnot [d](d.md)\n```\n[e](e.md), [f](../f)";
        assert_eq!(relative_links(text), ["docs/a.md", "e.md", "../f"]);
    }
}
