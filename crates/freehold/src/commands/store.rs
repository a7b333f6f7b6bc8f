//! A server's store, as commands reach it without its server.

use freehold_base::IdSource;
use freehold_store::{BlobStore, ObjectBlobs, Store, StoreError};

use crate::cli::StoreArgs;
use crate::config::{self, ServeFlags, Settings};
use crate::exit::{Exit, Failure};

/// The settings of the server.
///
/// # Errors
/// They cannot be used.
pub(super) fn settings(args: StoreArgs) -> Result<Settings, Failure> {
    Settings::load(&ServeFlags {
        data_dir: args.data_dir,
        config: args.config,
        ..ServeFlags::default()
    })
}

/// Opens a server's store for reading, whether or not the server runs.
///
/// # Errors
/// There is none, or it cannot be used.
pub(super) async fn reading(settings: &Settings, ids: &IdSource) -> Result<Store, Failure> {
    let (dir, mut place) = (settings.data_dir.clone(), config::place(settings)?);
    if place.database.is_none() && !dir.is_dir() {
        return Err(Failure::new(
            Exit::NotFound,
            format!("there is no data directory {}", dir.display()),
        ));
    }
    place.blobs = object_storage(settings, ids)?;
    let ids = ids.clone();
    super::blocking(move || Store::open_reading(&dir, place, ids))
        .await?
        .map_err(failed)
}

/// The object storage that is set; it is not tried.
///
/// # Errors
/// Its settings cannot be used.
pub(super) fn object_storage(
    settings: &Settings,
    ids: &IdSource,
) -> Result<Option<Box<dyn BlobStore>>, Failure> {
    let Some(storage) = config::object_storage(settings)? else {
        return Ok(None);
    };
    let blobs = ObjectBlobs::new(storage, ids.clone());
    let blobs = blobs.map_err(|e| Failure::because("the object storage cannot be used", &e))?;
    Ok(Some(Box::new(blobs)))
}

/// A failure of the store.
pub(super) fn failed(error: StoreError) -> Failure {
    match error {
        StoreError::InUse { .. } => {
            Failure::failed(error.to_string()).hint("stop the server first")
        }
        StoreError::SchemaBehind { .. } => Failure::failed(error.to_string()),
        error => Failure::because("the store cannot be used", &error),
    }
}
