//! `freehold export` and `freehold import`: everything a store holds, from one engine to the other.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use freehold_base::IdSource;
use freehold_store::transfer::{self, Moved, TransferError};
use freehold_store::{NoListener, Place, Store};
use serde_json::json;

use super::store::{failed, object_storage, settings};
use crate::cli::{MoveArgs, Output};
use crate::config::{self, Settings};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Rows and blobs between two lines of progress.
const STEP: u64 = 50_000;

/// Writes a store to a file.
pub(crate) async fn export(args: MoveArgs) -> Result<Exit, Failure> {
    let (settings, ids) = (settings(args.store)?, IdSource::system());
    let place = place(&settings, &ids)?;
    let dir = settings.data_dir.clone();
    if place.database.is_none() && !dir.join("freehold.db").exists() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no database in {}", dir.display()),
        ));
    }
    let options = &mut OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    let file = options
        .open(&args.file)
        .map_err(|e| unusable(&args.file, &e))?;
    let open = move || Store::open_with(&dir, place, ids, Arc::new(NoListener));
    let moved = match super::blocking(open).await?.map_err(failed) {
        Ok(store) => {
            let file = std::io::BufWriter::new(file);
            let moved = transfer::export(&store, file, &mut progress()).await;
            store.close().await;
            moved.map_err(|e| refused(e, &settings))
        }
        Err(failure) => Err(failure),
    };
    if moved.is_err() {
        // Half of an export is none; the reason is told below.
        let _ = std::fs::remove_file(&args.file);
    }
    show("exported", &moved?, args.output)?;
    if !args.output.json {
        terminal::print(
            "secrets are sealed under the master keys of this server: bring them along",
        )?;
    }
    Ok(Exit::Ok)
}

/// Fills an empty store from a file.
pub(crate) async fn import(args: MoveArgs) -> Result<Exit, Failure> {
    let (settings, ids) = (settings(args.store)?, IdSource::system());
    let place = place(&settings, &ids)?;
    let mut file = File::open(&args.file).map_err(|e| unusable(&args.file, &e))?;
    let (dir, progress) = (&settings.data_dir, &mut progress());
    let moved = transfer::import(dir, place, ids, &mut file, progress).await;
    let moved = moved.map_err(|e| refused(e, &settings))?;
    show("imported", &moved, args.output)
}

fn place(settings: &Settings, ids: &IdSource) -> Result<Place, Failure> {
    let mut place = config::place(settings)?;
    place.blobs = object_storage(settings, ids)?;
    if place.blobs.is_some() {
        let spool = settings.spool();
        std::fs::create_dir_all(&spool).map_err(|e| unusable(&spool, &e))?;
    }
    Ok(place)
}

/// Says on standard error what is moved at present, and how much was.
fn progress() -> impl FnMut(&str, Moved) + Send {
    let (mut current, mut next) = (String::new(), STEP);
    move |what, moved| {
        let done = moved.rows + moved.blobs;
        if current != what || next <= done {
            eprintln!("{what}: {} rows, {} files so far", moved.rows, moved.blobs);
            what.clone_into(&mut current);
            next = done + STEP;
        }
    }
}

fn show(did: &str, moved: &Moved, output: Output) -> Result<Exit, Failure> {
    let Moved { rows, blobs, bytes } = moved;
    if output.json {
        terminal::print_json(&json!({ "rows": rows, "blobs": blobs, "bytes": bytes }))?;
    } else {
        let text = format!("{did} {rows} rows and {blobs} files of {bytes} bytes");
        terminal::print(&text)?;
    }
    Ok(Exit::Ok)
}

fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{} cannot be used: {error}", path.display()))
}

fn refused(error: TransferError, settings: &Settings) -> Failure {
    let hint = match &error {
        TransferError::InUse => "stop every server first".to_owned(),
        TransferError::NotEmpty { .. } => {
            "choose a data directory or a database with nothing in it".to_owned()
        }
        TransferError::Schema { .. } => "export and import with the same version".to_owned(),
        TransferError::Keys { .. } => format!(
            "copy secrets.key of the old data directory to {}, or set secrets.key_file",
            settings.data_dir.display()
        ),
        _ => String::new(),
    };
    let failure = match error {
        TransferError::Store(error) => failed(error),
        error => Failure::because("not everything was moved", &error),
    };
    if hint.is_empty() {
        failure
    } else {
        failure.hint(hint)
    }
}
