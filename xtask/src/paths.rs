//! Where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The workspace root.
pub fn root() -> &'static Path {
    // The manifest directory always has a parent: it is a member of the workspace.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

/// Where cargo puts programs of the dev profile: beside this one.
pub fn bin_dir() -> Result<PathBuf> {
    let me = std::env::current_exe().context("cannot tell where xtask itself is")?;
    Ok(me.parent().context("xtask is in no folder")?.to_owned())
}

/// The dev build of the product.
pub fn freehold() -> Result<PathBuf> {
    Ok(bin_dir()?.join("freehold"))
}

/// What xtask sets up for itself, below the target folder.
pub fn own() -> Result<PathBuf> {
    let dir = bin_dir()?
        .parent()
        .context("no target folder")?
        .join("xtask");
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}
