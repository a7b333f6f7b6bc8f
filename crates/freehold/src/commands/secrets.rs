//! `freehold secrets`: on the data directory while no server runs, because a server would go on
//! with the keys it started with.

use std::path::Path;
use std::sync::Arc;

use freehold_base::IdSource;
use freehold_store::secrets::KEY_FILE;
use freehold_store::{Keyring, KeyringError, NoListener, RotateError, Store, StoreError};
use serde_json::json;

use crate::cli::SecretCommand;
use crate::config::{self, ServeFlags, Settings};
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Rotates the master key.
pub(crate) async fn secrets(command: SecretCommand) -> Result<Exit, Failure> {
    let SecretCommand::Rotate {
        data_dir,
        config,
        output,
    } = command;
    let settings = Settings::load(&ServeFlags {
        data_dir,
        config,
        ..ServeFlags::default()
    })?;
    let dir = &settings.data_dir;
    if !dir.is_dir() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no data directory {}", dir.display()),
        ));
    }
    let (moved, key) = match config::master_keys(&settings)? {
        None => rotate_own(dir).await?,
        Some(keys) => rotate_to(dir, keys).await?,
    };
    if output.json {
        terminal::print_json(&json!({ "rewrapped": moved, "master_key": key }))?;
    } else {
        terminal::print(&format!(
            "{moved} secrets are now under the master key {key}; older keys are no longer needed"
        ))?;
    }
    Ok(Exit::Ok)
}

/// At every moment the file holds each key that some secret needs.
async fn rotate_own(dir: &Path) -> Result<(usize, String), Failure> {
    let (ids, path) = (IdSource::system(), dir.join(KEY_FILE));
    // Takes the directory's lock, so that nobody else changes the file.
    let store = Store::open(dir, ids.clone(), Arc::new(NoListener)).map_err(failed)?;
    let keys = Keyring::load(&path).map_err(unusable)?.with_new(&ids);
    keys.save(&path).map_err(unusable)?;
    let moved = store.rewrap_secrets(&keys).await.map_err(stuck)?;
    keys.newest_only().save(&path).map_err(unusable)?;
    store.close().await;
    Ok((moved, keys.newest_id().to_owned()))
}

async fn rotate_to(dir: &Path, keys: Keyring) -> Result<(usize, String), Failure> {
    let (ids, given) = (IdSource::system(), Some(keys.clone()));
    let store = Store::open_with(dir, ids, Arc::new(NoListener), given, None).map_err(failed)?;
    let moved = store.rewrap_secrets(&keys).await.map_err(stuck)?;
    store.close().await;
    Ok((moved, keys.newest_id().to_owned()))
}

fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::InUse { .. } => {
            Failure::failed(error.to_string()).hint("stop the server first")
        }
        error => Failure::because("the data directory cannot be used", &error),
    }
}

fn unusable(error: KeyringError) -> Failure {
    Failure::because("the master keys cannot be used", &error)
}

fn stuck(error: RotateError) -> Failure {
    Failure::because("not every secret was moved", &error).hint(
        "keep the older keys; delete or update the credential, or bring its key back, and try again",
    )
}
