//! Where blobs are kept, if not in the data directory.

use freehold_base::IdSource;
use freehold_store::{BlobError, BlobStore, ObjectBlobs, StorageCause};

use crate::config::{self, Settings};
use crate::exit::Failure;

/// The object storage that is set, once it has been tried; `None` if blobs stay in the data
/// directory.
///
/// # Errors
/// It cannot be used; says what is wrong with it.
pub(super) async fn open(
    settings: &Settings,
    ids: &IdSource,
) -> Result<Option<Box<dyn BlobStore>>, Failure> {
    let Some(blobs) = probed(settings, ids).await? else {
        return Ok(None);
    };
    let spool = settings.spool();
    std::fs::create_dir_all(&spool)
        .map_err(|e| Failure::failed(format!("cannot make {}: {e}", spool.display())))?;
    Ok(Some(Box::new(blobs)))
}

/// As [`open`], but leaves the data directory alone.
///
/// # Errors
/// As there.
pub(in crate::commands) async fn probed(
    settings: &Settings,
    ids: &IdSource,
) -> Result<Option<ObjectBlobs>, Failure> {
    let (Some(place), Some(storage)) = (&settings.storage, config::object_storage(settings)?)
    else {
        return Ok(None);
    };
    let failed = |error: BlobError| {
        let what = format!("files cannot be kept in {}", place.url);
        let failure = Failure::because(&what, &error);
        match hint(&error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let blobs = ObjectBlobs::new(storage, ids.clone()).map_err(failed)?;
    blobs.probe().await.map_err(failed)?;
    Ok(Some(blobs))
}

fn hint(error: &BlobError) -> Option<&'static str> {
    let BlobError::Storage { source, .. } = error else {
        return None;
    };
    match source {
        StorageCause::NoBucket => Some("make the bucket, or correct storage.blobs"),
        StorageCause::Refused { .. } => {
            Some("check the credentials, and that they may put, get, list and delete objects there")
        }
        StorageCause::Unreachable { .. } | StorageCause::TimedOut => {
            Some("check storage.endpoint, and that it can be reached from here")
        }
        StorageCause::Redirected => Some("check storage.region and storage.endpoint"),
        _ => None,
    }
}
