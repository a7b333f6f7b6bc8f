//! `freehold backup` and `freehold restore`, for SQLite.

use std::path::Path;

use freehold_store::backup::{self, Backup, BackupError};
use serde_json::json;

use super::store::{failed, settings};
use crate::cli::{BackupArgs, Output, RestoreArgs};
use crate::config::{self, Settings};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Copies a data directory.
pub(crate) async fn backup(args: BackupArgs) -> Result<Exit, Failure> {
    let settings = settings(args.store)?;
    let place = config::place(&settings)?;
    if place.database.is_some() {
        return Err(
            Failure::usage("this backs up SQLite, and database_url is set")
                .hint("back PostgreSQL up with its own tools: see docs/backup.md"),
        );
    }
    let (dir, dest) = (settings.data_dir.clone(), args.dest.clone());
    if !dir.join("freehold.db").exists() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no database in {}", dir.display()),
        ));
    }
    let blobs = settings.storage.is_none();
    let key = place.keys.is_none() && !args.without_key;
    let made = super::blocking(move || backup::backup(&dir, &dest, blobs, key));
    let made = made.await?.map_err(refused)?;
    show("backed up to", &args.dest, &made, &settings, args.output)
}

/// Makes a data directory of a copy.
pub(crate) async fn restore(args: RestoreArgs) -> Result<Exit, Failure> {
    let settings = settings(args.store)?;
    let (src, dir) = (args.src, settings.data_dir.clone());
    let made = super::blocking(move || backup::restore(&src, &dir));
    let made = made.await?.map_err(refused)?;
    show(
        "restored to",
        &settings.data_dir,
        &made,
        &settings,
        args.output,
    )
}

fn show(
    did: &str,
    to: &Path,
    made: &Backup,
    settings: &Settings,
    output: Output,
) -> Result<Exit, Failure> {
    let Backup {
        database,
        blobs,
        key,
        master_keys,
    } = made;
    if output.json {
        terminal::print_json(&json!({
            "path": to, "database": { "bytes": database },
            "blobs": blobs.map(|(count, bytes)| json!({ "count": count, "bytes": bytes })),
            "key": key, "master_keys": master_keys,
        }))?;
        return Ok(Exit::Ok);
    }
    terminal::print(&format!("{did} {}", to.display()))?;
    terminal::print(&format!("  database   {database} bytes"))?;
    terminal::print(&match (blobs, &settings.storage) {
        (Some((count, bytes)), _) => format!("  files      {count}, {bytes} bytes"),
        (None, Some(storage)) => format!("  files      not in it: they are in {}", storage.url),
        (None, None) => "  files      not in it: they are in object storage".to_owned(),
    })?;
    terminal::print(match (key, master_keys.is_empty()) {
        (true, _) => "  keys       in it: whoever has it can read every stored secret",
        (false, true) => "  keys       not in it, and no stored secret needs one",
        (false, false) => "  keys       not in it: stored secrets need the master keys, kept apart",
    })?;
    Ok(Exit::Ok)
}

fn refused(error: BackupError) -> Failure {
    match error {
        BackupError::Store(error) => failed(error),
        BackupError::NotEmpty { .. } => {
            Failure::failed(error.to_string()).hint("name a directory that is not there yet")
        }
        BackupError::Damaged { .. } | BackupError::Unknown { .. } => {
            Failure::failed(error.to_string()).hint("use another backup")
        }
        BackupError::Restless => Failure::failed(error.to_string()).hint("try again"),
    }
}
